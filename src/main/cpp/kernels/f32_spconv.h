// What passes between the plan of a sparse convolution, which is the same on every processor, and
// the micro-kernels, which are compiled once for each instruction set. Plain data only: a file
// compiled for AVX-512 must not bring inline functions of its own into the rest of the library.
//
// Words. A *tile* is a part of one output image: some rows of pixels, laid one behind the other at
// a distance of `pitch` floats, so that it is a flat array of whole vectors. A *panel* holds the
// pixels which a tile needs of some input channels, padding included, such that the input of every
// tap of the kernel lies at a fixed, aligned offset. A *row block* is one output channel, or four
// that share the positions of their weights (`rows4`).
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/f32_activation.h"

namespace taco4j::f32_spconv {

inline constexpr int kMostVectors = 16;   // of a tile, on any instruction set
inline constexpr int kBlockRows = 4;      // output channels of a block
inline constexpr int kMostLanes = 16;     // floats of a vector, on any instruction set

// The kept weights of some row blocks, over the channels of one panel. The entries of a row block
// come in `groups` groups: those of group g apply to the pixel g to the right.
struct RowList {
  const std::uint32_t* blocks;   // [size]: row block << 2 | kFirst | kLast
  const std::uint32_t* counts;   // [size, groups]: entries, the last group first
  const float* weights;          // [entries, output channels of a block]
  const std::uint16_t* offsets;  // [entries]: floats from the start of the panel
  std::size_t size;
};

inline constexpr std::uint32_t kFirst = 1;  // no partial sum has been stored yet
inline constexpr std::uint32_t kLast = 2;   // the sum is complete: bias, residual, activation

// A piece of an output row, at most a vector long.
struct Segment {
  std::int32_t source;       // floats from the start of the flat tile
  std::int32_t destination;  // floats from the tile's first pixel in the output plane
  std::int32_t length;
};

// How a tile lies in the output.
enum class Finish {
  kFlat,      // one row of pixels: segment v is vector v of it, and of the tile
  kVectors,   // segment v is the first part of vector v of the tile; segments follow one another
  kSegments,  // anything else
};

struct TileArgs {
  RowList rows;
  int groups;
  const float* panel;
  float* partial_sums;  // [row blocks, output channels of a block, vectors * lanes], aligned
  const float* bias;    // [output channels]
  // The tile's first pixel in the plane of output channel 0; residual may be null.
  float* output;
  const float* residual;
  std::int64_t plane;  // floats from one output channel to the next
  const Segment* segments;
  int segment_count;
  Finish finish;
  int last_length;  // of the last segment
  VectorEpilogue epilogue;
};

// How a stretch of a panel is filled from a row of the image, or with zeros: the same for each
// channel.
struct PackRow {
  std::int32_t destination;   // floats from the start of the channel's part of the panel
  std::int32_t zeros_before;  // then these many zeros,
  std::int32_t count;         // these many pixels
  std::int32_t zeros_after;   // and these many zeros
  std::int64_t source;        // floats from the start of the channel's input plane
};

// Pixels of one row of the image within a vector of the panel. A vector is the sum of its pieces.
struct PackPiece {
  std::int32_t source;  // floats from the start of the channel's plane to the pixel of lane 0, which
                        // may lie before the plane where that lane is not of the piece
  std::uint32_t floats;  // a bit for each float from there on that is read, with strides 1 and 2;
                         // with others, for each lane
};

struct PackArgs {
  const float* input;  // the plane of the first channel
  std::int64_t plane;  // floats from one input channel to the next
  float* panel;        // aligned
  int channel_stride;  // floats from one channel to the next within the panel: whole vectors
  int channels;
  const PackPiece* pieces;  // [vectors of a channel, pieces_a_vector]: the same for each channel
  int pieces_a_vector;
  int stride;  // between the pixels that are taken from a row of the image
};

using TileKernel = void (*)(const TileArgs&);

// The micro-kernels of one instruction set.
struct Kernels {
  int lanes;
  int most_vectors;        // with single rows
  int most_block_vectors;  // with blocks of four
  TileKernel rows[kMostVectors + 1];    // by the number of vectors of the tile
  TileKernel blocks[kMostVectors + 1];
  void (*pack)(const PackArgs&);
};

extern const Kernels kAvx512Kernels;
extern const Kernels kAvx2Kernels;
extern const Kernels kNeonKernels;

}  // namespace taco4j::f32_spconv
