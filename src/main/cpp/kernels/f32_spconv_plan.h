// Weights kept by a sparse convolution, and how they are laid out for one size of image.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "kernels/f32_spconv.h"
#include "sparse_conv.h"

namespace taco4j::f32_spconv {

// What of the weights is not zero, row block after row block.
struct KeptWeights {
  struct Entry {
    std::int32_t channel;  // of the input
    std::int32_t tap;      // kernel_y * kernel_width + kernel_x
  };

  // Blocks of four are found where hardly any of their weights are zero.
  KeptWeights(const ConvShape& shape, const float* weights);

  int block_rows;                       // 1 or kBlockRows
  std::int64_t blocks;                  // output channels / block_rows
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
  struct Part {
    std::vector<std::uint32_t> blocks;
    std::vector<std::uint32_t> counts;
    std::vector<float> weights;
    std::vector<std::uint16_t> offsets;

    RowList list() const {
      return {blocks.data(), counts.data(), weights.data(), offsets.data(), blocks.size()};
    }
  };
  std::vector<Part> parts;  // [panels, row_parts]
};

// Null where no panel of a single channel is small enough (dilation by hundreds of pixels).
std::unique_ptr<const Plan> make_plan(const ConvShape& shape, const KeptWeights& kept,
                                      const Kernels& kernels, std::int64_t height,
                                      std::int64_t width);

}  // namespace taco4j::f32_spconv
