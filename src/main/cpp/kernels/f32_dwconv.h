// What passes between the layout of a depthwise convolution, which is the same on every processor,
// and the micro-kernels, which are compiled once for each instruction set. Plain data only, as in
// f32_spconv.h.
//
// Words. A *strip* is some rows of an output plane, laid one behind the other at a distance of
// `pitch` floats: most often these are the rows of the plane itself, so that any image, however
// narrow, is whole vectors. A *panel* holds the rows of one input plane which a strip needs, at the
// same pitch and without any padding to the left or right; with a stride, even and odd rows and
// columns stand apart. So a tap of the kernel is one offset for all of the strip. Where a tap reads
// beyond the end of a row, it finds pixels of the next one, which a *mask* removes: one mask for
// each column of the kernel, applied to the sum over the column.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/f32_activation.h"

namespace taco4j::f32_dwconv {

inline constexpr int kMostVectors = 8;  // of sums at the same time
inline constexpr int kMostLanes = 16;   // floats of a vector, on any instruction set

// A kept weight: where its pixels are, in floats from the start of the panel; may be negative.
struct Entry {
  std::int32_t offset;
  float weight;
};

// A stretch of an input plane that comes into the panel.
struct PackRun {
  std::int64_t source;        // floats from the start of the plane
  std::int32_t destination;   // floats from the start of the panel
  std::int32_t destination2;  // of the odd pixels, with a stride of 2
  std::int32_t count;         // pixels read, with a stride of 1 or 2; else pixels written
};

struct ZeroRun {
  std::int32_t destination, count;
};

// How a panel is filled from an input plane.
struct Packing {
  const PackRun* runs;
  int run_count;
  int stride;  // between the columns that are taken
  const ZeroRun* zeros;
  int zero_count;
};

// A strip of several channels.
struct StripArgs {
  const float* input;        // the plane of the first input channel
  std::int64_t input_plane;  // floats from one channel to the next
  std::int64_t first_source;  // floats from the start of a plane to what comes into the panel
  int channels;              // of the input
  int multiplier;            // output channels for each of them
  float* output;             // the strip's first pixel in the plane of the first output channel
  const float* residual;     // likewise, or null
  std::int64_t output_plane;

  // Room before and behind for what taps and whole vectors read and write outside.
  float* panel;
  float* next_panel;  // for the channel after; the same where it is large
  Packing packing;

  // From the first output channel on.
  const std::uint32_t* counts;     // [output channels, groups]: entries
  const std::uint32_t* begins;     // [output channels]: of the first entry
  const Entry* entries;            // of all channels
  const float* weights;            // [output channels, kernel height, kernel width]
  const std::uint8_t* all_kept;    // [output channels]: no weight is zero
  const float* bias;               // [output channels]
  int groups;                      // columns of the kernel
  // [groups]: null, or [period + kMostVectors, lanes], 0 or -1; the vector before is there, too.
  const std::int32_t* const* masks;
  int period;  // vectors after which masks repeat, at least kMostVectors
  // Kernels of 3x3, 5x5 and 7x7 without stride have a form for channels with all weights: their
  // height, or 0. It loads each pixel once for all columns. Its loads begin at these offsets.
  int square;
  std::int32_t row_offsets[7];

  // Kernels of these sizes with a horizontal stride of 2 have one, too: its height, or 0. Its panel
  // is the padded rows. Columns of the kernel make pairs of an even and an odd column of the image.
  int paired;
  bool odd_first;  // the first column of the kernel has no partner, and is odd; else the last one,
                   // and is even
  float* paired_panel;
  Packing paired_packing;
  int paired_step;              // floats from one row of the strip to the next
  std::int32_t paired_rows[7];  // where each row of the kernel begins for the strip's first row, at
                                // the even column that its first column is or follows

  int vectors;        // of the strip
  int rows, columns;  // of the strip, in the output
  int pitch;
  float* sums;  // [vectors, lanes], where the pitch is not the number of columns; aligned
  VectorEpilogue epilogue;
};

// The micro-kernels of one instruction set.
struct Kernels {
  int lanes;
  void (*strip)(const StripArgs&);
};

extern const Kernels kAvx512Kernels;
extern const Kernels kAvx2Kernels;
extern const Kernels kNeonKernels;

}  // namespace taco4j::f32_dwconv
