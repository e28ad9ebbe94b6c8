// Sparse convolutions of float32 by vector kernels: plans kept for each size of image, and a run
// over the tiles of all images.
#include "kernels/f32_spconv.h"

#include <algorithm>
#include <memory>
#include <mutex>
#include <vector>

#include "kernels/f32_dwconv_create.h"
#include "kernels/f32_spconv_create.h"
#include "kernels/f32_spconv_plan.h"
#include "kernels/scratch.h"
#include "kernels/thread_watch.h"

namespace taco4j {
namespace {

using namespace f32_spconv;

// Sizes of image whose plans an object keeps; detectors may see many, classifiers see one.
constexpr std::size_t kMostPlans = 4;
// With fewer tasks than this, panels are packed once for all and rows are cut too, if there are
// threads to share them: for a single one, panels that are multiplied while they are in the
// first-level cache are worth 6 % of ResNet-50.
constexpr std::int64_t kFewTasks = 8;
// What the kernels unroll groups of entries by.
constexpr int kGroupEntries = 4;

thread_local Scratch task_scratch;  // no task waits for another
thread_local Scratch call_scratch;

// A tile, and what the micro-kernels want to know of it.
struct FloatTile {
  Tile tile;
  Finish finish;
  std::vector<PackPiece> pieces;  // [vectors of a channel's part of the panel, pieces_a_vector]
  int pieces_a_vector;
};

Finish finish_of(const Tile& tile, int lanes) {
  const std::size_t count = tile.segments.size();
  // All but the last segment are stored as whole vectors.
  const bool inside = count == 1 || tile.segments[count - 2].destination + lanes <=
                                        tile.rows * tile.columns;
  if (!tile.segments_are_vectors || !inside) return Finish::kSegments;
  return tile.rows == 1 ? Finish::kFlat : Finish::kVectors;
}

// Turns rows of pixels into vectors of the panel. floats: of a channel's part.
void make_pieces(FloatTile& tile, int floats, std::int64_t stride, int lanes) {
  constexpr std::int64_t kZero = -1;
  std::vector<std::int64_t> sources(static_cast<std::size_t>(floats), kZero);
  for (const PackRow& row : tile.tile.pack_rows) {
    for (std::int64_t i = 0; i < row.count; ++i) {
      sources[static_cast<std::size_t>(row.destination + row.zeros_before + i)] =
          row.source + i * stride;
    }
  }
  std::vector<std::vector<PackPiece>> vectors;
  for (int start = 0; start < floats; start += lanes) {
    std::vector<PackPiece>& pieces = vectors.emplace_back();
    for (int lane = 0; lane < lanes; ++lane) {
      const std::int64_t source = sources[static_cast<std::size_t>(start + lane)];
      if (source == kZero) continue;
      const std::int64_t first = source - lane * stride;  // of lane 0
      if (pieces.empty() || pieces.back().source != first) {
        pieces.push_back({static_cast<std::int32_t>(first), 0});
      }
      pieces.back().floats |= 1u << (stride == 2 ? 2 * lane : lane);
    }
  }
  std::size_t most = 1;
  for (const auto& pieces : vectors) most = std::max(most, pieces.size());
  tile.pieces_a_vector = static_cast<int>(most);
  for (auto& pieces : vectors) {
    pieces.resize(most, PackPiece{0, 0});
    tile.pieces.insert(tile.pieces.end(), pieces.begin(), pieces.end());
  }
}

FloatTile float_tile_of(const Tiling& t, const ConvShape& shape, const Kernels& kernels,
                        int index) {
  FloatTile tile;
  tile.tile = tile_of(t, shape, kernels.lanes, index);
  tile.finish = finish_of(tile.tile, kernels.lanes);
  make_pieces(tile, t.channel_stride, shape.stride_width, kernels.lanes);
  return tile;
}

class SparseConvF32 final : public SparseConv {
 public:
  SparseConvF32(const Kernels& kernels, const ConvShape& shape, const float* weights,
                const float* bias, const Epilogue& epilogue)
      : kernels_(kernels),
        shape_(shape),
        epilogue_(epilogue),
        kept_(shape, weights),
        bias_(static_cast<std::size_t>(shape.output_channels)) {
    if (bias != nullptr) std::copy_n(bias, shape.output_channels, bias_.begin());
  }

  void run(const float* input, const float* residual, float* output, std::int64_t batch,
           std::int64_t height, std::int64_t width,
           const ParallelFor& parallel_for) const override {
    const std::shared_ptr<const Layout> layout = layout_of(height, width);
    if (layout->plan == nullptr) {
      scalar().run(input, residual, output, batch, height, width, parallel_for);
      return;
    }
    const Plan& plan = *layout->plan;
    const std::int64_t tiles = static_cast<std::int64_t>(layout->tiles.size());
    const std::int64_t input_image = shape_.input_channels * plan.tiling.height * plan.tiling.width;
    const std::int64_t output_image =
        shape_.output_channels * plan.tiling.output_height * plan.tiling.output_width;
    const auto residual_of = [&](std::int64_t image) {
      return residual == nullptr ? nullptr : residual + image * output_image;
    };

    if (batch * tiles >= kFewTasks || plan.row_parts == 1 ||
        watch_.caller_is_alone(parallel_for)) {
      parallel_for(static_cast<std::size_t>(batch * tiles), [&](std::size_t task) {
        const std::int64_t image = static_cast<std::int64_t>(task) / tiles;
        const FloatTile& tile = layout->tiles[task % tiles];
        float* panel = task_scratch.floats(panel_floats(plan) + partial_floats(plan));
        float* partial_sums = panel + panel_floats(plan);
        for (int p = 0; p < plan.panels; ++p) {
          pack(plan, tile, p, input + image * input_image, panel);
          for (int part = 0; part < plan.row_parts; ++part) {
            multiply(plan, tile, p, part, panel, partial_sums, residual_of(image),
                     output + image * output_image);
          }
        }
      });
      return;
    }
    const std::size_t panels = static_cast<std::size_t>(plan.panels);
    const std::size_t row_parts = static_cast<std::size_t>(plan.row_parts);
    ThreadWatch::Run watched(watch_);
    ScratchLease scratch(call_scratch);
    float* packed =
        scratch.floats(panel_floats(plan) * panels * static_cast<std::size_t>(tiles));
    for (std::int64_t image = 0; image < batch; ++image) {
      parallel_for(static_cast<std::size_t>(tiles) * panels, [&](std::size_t task) {
        pack(plan, layout->tiles[task / panels], static_cast<int>(task % panels),
             input + image * input_image, packed + task * panel_floats(plan));
      });
      parallel_for(static_cast<std::size_t>(tiles) * row_parts, [&](std::size_t task) {
        const std::size_t tile = task / row_parts;
        watched.task();
        float* partial_sums = task_scratch.floats(partial_floats(plan));
        for (std::size_t p = 0; p < panels; ++p) {
          multiply(plan, layout->tiles[tile], static_cast<int>(p),
                   static_cast<int>(task % row_parts),
                   packed + (tile * panels + p) * panel_floats(plan), partial_sums,
                   residual_of(image), output + image * output_image);
        }
      });
    }
  }

 private:
  // What is kept for a size of image.
  struct Layout {
    std::int64_t height, width;
    std::unique_ptr<const Plan> plan;  // null: the scalar form
    std::vector<FloatTile> tiles;
  };

  std::shared_ptr<const Layout> layout_of(std::int64_t height, std::int64_t width) const {
    const std::lock_guard<std::mutex> lock(mutex_);
    for (const auto& layout : layouts_) {
      if (layout->height == height && layout->width == width) return layout;
    }
    auto layout = std::make_shared<Layout>();
    layout->height = height;
    layout->width = width;
    layout->plan = make_plan(
        shape_, kept_,
        {kernels_.lanes, kernels_.most_vectors, kernels_.most_block_vectors, Costs(),
         kGroupEntries},
        height, width);
    if (layout->plan != nullptr) {
      const Tiling& tiling = layout->plan->tiling;
      for (int i = 0; i < tiling.tiles_down * tiling.tiles_across; ++i) {
        layout->tiles.push_back(float_tile_of(tiling, shape_, kernels_, i));
      }
    }
    if (layouts_.size() == kMostPlans) layouts_.erase(layouts_.begin());
    layouts_.push_back(layout);
    return layout;
  }

  const SparseConv& scalar() const {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (scalar_ == nullptr) {
      const std::int64_t taps = shape_.kernel_height * shape_.kernel_width;
      std::vector<float> dense(
          static_cast<std::size_t>(shape_.output_channels * shape_.weights_per_row()));
      for (std::int64_t block = 0; block < kept_.blocks; ++block) {
        for (std::size_t i = kept_.begins[block]; i < kept_.begins[block + 1]; ++i) {
          const KeptWeights::Entry& entry = kept_.entries[i];
          const std::int64_t column =
              entry.channel % shape_.input_channels_per_group() * taps + entry.tap;
          for (int r = 0; r < kept_.block_rows; ++r) {
            const std::int64_t row = block * kept_.block_rows + r;
            dense[static_cast<std::size_t>(row * shape_.weights_per_row() + column)] =
                kept_.weights[i * kept_.block_rows + r];
          }
        }
      }
      scalar_ = create_sparse_conv_scalar(shape_, dense.data(), bias_.data(), epilogue_);
    }
    return *scalar_;
  }

  // Whole vectors on any instruction set: what follows stays aligned.
  std::size_t panel_floats(const Plan& plan) const {
    const std::size_t floats =
        static_cast<std::size_t>(plan.tiling.zeros_offset() + plan.tiling.zeros);
    return (floats + kMostLanes - 1) / kMostLanes * kMostLanes;
  }

  std::size_t partial_floats(const Plan& plan) const {
    if (plan.panels == 1) return 0;
    return static_cast<std::size_t>(shape_.output_channels) * plan.tiling.vectors * kernels_.lanes;
  }

  void pack(const Plan& plan, const FloatTile& tile, int panel_index, const float* input,
            float* panel) const {
    const std::int64_t first = static_cast<std::int64_t>(panel_index) * plan.tiling.channels;
    PackArgs args;
    args.plane = plan.tiling.height * plan.tiling.width;
    args.input = input + first * args.plane;
    args.panel = panel;
    args.channel_stride = plan.tiling.channel_stride;
    args.channels = static_cast<int>(
        std::min<std::int64_t>(plan.tiling.channels, shape_.input_channels - first));
    args.pieces = tile.pieces.data();
    args.pieces_a_vector = tile.pieces_a_vector;
    args.stride = static_cast<int>(shape_.stride_width);
    kernels_.pack(args);
    std::fill_n(panel + plan.tiling.zeros_offset(), plan.tiling.zeros, 0.0f);
  }

  void multiply(const Plan& plan, const FloatTile& float_tile, int panel_index, int row_part,
                const float* panel, float* partial_sums, const float* residual,
                float* output) const {
    const Tile& tile = float_tile.tile;
    TileArgs args;
    const int part = panel_index * plan.row_parts + row_part;
    args.rows = plan.parts[static_cast<std::size_t>(part)].list();
    args.groups = plan.tiling.groups;
    args.panel = panel;
    args.partial_sums = partial_sums;
    args.bias = bias_.data();
    args.output = output + tile.first;
    args.residual = residual == nullptr ? nullptr : residual + tile.first;
    args.plane = plan.tiling.output_height * plan.tiling.output_width;
    args.segments = tile.segments.data();
    args.segment_count = static_cast<int>(tile.segments.size());
    args.finish = float_tile.finish;
    args.last_length = tile.segments.back().length;
    args.epilogue = vector_epilogue(epilogue_);
    (kept_.block_rows == 1 ? kernels_.rows : kernels_.blocks)[tile.vectors](args);
  }

  const Kernels& kernels_;
  const ConvShape shape_;
  const Epilogue epilogue_;
  const KeptWeights kept_;
  std::vector<float> bias_;  // [output_channels]
  mutable ThreadWatch watch_;  // both forms of a run give the same bits
  mutable std::mutex mutex_;
  mutable std::vector<std::shared_ptr<const Layout>> layouts_;
  mutable std::unique_ptr<SparseConv> scalar_;
};

}  // namespace

#if defined(__x86_64__)
std::unique_ptr<SparseConv> create_sparse_conv_avx512(const ConvShape& shape, const float* weights,
                                                      const float* bias,
                                                      const Epilogue& epilogue) {
  if (is_depthwise(shape)) {
    return create_depthwise(f32_dwconv::kAvx512Kernels, shape, weights, bias, epilogue);
  }
  return std::make_unique<SparseConvF32>(f32_spconv::kAvx512Kernels, shape, weights, bias,
                                         epilogue);
}

std::unique_ptr<SparseConv> create_sparse_conv_avx2(const ConvShape& shape, const float* weights,
                                                    const float* bias, const Epilogue& epilogue) {
  if (is_depthwise(shape)) {
    return create_depthwise(f32_dwconv::kAvx2Kernels, shape, weights, bias, epilogue);
  }
  return std::make_unique<SparseConvF32>(f32_spconv::kAvx2Kernels, shape, weights, bias, epilogue);
}
#elif defined(__aarch64__)
std::unique_ptr<SparseConv> create_sparse_conv_neon(const ConvShape& shape, const float* weights,
                                                    const float* bias, const Epilogue& epilogue) {
  if (is_depthwise(shape)) {
    return create_depthwise(f32_dwconv::kNeonKernels, shape, weights, bias, epilogue);
  }
  return std::make_unique<SparseConvF32>(f32_spconv::kNeonKernels, shape, weights, bias, epilogue);
}
#endif

}  // namespace taco4j
