// Sparse convolutions of bytes by vector kernels: plans kept for each size of image, and a run over
// the tiles of all images. As f32_spconv.cc, with four input channels in each lane.
#include "kernels/qu8_spconv.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <memory>
#include <mutex>
#include <optional>
#include <stdexcept>
#include <utility>
#include <vector>

#include "kernels/f32_spconv_plan.h"
#include "kernels/qu8_spconv_create.h"
#include "kernels/scratch.h"
#include "kernels/thread_watch.h"

namespace taco4j {
namespace {

using namespace qu8_spconv;
using f32_spconv::Costs;
using f32_spconv::KeptWeights;
using f32_spconv::Plan;
using f32_spconv::Tiling;

// Sizes of image whose plans an object keeps; detectors may see many, classifiers see one.
constexpr std::size_t kMostPlans = 4;
// With fewer tasks than this, panels are packed once for all and rows are cut too, if there are
// threads to share them.
constexpr std::int64_t kFewTasks = 8;

thread_local Scratch task_scratch;  // no task waits for another
thread_local Scratch call_scratch;

// Floats are words as wide. Of Scratch or ScratchLease.
template <typename Memory>
std::uint32_t* words(Memory& scratch, std::size_t count) {
  return reinterpret_cast<std::uint32_t*>(scratch.floats(count));
}

// Packing shuffles four planes into one.
Costs costs() {
  Costs costs;
  costs.packed_vector = 7;
  return costs;
}

f32_spconv::Target target_of(const Kernels& kernels) {
  f32_spconv::Target target{kernels.lanes, kernels.most_vectors, 0, costs()};
  target.padding_is_zero = false;
  target.group_entries = 4;
  return target;
}

std::int64_t quads_per_group(const ConvShape& shape) {
  return (shape.input_channels_per_group() + 3) / 4;
}

// The convolution whose channels are quads.
ConvShape quad_shape(ConvShape shape) {
  shape.input_channels = shape.groups * quads_per_group(shape);
  return shape;
}

// Four weights in the 32 bits of a float, which is only a container here.
KeptWeights kept_weights(const QuantizedConv& conv) {
  const ConvShape& shape = conv.shape;
  const std::int64_t channels = shape.input_channels_per_group();
  const std::int64_t quads = quads_per_group(shape);
  const std::int64_t taps = shape.kernel_height * shape.kernel_width;
  KeptWeights kept;
  kept.blocks = shape.output_channels;
  kept.begins.reserve(static_cast<std::size_t>(kept.blocks) + 1);
  for (std::int64_t row = 0; row < kept.blocks; ++row) {
    kept.begins.push_back(kept.entries.size());
    const std::int8_t* weights = conv.weights + row * shape.weights_per_row();
    const std::int64_t group = row / shape.output_channels_per_group();
    for (std::int64_t quad = 0; quad < quads; ++quad) {
      for (std::int64_t tap = 0; tap < taps; ++tap) {
        std::int8_t four[4] = {};
        bool any = false;
        for (std::int64_t i = 0; i < 4 && quad * 4 + i < channels; ++i) {
          four[i] = weights[(quad * 4 + i) * taps + tap];
          any |= four[i] != 0;
        }
        if (!any) continue;
        kept.entries.push_back({static_cast<std::int32_t>(group * quads + quad),
                                static_cast<std::int32_t>(tap)});
        float container;
        std::memcpy(&container, four, sizeof container);
        kept.weights.push_back(container);
      }
    }
  }
  kept.begins.push_back(kept.entries.size());
  return kept;
}

// Whether a scaled sum may be beyond what converts to 32 bits. Sums themselves may wrap around.
// weights: [rows, per_row].
bool may_overflow(const std::int8_t* weights, const std::int32_t* bias,
                  const std::vector<float>& scales, std::int64_t per_row) {
  constexpr double kMost = 1 << 30;
  for (std::size_t row = 0; row < scales.size(); ++row) {
    double sum = bias == nullptr ? 0 : std::fabs(static_cast<double>(bias[row]));
    for (std::int64_t i = 0; i < per_row; ++i) sum += 255.0 * std::abs(*weights++);
    if (std::min(sum, 2.0 * kMost) * scales[row] > kMost) return true;
  }
  return false;
}

// Looks for such factors near the ratios of scales. Where a result lies close to the middle between
// two bytes it is a matter of roundings to which it goes, and with any one choice some of the 65536
// pairs of bytes may go the wrong way; but there are few such pairs, and many choices.
AddFactors find_add_factors(const QuantizedConv& conv) {
  constexpr AddFactors kNone{false, 0, 0, 0};
  const float product_ratio = conv.product.scale / conv.output.scale;
  const float addend_ratio = conv.residual.scale / conv.output.scale;
  // What does not saturate must convert to integers.
  if (!(product_ratio < 1e6f && addend_ratio < 1e6f)) return kNone;

  const float least = -static_cast<float>(conv.output.zero_point);
  const float most = 255.0f - static_cast<float>(conv.output.zero_point);
  const auto rounded = [&](float x) {
    // There are no bits behind the point beside it: halves go to the even neighbour.
    constexpr float kShift = 0x1.8p23f;
    return (std::min(std::max(x, least), most) + kShift) - kShift;
  };
  constexpr int kMostSteps = 12;
  constexpr float kStep = std::numeric_limits<float>::epsilon() / 2;
  constexpr float kConstantStep = 0x1p-18f;
  const auto factors = [&](int product_steps, int addend_steps, int constant_steps) {
    const float addend = addend_ratio * (1 + kStep * static_cast<float>(addend_steps));
    return AddFactors{true, product_ratio * (1 + kStep * static_cast<float>(product_steps)), addend,
                      -addend * static_cast<float>(conv.residual.zero_point) +
                          kConstantStep * static_cast<float>(constant_steps)};
  };

  struct Pair {
    float product, residual, expected;
  };
  const auto agrees = [&](const AddFactors& f, const Pair& p) {
    return rounded(std::fma(p.product, f.product, std::fma(p.residual, f.addend, f.constant))) ==
           p.expected;
  };
  // Other factors move a result by less than this: terms of up to 255 ratios by as many steps, and
  // by some roundings. They may be large and their sum small.
  const float close =
      1e-3f + 255.0f * (product_ratio + addend_ratio) * kStep * (kMostSteps + 4.0f);
  std::vector<float> expected(65536);  // [product, residual]
  std::vector<Pair> hard;
  for (int c = 0; c < 256; ++c) {
    const float product = static_cast<float>(c - conv.product.zero_point);
    for (int z = 0; z < 256; ++z) {
      const float residual = static_cast<float>(z - conv.residual.zero_point);
      const float sum = product * conv.product.scale + residual * conv.residual.scale;
      const float exact = sum / conv.output.scale;
      const float nearest = rounded(exact);
      expected[static_cast<std::size_t>(c * 256 + z)] = nearest;
      if (rounded(exact - close) != rounded(exact + close)) {
        hard.push_back({product, static_cast<float>(z), nearest});
      }
    }
  }
  const auto refused_by = [&](const AddFactors& candidate) -> std::optional<Pair> {
    for (int z = 0; z < 256; ++z) {
      for (int c = 0; c < 256; ++c) {
        const Pair pair{static_cast<float>(c - conv.product.zero_point), static_cast<float>(z),
                        expected[static_cast<std::size_t>(c * 256 + z)]};
        if (!agrees(candidate, pair)) return pair;
      }
    }
    return std::nullopt;
  };

  // All pairs are looked at for candidates that the hard ones let pass, which is the first of them
  // unless scales are extreme.
  int looks_left = 4;
  for (const int k : {0, 1, -1, 2, -2, 3, -3, 4, -4}) {
    for (int i = 0; i <= 2 * kMostSteps; ++i) {
      for (int j = 0; j <= 2 * kMostSteps; ++j) {
        // 0, 1, -1, 2, -2 ...
        const auto steps = [](int n) { return n % 2 == 0 ? -n / 2 : (n + 1) / 2; };
        const AddFactors candidate = factors(steps(i), steps(j), k);
        // The pair that refused one candidate will refuse many.
        const auto refused = std::find_if(hard.begin(), hard.end(),
                                          [&](const Pair& p) { return !agrees(candidate, p); });
        if (refused != hard.end()) {
          std::swap(*refused, hard.front());
          continue;
        }
        const std::optional<Pair> pair = refused_by(candidate);
        if (!pair) return candidate;
        if (--looks_left == 0) return kNone;
        hard.insert(hard.begin(), *pair);
      }
    }
  }
  return kNone;
}

Grid grid_of(const Quantization& q) { return {q.scale, static_cast<float>(q.zero_point)}; }

// One tile of an image: which pixels, how they are packed and where results go.
struct ByteTile {
  int rows, columns;
  int vectors;
  std::int64_t first;  // bytes from the start of an output plane
  std::vector<PackVector> pack_vectors;
  std::vector<PackRun> pack_runs;
  std::vector<Line> lines;
  std::vector<std::uint64_t> kept_bytes;  // empty where lines do not follow one another
};

ByteTile byte_tile_of(const Tiling& t, const ConvShape& shape, int lanes, int index) {
  ByteTile tile;
  const std::int64_t y = static_cast<std::int64_t>(index / t.tiles_across) * t.tile_rows;
  const std::int64_t x = static_cast<std::int64_t>(index % t.tiles_across) * t.tile_columns;
  tile.rows = static_cast<int>(std::min<std::int64_t>(t.tile_rows, t.output_height - y));
  tile.columns = static_cast<int>(std::min<std::int64_t>(t.tile_columns, t.output_width - x));
  const int covered = t.covered - (t.tile_columns - tile.columns);
  tile.vectors = ((tile.rows - 1) * t.pitch + covered + lanes - 1) / lanes;
  tile.first = y * t.output_width + x;

  // Where the pixel of each lane comes from; -1 for padding.
  std::vector<std::int64_t> sources(static_cast<std::size_t>(t.channel_stride), -1);
  for (const Tiling::Copy& copy : t.copies) {
    for (int r = 0; r < t.panel_rows; ++r) {
      const std::int64_t image_y = (y + t.first_row + r) * shape.stride_height + copy.phase_y;
      if (image_y < 0 || image_y >= t.height) continue;
      for (int c = 0; c < t.pitch; ++c) {
        const std::int64_t image_x = (x + copy.first_column + c) * shape.stride_width + copy.phase_x;
        if (image_x < 0 || image_x >= t.width) continue;
        sources[static_cast<std::size_t>(copy.start + r * t.pitch - copy.moved + c)] =
            image_y * t.width + image_x;
      }
    }
  }
  for (int v = 0; v < t.channel_stride; v += lanes) {
    const std::int64_t* const source = sources.data() + v;
    PackVector vector{0, static_cast<std::int32_t>(tile.pack_runs.size()), 0};
    for (int lane = 0; lane < lanes; ++lane) {
      if (source[lane] < 0) continue;
      vector.lanes |= 1u << lane;
      const std::int64_t of_lane_0 = source[lane] - lane * shape.stride_width;
      // Lanes of a run follow one another, as some instruction sets load them: a row of the image
      // may end and the next begin behind padding with the same distance from their lanes.
      const bool follows = vector.runs > 0 && lane > 0 && source[lane - 1] >= 0;
      if (!follows || tile.pack_runs.back().source != of_lane_0) {
        tile.pack_runs.push_back({of_lane_0, 0});
        ++vector.runs;
      }
      tile.pack_runs.back().lanes |= 1u << lane;
    }
    tile.pack_vectors.push_back(vector);
  }

  const int width = static_cast<int>(t.output_width);
  if (tile.rows > 1 && t.pitch == width && tile.columns == width) {
    tile.lines.push_back({0, 0, tile.rows * width});
  } else {
    for (int r = 0; r < tile.rows; ++r) {
      tile.lines.push_back({r * t.pitch, r * width, tile.columns});
    }
  }
  if (tile.lines.size() > 1 && tile.columns == width) {
    // A vector has as many bytes as four have lanes.
    const int bytes = 4 * lanes;
    tile.kept_bytes.resize(static_cast<std::size_t>((tile.vectors * lanes + bytes - 1) / bytes));
    for (const Line& line : tile.lines) {
      for (int i = line.source; i < line.source + line.length; ++i) {
        tile.kept_bytes[static_cast<std::size_t>(i / bytes)] |= std::uint64_t{1} << (i % bytes);
      }
    }
  }
  return tile;
}

// What zero weights read behind the last quad may be anything.
std::size_t panel_words(const Plan& plan) {
  const Tiling& t = plan.tiling;
  return static_cast<std::size_t>(t.channels) * t.channel_stride + t.zeros;
}

class SparseQConvVector final : public SparseQConv {
 public:
  SparseQConvVector(const Kernels& kernels, const QuantizedConv& conv)
      : kernels_(kernels),
        conv_(conv),
        quads_(quad_shape(conv.shape)),
        kept_(kept_weights(conv)),
        first_sums_(first_sums(conv, kernels.offset)) {
    const std::size_t rows = first_sums_.size();
    scales_.reserve(rows);
    for (std::size_t row = 0; row < rows; ++row) {
      scales_.push_back(requantization_scale(conv, static_cast<std::int64_t>(row)));
    }
    clamps_ = may_overflow(conv.weights, conv.bias, scales_, conv.shape.weights_per_row());
    if (conv.adds) add_factors_ = find_add_factors(conv);
    // What was borrowed from the caller.
    weight_scales_.assign(conv.weight_scales, conv.weight_scales + rows);
    bias_.resize(rows);
    if (conv.bias != nullptr) std::copy_n(conv.bias, rows, bias_.begin());
    conv_.weights = nullptr;
    conv_.weight_scales = weight_scales_.data();
    conv_.bias = bias_.data();
  }

  void run(const std::uint8_t* input, const std::uint8_t* residual, std::uint8_t* output,
           std::int64_t batch, std::int64_t height, std::int64_t width,
           const ParallelFor& parallel_for) const override {
    const std::shared_ptr<const Layout> layout = layout_of(height, width);
    if (layout->plan == nullptr) {
      scalar().run(input, residual, output, batch, height, width, parallel_for);
      return;
    }
    const Plan& plan = *layout->plan;
    const std::int64_t tiles = static_cast<std::int64_t>(layout->tiles.size());
    const std::int64_t input_image =
        conv_.shape.input_channels * plan.tiling.height * plan.tiling.width;
    const std::int64_t output_image =
        conv_.shape.output_channels * plan.tiling.output_height * plan.tiling.output_width;
    const auto residual_of = [&](std::int64_t image) {
      return residual == nullptr ? nullptr : residual + image * output_image;
    };

    if (batch * tiles >= kFewTasks || plan.row_parts == 1 ||
        watch_.caller_is_alone(parallel_for)) {
      parallel_for(static_cast<std::size_t>(batch * tiles), [&](std::size_t task) {
        const std::int64_t image = static_cast<std::int64_t>(task) / tiles;
        const ByteTile& tile = layout->tiles[task % static_cast<std::size_t>(tiles)];
        std::uint32_t* panel =
            words(task_scratch, panel_words(plan) + partial_words(plan));
        std::int32_t* partial_sums = reinterpret_cast<std::int32_t*>(panel + panel_words(plan));
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
    ScratchLease scratch(call_scratch);
    std::uint32_t* packed =
        words(scratch, panel_words(plan) * panels * static_cast<std::size_t>(tiles));
    ThreadWatch::Run watched(watch_);
    for (std::int64_t image = 0; image < batch; ++image) {
      parallel_for(static_cast<std::size_t>(tiles) * panels, [&](std::size_t task) {
        pack(plan, layout->tiles[task / panels], static_cast<int>(task % panels),
             input + image * input_image, packed + task * panel_words(plan));
      });
      parallel_for(static_cast<std::size_t>(tiles) * row_parts, [&](std::size_t task) {
        watched.task();
        const std::size_t tile = task / row_parts;
        std::int32_t* partial_sums = reinterpret_cast<std::int32_t*>(words(task_scratch, partial_words(plan)));
        for (std::size_t p = 0; p < panels; ++p) {
          multiply(plan, layout->tiles[tile], static_cast<int>(p),
                   static_cast<int>(task % row_parts),
                   packed + (tile * panels + p) * panel_words(plan), partial_sums,
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
    std::vector<ByteTile> tiles;
  };

  std::shared_ptr<const Layout> layout_of(std::int64_t height, std::int64_t width) const {
    const std::lock_guard<std::mutex> lock(mutex_);
    for (const auto& layout : layouts_) {
      if (layout->height == height && layout->width == width) return layout;
    }
    auto layout = std::make_shared<Layout>();
    layout->height = height;
    layout->width = width;
    layout->plan = f32_spconv::make_plan(quads_, kept_,
                                         target_of(kernels_),
                                         height, width);
    if (layout->plan != nullptr) {
      const Tiling& tiling = layout->plan->tiling;
      for (int i = 0; i < tiling.tiles_down * tiling.tiles_across; ++i) {
        layout->tiles.push_back(byte_tile_of(tiling, conv_.shape, kernels_.lanes, i));
      }
    }
    if (layouts_.size() == kMostPlans) layouts_.erase(layouts_.begin());
    layouts_.push_back(layout);
    return layout;
  }

  const SparseQConv& scalar() const {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (scalar_ != nullptr) return *scalar_;
    const ConvShape& shape = conv_.shape;
    const std::int64_t taps = shape.kernel_height * shape.kernel_width;
    const std::int64_t quads = quads_per_group(shape);
    std::vector<std::int8_t> dense(
        static_cast<std::size_t>(shape.output_channels * shape.weights_per_row()));
    for (std::int64_t row = 0; row < kept_.blocks; ++row) {
      for (std::size_t i = kept_.begins[row]; i < kept_.begins[row + 1]; ++i) {
        const KeptWeights::Entry& entry = kept_.entries[i];
        std::int8_t four[4];
        std::memcpy(four, &kept_.weights[i], sizeof four);
        for (std::int64_t j = 0; j < 4; ++j) {
          const std::int64_t channel = entry.channel % quads * 4 + j;
          if (channel >= shape.input_channels_per_group()) break;
          dense[static_cast<std::size_t>(row * shape.weights_per_row() + channel * taps +
                                         entry.tap)] = four[j];
        }
      }
    }
    QuantizedConv conv = conv_;
    conv.weights = dense.data();
    scalar_ = create_sparse_qconv_scalar(conv);
    return *scalar_;
  }

  std::size_t partial_words(const Plan& plan) const {
    if (plan.panels == 1) return 0;
    return static_cast<std::size_t>(conv_.shape.output_channels) * plan.tiling.vectors *
           kernels_.lanes;
  }

  void pack(const Plan& plan, const ByteTile& tile, int panel_index, const std::uint8_t* input,
            std::uint32_t* panel) const {
    PackArgs args;
    args.input = input;
    args.plane = plan.tiling.height * plan.tiling.width;
    args.quads_per_group = static_cast<int>(quads_per_group(conv_.shape));
    args.channels_per_group = static_cast<int>(conv_.shape.input_channels_per_group());
    args.panel = panel;
    args.quad_stride = plan.tiling.channel_stride;
    args.first_quad = panel_index * plan.tiling.channels;
    args.quads = static_cast<int>(std::min<std::int64_t>(
        plan.tiling.channels, quads_.input_channels - args.first_quad));
    args.vectors = tile.pack_vectors.data();
    args.runs = tile.pack_runs.data();
    args.stride = static_cast<int>(conv_.shape.stride_width);
    args.padding = conv_.input.zero_point;
    kernels_.pack(args);
  }

  void multiply(const Plan& plan, const ByteTile& tile, int panel_index, int row_part,
                const std::uint32_t* panel, std::int32_t* partial_sums,
                const std::uint8_t* residual, std::uint8_t* output) const {
    TileArgs args;
    const int part = panel_index * plan.row_parts + row_part;
    args.rows = plan.parts[static_cast<std::size_t>(part)].list();
    args.groups = plan.tiling.groups;
    args.panel = panel;
    args.partial_sums = partial_sums;
    args.first_row = 0;
    args.keeps_sums = false;
    args.first_sums = first_sums_.data();
    args.scales = scales_.data();
    args.output = output + tile.first;
    args.residual = residual == nullptr ? nullptr : residual + tile.first;
    args.plane = plan.tiling.output_height * plan.tiling.output_width;
    args.lines = tile.lines.data();
    args.line_count = static_cast<int>(tile.lines.size());
    args.kept_bytes = tile.kept_bytes.empty() ? nullptr : tile.kept_bytes.data();
    args.clamps = clamps_;
    args.product = grid_of(conv_.product);
    args.addend = grid_of(conv_.residual);
    args.result = grid_of(conv_.output);
    args.add = add_factors_;
    kernels_.tiles[tile.vectors](args);
  }

  const Kernels& kernels_;
  QuantizedConv conv_;  // without its weights
  ConvShape quads_;
  KeptWeights kept_;
  std::vector<std::int32_t> first_sums_;  // [output_channels]
  std::vector<float> scales_;             // [output_channels]
  std::vector<float> weight_scales_;      // [output_channels]
  std::vector<std::int32_t> bias_;        // [output_channels]
  bool clamps_;
  AddFactors add_factors_{};
  mutable ThreadWatch watch_;  // both forms of a run give the same bytes
  mutable std::mutex mutex_;
  mutable std::vector<std::shared_ptr<const Layout>> layouts_;
  mutable std::unique_ptr<SparseQConv> scalar_;
};

// Tokens are pixels of one long image. Their features lie beside one another, in memory and in the
// result, so packing is a transposition of quads, and what is done to complete sums comes after a
// transposition back: they go to memory before.
class SparseQProductVector final : public SparseQProduct {
 public:
  SparseQProductVector(const Kernels& kernels, const QuantizedProduct& product)
      : kernels_(kernels),
        inputs_(product.inputs),
        result_(product.result),
        zero_point_(product.output.zero_point),
        epilogue_(vector_epilogue(product.epilogue)) {
    const std::vector<std::int8_t> weights = transposed_weights(product);
    QuantizedConv conv;
    conv.shape.input_channels = product.inputs;
    conv.shape.output_channels = product.outputs;
    conv.weights = weights.data();
    conv.input = product.input;
    if (result_ == QuantizedProduct::Result::kBytes) conv.bias = product.bias;
    quads_ = quad_shape(conv.shape);
    kept_ = kept_weights(conv);
    first_sums_ = first_sums(conv, kernels.offset);
    for (std::int64_t o = 0; o < product.outputs; ++o) {
      scales_.push_back(requantization_scale(product, o));
      float_bias_.push_back(product.float_bias == nullptr ? 0.0f : product.float_bias[o]);
    }
    clamps_ = may_overflow(weights.data(), conv.bias, scales_, product.inputs);
  }

  void run(const std::uint8_t* input, const float* residual, void* output, std::int64_t tokens,
           const ParallelFor& parallel_for) const override {
    const std::shared_ptr<const Plan> plan_kept = plan_of(tokens);
    const Plan& plan = *plan_kept;
    const std::size_t tiles = static_cast<std::size_t>(plan.tiling.tiles_across);
    const std::size_t panels = static_cast<std::size_t>(plan.panels);
    const std::size_t row_parts = static_cast<std::size_t>(plan.row_parts);
    if (tiles >= static_cast<std::size_t>(kFewTasks)) {
      parallel_for(tiles, [&](std::size_t tile) {
        std::uint32_t* packed = words(task_scratch, panel_words(plan) * panels + sum_words(plan));
        std::int32_t* sums =
            reinterpret_cast<std::int32_t*>(packed + panel_words(plan) * panels);
        for (std::size_t p = 0; p < panels; ++p) {
          pack(plan, tile, p, tokens, input, packed + p * panel_words(plan));
        }
        for (std::size_t part = 0; part < row_parts; ++part) {
          multiply(plan, tile, part, tokens, packed, sums, residual, output);
        }
      });
      return;
    }
    ScratchLease scratch(call_scratch);
    std::uint32_t* packed = words(scratch, panel_words(plan) * panels * tiles);
    parallel_for(tiles * panels, [&](std::size_t task) {
      pack(plan, task / panels, task % panels, tokens, input, packed + task * panel_words(plan));
    });
    parallel_for(tiles * row_parts, [&](std::size_t task) {
      const std::size_t tile = task / row_parts;
      std::int32_t* sums = reinterpret_cast<std::int32_t*>(words(task_scratch, sum_words(plan)));
      multiply(plan, tile, task % row_parts, tokens, packed + tile * panels * panel_words(plan),
               sums, residual, output);
    });
  }

 private:
  std::shared_ptr<const Plan> plan_of(std::int64_t tokens) const {
    const std::lock_guard<std::mutex> lock(mutex_);
    for (const auto& [count, plan] : plans_) {
      if (count == tokens) return plan;
    }
    f32_spconv::Target target = target_of(kernels_);
    target.most_part_blocks = kMostPartRows;
    std::shared_ptr<const Plan> plan = f32_spconv::make_plan(quads_, kept_, target, 1, tokens);
    if (plan == nullptr) throw std::invalid_argument("the input has too many tokens");
    if (plans_.size() == kMostPlans) plans_.erase(plans_.begin());
    plans_.emplace_back(tokens, plan);
    return plan;
  }

  static int tokens_of(const Plan& plan, std::size_t tile, std::int64_t tokens) {
    const std::int64_t first = static_cast<std::int64_t>(tile) * plan.tiling.tile_columns;
    return static_cast<int>(std::min<std::int64_t>(plan.tiling.tile_columns, tokens - first));
  }

  int vectors_of(const Plan& plan, std::size_t tile, std::int64_t tokens) const {
    return (tokens_of(plan, tile, tokens) + kernels_.lanes - 1) / kernels_.lanes;
  }

  // Of the sums of the largest part.
  std::size_t sum_words(const Plan& plan) const {
    std::int64_t most = 0;
    for (int part = 0; part < plan.row_parts; ++part) {
      most = std::max(most, plan.part_begins[part + 1] - plan.part_begins[part]);
    }
    return static_cast<std::size_t>(most) * plan.tiling.vectors * kernels_.lanes;
  }

  void pack(const Plan& plan, std::size_t tile, std::size_t panel_index, std::int64_t tokens,
            const std::uint8_t* input, std::uint32_t* panel) const {
    PackTokensArgs args;
    args.input = input + static_cast<std::int64_t>(tile) * plan.tiling.tile_columns * inputs_;
    args.features = inputs_;
    args.tokens = tokens_of(plan, tile, tokens);
    args.panel = panel;
    args.quad_stride = plan.tiling.channel_stride;
    args.first_quad = static_cast<std::int64_t>(panel_index) * plan.tiling.channels;
    args.quads = static_cast<int>(
        std::min<std::int64_t>(plan.tiling.channels, quads_.input_channels - args.first_quad));
    kernels_.pack_tokens(args);
  }

  // packed: all panels of the tile.
  void multiply(const Plan& plan, std::size_t tile, std::size_t part, std::int64_t tokens,
                const std::uint32_t* packed, std::int32_t* sums, const float* residual,
                void* output) const {
    const std::int64_t first_row = plan.part_begins[part];
    const std::int64_t rows = plan.part_begins[part + 1] - first_row;
    if (rows == 0) return;
    TileArgs args{};
    args.groups = 1;
    args.partial_sums = sums;
    args.first_row = first_row;
    args.keeps_sums = true;
    args.first_sums = first_sums_.data();
    const int vectors = vectors_of(plan, tile, tokens);
    for (int p = 0; p < plan.panels; ++p) {
      args.rows = plan.parts[static_cast<std::size_t>(p * plan.row_parts) + part].list();
      args.panel = packed + static_cast<std::size_t>(p) * panel_words(plan);
      kernels_.tiles[vectors](args);
    }

    const bool bytes = result_ == QuantizedProduct::Result::kBytes;
    const std::int64_t start =
        static_cast<std::int64_t>(tile) * plan.tiling.tile_columns * quads_.output_channels +
        first_row;
    FinishTokensArgs finish{};
    finish.sums = sums;
    finish.sum_stride = vectors * kernels_.lanes;
    finish.tokens = tokens_of(plan, tile, tokens);
    finish.features = static_cast<int>(rows);
    finish.scales = scales_.data() + first_row;
    finish.output = static_cast<std::uint8_t*>(output) + start * (bytes ? 1 : 4);
    finish.all_features = quads_.output_channels;
    finish.clamps = clamps_;
    finish.zero_point = zero_point_;
    finish.bias = float_bias_.data() + first_row;
    finish.residual = residual == nullptr ? nullptr : residual + start;
    finish.epilogue = epilogue_;
    (bytes ? kernels_.finish_bytes : kernels_.finish_floats)(finish);
  }

  // Such that sums of a part stay in the second-level cache beside the panels.
  static constexpr int kMostPartRows = 192;

  const Kernels& kernels_;
  std::int64_t inputs_;
  QuantizedProduct::Result result_;
  float zero_point_;
  VectorEpilogue epilogue_;
  ConvShape quads_;
  KeptWeights kept_;
  std::vector<std::int32_t> first_sums_;  // [outputs]
  std::vector<float> scales_;             // [outputs]
  std::vector<float> float_bias_;         // [outputs]
  bool clamps_;
  mutable std::mutex mutex_;
  mutable std::vector<std::pair<std::int64_t, std::shared_ptr<const Plan>>> plans_;  // by tokens
};

}  // namespace

#if defined(__x86_64__)
std::unique_ptr<SparseQConv> create_sparse_qconv_avx512vbmi2(const QuantizedConv& conv) {
  return std::make_unique<SparseQConvVector>(qu8_spconv::kAvx512Vbmi2Kernels, conv);
}

std::unique_ptr<SparseQProduct> create_sparse_qproduct_avx512vbmi2(const QuantizedProduct& product) {
  return std::make_unique<SparseQProductVector>(qu8_spconv::kAvx512Vbmi2Kernels, product);
}

std::unique_ptr<SparseQConv> create_sparse_qconv_avx512vnni(const QuantizedConv& conv) {
  return std::make_unique<SparseQConvVector>(qu8_spconv::kAvx512VnniKernels, conv);
}

std::unique_ptr<SparseQProduct> create_sparse_qproduct_avx512vnni(const QuantizedProduct& product) {
  return std::make_unique<SparseQProductVector>(qu8_spconv::kAvx512VnniKernels, product);
}

std::unique_ptr<SparseQConv> create_sparse_qconv_avx512(const QuantizedConv& conv) {
  return std::make_unique<SparseQConvVector>(qu8_spconv::kAvx512Kernels, conv);
}

std::unique_ptr<SparseQProduct> create_sparse_qproduct_avx512(const QuantizedProduct& product) {
  return std::make_unique<SparseQProductVector>(qu8_spconv::kAvx512Kernels, product);
}

std::unique_ptr<SparseQConv> create_sparse_qconv_avxvnni(const QuantizedConv& conv) {
  return std::make_unique<SparseQConvVector>(qu8_spconv::kAvxVnniKernels, conv);
}

std::unique_ptr<SparseQProduct> create_sparse_qproduct_avxvnni(const QuantizedProduct& product) {
  return std::make_unique<SparseQProductVector>(qu8_spconv::kAvxVnniKernels, product);
}

std::unique_ptr<SparseQConv> create_sparse_qconv_avx2(const QuantizedConv& conv) {
  return std::make_unique<SparseQConvVector>(qu8_spconv::kAvx2Kernels, conv);
}

std::unique_ptr<SparseQProduct> create_sparse_qproduct_avx2(const QuantizedProduct& product) {
  return std::make_unique<SparseQProductVector>(qu8_spconv::kAvx2Kernels, product);
}
#elif defined(__aarch64__)
std::unique_ptr<SparseQConv> create_sparse_qconv_neondot(const QuantizedConv& conv) {
  return std::make_unique<SparseQConvVector>(qu8_spconv::kNeonDotKernels, conv);
}

std::unique_ptr<SparseQProduct> create_sparse_qproduct_neondot(const QuantizedProduct& product) {
  return std::make_unique<SparseQProductVector>(qu8_spconv::kNeonDotKernels, product);
}

std::unique_ptr<SparseQConv> create_sparse_qconv_neon(const QuantizedConv& conv) {
  return std::make_unique<SparseQConvVector>(qu8_spconv::kNeonKernels, conv);
}

std::unique_ptr<SparseQProduct> create_sparse_qproduct_neon(const QuantizedProduct& product) {
  return std::make_unique<SparseQProductVector>(qu8_spconv::kNeonKernels, product);
}
#endif

}  // namespace taco4j
