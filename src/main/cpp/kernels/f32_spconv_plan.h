// Weights kept by a sparse convolution, and how they are laid out for one size of image.
#pragma once

#include <algorithm>
#include <cstdint>
#include <limits>
#include <memory>
#include <vector>

#include "kernels/f32_spconv.h"
#include "sparse_conv.h"

namespace taco4j::f32_spconv {

// Cycles, as measured on a Zen 5 and rounded: what decides among tilings is their ratio. The values
// were chosen so that, of all tilings of the layers of ResNet-50, those which are taken are within
// 1.3 % of the fastest in total, at 80, 90 and 95 % zeros, with and without blocks.
struct Costs {
  // With two loads a cycle an entry costs its loads, and a block of four its multiplications.
  double entry(int vectors, int block_rows) const {
    if (block_rows == 1) return (vectors + 1) / 2.0;
    return std::max((vectors + block_rows) / 2.0, vectors * block_rows / 2.0) + 1.5;
  }
  // A cache line that is not in the first-level cache.
  double miss = 0.5;
  // The end of the inner loop and what is around it, of a single row or a block of four.
  double row = 12;
  double block_row = 28;
  double group = 8;           // of entries: another inner loop
  double shift = 1;           // of a vector
  double partial_sum = 2.5;   // of a vector, from and to the second-level cache
  double result = 1.5;        // of a vector
  double result_row = 8;      // another page of the output
  double packed_channel = 0;  // another page of the input
  double packed_vector = 3.5;
};

// What a plan has to know of the micro-kernels: vectors are of 32-bit lanes, and a tile has so many
// of them at most, with single rows and with blocks.
struct Target {
  int lanes;
  int most_vectors;
  int most_block_vectors;
  Costs costs;
  // Where entries come in several groups, zero weights fill each up to a multiple of this, so that
  // rows differ less in numbers of entries, which processors then foresee: 15 % of 3x3 kernels over
  // 7x7 images. They read the zeros that follow the last channel of a panel.
  int group_entries = 1;
  // Whether padding is zero, and sums over it with it, without any zero point.
  bool padding_is_zero = true;
  // Row blocks are cut into parts of about so many at most.
  std::int64_t most_part_blocks = std::numeric_limits<std::int64_t>::max();
};

// What of the weights is not zero, row block after row block; with blocks of four also the few zeros
// inside of them, which are multiplied and hide no NaN of the input.
//
// The plan knows nothing of numbers. For int8 kernels an input channel stands for four, and a weight
// is 32 bits that hold four.
struct KeptWeights {
  struct Entry {
    std::int32_t channel;  // of the input
    std::int32_t tap;      // kernel_y * kernel_width + kernel_x
  };

  KeptWeights() = default;

  // Blocks of four are found where hardly any of their weights are zero.
  KeptWeights(const ConvShape& shape, const float* weights);

  int block_rows = 1;                   // 1 or kBlockRows
  std::int64_t blocks = 0;              // output channels / block_rows
  std::vector<std::size_t> begins;      // [blocks + 1]
  std::vector<Entry> entries;           // of a block: by channel, then tap
  std::vector<float> weights;           // [entries, block_rows]
};

// How an image of one size is cut into tiles and where each tap finds its pixels.
//
// Rows and columns are those of the output. A kernel of 1 x 1 with stride 1 knows no rows: its
// image is one row of all pixels. With a stride, pixels of even and odd rows and columns (phases)
// are packed apart, so that neighbours in the output are neighbours in the panel.
struct Tiling {
  std::int64_t height, width;                // of the input
  std::int64_t output_height, output_width;  // of the output
  int tile_rows, tile_columns;               // of a tile; the last ones may have fewer
  int tiles_down, tiles_across;
  int pitch;     // floats from one row of the tile to the next
  int vectors;   // of a whole tile
  int groups;    // of entries: those of group g are summed g pixels to the left of their place
  int covered;   // columns of a row that must be computed, beyond tile_columns where they are
                 // shifted into it afterwards

  // Pixels of one phase, from one column on, moved by some floats so that taps are aligned.
  struct Copy {
    int phase_y, phase_x;
    int first_column;  // of the image in steps of the stride, for column 0 of the tile
    int moved;         // floats to the left
    int start;         // floats from the start of the channel's part of the panel
  };
  std::vector<Copy> copies;
  int first_row;       // of the image in steps of the stride, for row 0 of the tile
  int panel_rows;      // of a copy
  int channel_stride;  // floats
  int channels;        // of a panel, at most
  int zeros;           // floats behind the last channel that are read by zero weights, or 0

  int zeros_offset() const { return channels * channel_stride; }

  struct Tap {
    int offset;  // floats from the start of the channel's part
    int group;
  };
  std::vector<Tap> taps;  // [kernel_height * kernel_width]

  double cost;  // estimated cycles for an image
};

// Everything that a run needs for one size of image. Immutable.
struct Plan {
  Tiling tiling;
  int panels;     // parts into which the input channels are cut
  int row_parts;  // parts into which the row blocks are cut, so that few tiles feed many threads

  // The entries of a part of the rows in a panel.
  class Part {
   public:
    explicit Part(const RowList& rows) : rows_(rows) {}
    RowList list() const { return rows_; }

   private:
    RowList rows_;  // points into the arrays below
  };
  std::vector<Part> parts;  // [panels, row_parts]
  std::vector<std::int64_t> part_begins;  // [row_parts + 1]: row blocks

  // Of all parts, one behind the other: what is fetched ahead of a part's end is then of use.
  std::vector<std::uint32_t> blocks;
  std::vector<std::uint32_t> counts;
  std::vector<float> weights;
  std::vector<std::uint16_t> offsets;
};

// Null where no panel of a single channel is small enough (dilation by hundreds of pixels).
std::unique_ptr<const Plan> make_plan(const ConvShape& shape, const KeptWeights& kept,
                                      const Target& target, std::int64_t height,
                                      std::int64_t width);

// One tile of an image: which pixels, how they are packed and where results go.
struct Tile {
  int rows, columns;
  int vectors;
  std::int64_t first;  // floats from the start of an output plane
  std::vector<PackRow> pack_rows;
  std::vector<Segment> segments;
  bool segments_are_vectors;
};

// index: across, then down. lanes: of a vector.
Tile tile_of(const Tiling& tiling, const ConvShape& shape, int lanes, int index);

}  // namespace taco4j::f32_spconv
