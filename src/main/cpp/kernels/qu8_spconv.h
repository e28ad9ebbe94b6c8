// What passes between a run of a sparse convolution of bytes and its micro-kernels. Plain data only,
// as in f32_spconv.h, whose words and plan are used here: a "channel" of the plan is a *quad*, four
// input channels that stand beside one another in the 32 bits of a lane, and an entry is the four
// weights of a quad, one tap and one output channel.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/f32_spconv.h"

namespace taco4j::qu8_spconv {

using f32_spconv::RowList;
using f32_spconv::kFirst;
using f32_spconv::kLast;

inline constexpr int kMostVectors = 28;  // of a tile, on any instruction set
inline constexpr int kMostLanes = 16;

// A row of a tile.
struct Line {
  std::int32_t source;       // bytes from the start of the flat tile
  std::int32_t destination;  // bytes from the tile's first pixel in the output plane
  std::int32_t length;
};

// (byte - zero_point) * scale
struct Grid {
  float scale;
  float zero_point;
};

// A quicker way to the byte of a sum with a residual, where there is one: (byte - zero point of the
// product) * product + residual byte * addend + constant, each product and sum rounded once, is rounded
// to (byte - zero point of the result), and is the same for all bytes.
struct AddFactors {
  bool known;
  float product, addend, constant;
};

struct TileArgs {
  RowList rows;  // its weights are four bytes each
  int groups;
  const std::uint32_t* panel;  // aligned
  std::int32_t* partial_sums;  // [output channels from first_row on, vectors * lanes], aligned
  std::int64_t first_row;
  bool keeps_sums;  // complete ones go to partial_sums, too, and what is below is not used
  const std::int32_t* first_sums;  // [output channels]
  const float* scales;             // [output channels]
  // The tile's first pixel in the plane of output channel 0; residual is null where nothing is added.
  std::uint8_t* output;
  const std::uint8_t* residual;
  std::int64_t plane;  // bytes from one output channel to the next
  const Line* lines;
  int line_count;  // 1 where the tile is as flat in the output
  // Of each vector of bytes of the flat tile, those that lie in lines; where the lines follow one
  // another in the output, else null.
  const std::uint64_t* kept_bytes;
  // Scaled sums may be beyond 32 bits.
  bool clamps;
  Grid product, addend, result;  // the latter two where something is added
  AddFactors add;
};

// How a vector of a panel is filled, the same for each quad: lanes from pixels that lie `stride` apart
// in a row of the image, in runs, and padding in the others.
struct PackRun {
  std::int64_t source;  // of lane 0, in bytes from the start of a channel's input plane; it may be
                        // outside of it, as long as lane 0 is not of the run
  std::uint32_t lanes;  // bits
};
struct PackVector {
  std::uint32_t lanes;  // bits of all runs
  std::int32_t first_run;
  std::int32_t runs;
};

struct PackArgs {
  const std::uint8_t* input;  // the plane of channel 0
  std::int64_t plane;         // bytes from one input channel to the next
  int quads_per_group;
  int channels_per_group;  // those that miss in the last quad of a group are multiplied by zeros
  std::uint32_t* panel;    // aligned
  int quad_stride;         // lanes from one quad to the next within the panel
  int first_quad;
  int quads;
  const PackVector* vectors;  // of a quad: quad_stride lanes
  const PackRun* runs;
  int stride;  // between the pixels that are taken from a row of the image
  std::uint8_t padding;
};

// Tokens with their features beside one another: a quad is in memory what it is in a lane.
struct PackTokensArgs {
  const std::uint8_t* input;  // of the first token
  std::int64_t features;      // bytes from one token to the next
  int tokens;
  std::uint32_t* panel;  // aligned
  int quad_stride;       // a whole number of vectors; behind the last token are zeros
  std::int64_t first_quad;
  int quads;
};

// Sums of some features, made into results of tokens.
struct FinishTokensArgs {
  const std::int32_t* sums;  // [features, sum_stride]; sums of tokens beside one another
  int sum_stride;
  int tokens;
  int features;
  const float* scales;  // [features]
  // The first token's first of these features.
  void* output;            // bytes or floats
  std::int64_t all_features;  // elements from one token to the next
  bool clamps;                // of bytes, and its
  float zero_point;
  // Of floats; residual may be null, or output.
  const float* bias;  // [features]
  const float* residual;
  VectorEpilogue epilogue;
};

using TileKernel = void (*)(const TileArgs&);

// The micro-kernels of one instruction set.
struct Kernels {
  int lanes;
  int most_vectors;
  // What is subtracted from each byte of the input before it is multiplied: 128 where products are
  // of signed bytes.
  std::uint8_t offset;
  TileKernel tiles[kMostVectors + 1];  // by the number of vectors of the tile
  void (*pack)(const PackArgs&);
  void (*pack_tokens)(const PackTokensArgs&);
  void (*finish_bytes)(const FinishTokensArgs&);
  void (*finish_floats)(const FinishTokensArgs&);
};

extern const Kernels kAvx512Vbmi2Kernels;
extern const Kernels kAvx512VnniKernels;
extern const Kernels kAvx512Kernels;
extern const Kernels kAvxVnniKernels;
extern const Kernels kAvx2Kernels;
extern const Kernels kNeonDotKernels;
extern const Kernels kNeonKernels;

}  // namespace taco4j::qu8_spconv
