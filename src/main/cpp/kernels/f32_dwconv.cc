// Depthwise convolutions of float32 by vector kernels: layouts kept for each size of image, and a
// run over strips and channels.
#include "kernels/f32_dwconv.h"

#include <algorithm>
#include <memory>
#include <mutex>
#include <numeric>
#include <vector>

#include "kernels/f32_dwconv_create.h"
#include "kernels/scratch.h"

namespace taco4j {
namespace {

using namespace f32_dwconv;

// Sizes of image whose layouts an object keeps.
constexpr std::size_t kMostLayouts = 4;
// Half of a small first-level cache: sums, masks and output rows are there, too.
constexpr std::int64_t kPanelFloats = 4096;
// Panels up to this size are two, in turns.
constexpr std::int64_t kSmallPanelFloats = 1024;
// Rows longer than this begin with a vector, so that masks repeat with each row.
constexpr std::int64_t kMostFlatPitch = 128;
// What is larger is left to the scalar form.
constexpr std::int64_t kMostPanelFloats = 1 << 22;
constexpr std::int64_t kMostTaps = 1024;
constexpr std::int64_t kMostSquare = 7;
// Tasks of an image, where there is enough to do in each.
constexpr std::int64_t kTasks = 16;
constexpr std::int64_t kLeastTaskOutputs = 8192;

thread_local Scratch dwconv_scratch;

std::int64_t divide_up(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }
std::int64_t round_up(std::int64_t a, std::int64_t b) { return divide_up(a, b) * b; }

// Where a row or column of the kernel reads, for output row or column o: at phase + (o + step) *
// stride of the image.
struct Place {
  std::int64_t phase;
  std::int64_t step;
};

Place place_of(std::int64_t index, std::int64_t dilation, std::int64_t pad, std::int64_t stride) {
  const std::int64_t first = index * dilation - pad;
  const std::int64_t phase = (first % stride + stride) % stride;
  return {phase, (first - phase) / stride};
}

// Pixels of a phase in a row or column of the image.
std::int64_t pixels_of(std::int64_t phase, std::int64_t size, std::int64_t stride) {
  return phase < size ? (size - 1 - phase) / stride + 1 : 0;
}

// One strip: which rows, and how its panel is filled.
struct Strip {
  std::int64_t first_row;
  int rows;
  std::vector<PackRun> runs;
  std::vector<ZeroRun> zeros;
  std::vector<PackRun> paired_runs;
  std::vector<ZeroRun> paired_zeros;
};

Packing packing_of(const std::vector<PackRun>& runs, int stride,
                   const std::vector<ZeroRun>& zeros) {
  return {runs.data(), static_cast<int>(runs.size()), stride, zeros.data(),
          static_cast<int>(zeros.size())};
}

// What is kept for a size of image.
struct Layout {
  std::int64_t height, width;
  std::int64_t output_height, output_width;
  bool scalar = false;
  int pitch = 0;
  int period = 0;
  int square = 0;
  std::int32_t row_offsets[kMostSquare] = {};
  int paired = 0;
  bool odd_first = false;
  int paired_step = 0;
  std::int32_t paired_rows[kMostSquare] = {};
  std::int64_t paired_floats = 0;  // of that panel
  std::int64_t margin = 0;        // floats before the panel
  std::int64_t panel_floats = 0;  // with both margins
  std::int64_t most_vectors = 0;  // of a strip
  std::vector<Strip> strips;
  std::vector<std::uint32_t> counts;  // [output channels, groups]
  std::vector<std::uint32_t> begins;  // [output channels]
  std::vector<Entry> entries;
  std::vector<std::vector<std::int32_t>> mask_values;  // [groups], with room to be aligned
  std::vector<const std::int32_t*> masks;
};

class DepthwiseConvF32 final : public SparseConv {
 public:
  DepthwiseConvF32(const Kernels& kernels, const ConvShape& shape, const float* weights,
                   const float* bias, const Epilogue& epilogue)
      : kernels_(kernels),
        shape_(shape),
        epilogue_(epilogue),
        weights_(weights, weights + shape.output_channels * shape.weights_per_row()),
        bias_(static_cast<std::size_t>(shape.output_channels)),
        all_kept_(static_cast<std::size_t>(shape.output_channels)) {
    if (bias != nullptr) std::copy_n(bias, shape.output_channels, bias_.begin());
    for (std::int64_t channel = 0; channel < shape.output_channels; ++channel) {
      const float* first = weights + channel * shape.weights_per_row();
      all_kept_[static_cast<std::size_t>(channel)] =
          std::all_of(first, first + shape.weights_per_row(), [](float w) { return w != 0.0f; });
    }
  }

  void run(const float* input, const float* residual, float* output, std::int64_t batch,
           std::int64_t height, std::int64_t width,
           const ParallelFor& parallel_for) const override {
    const std::shared_ptr<const Layout> layout = layout_of(height, width);
    if (layout->scalar) {
      scalar().run(input, residual, output, batch, height, width, parallel_for);
      return;
    }
    const std::int64_t output_plane = layout->output_height * layout->output_width;
    const std::int64_t outputs_of_channel = output_plane * shape_.output_channels_per_group();
    const std::int64_t channels =
        std::max({divide_up(shape_.input_channels, kTasks),
                  divide_up(kLeastTaskOutputs, outputs_of_channel), std::int64_t{1}});
    const std::int64_t parts = divide_up(shape_.input_channels, channels);
    const std::size_t strips = layout->strips.size();
    parallel_for(static_cast<std::size_t>(batch * parts) * strips, [&](std::size_t task) {
      const std::int64_t image = static_cast<std::int64_t>(task / strips) / parts;
      const std::int64_t part = static_cast<std::int64_t>(task / strips) % parts;
      const std::int64_t first = part * channels;
      const std::int64_t out = first * shape_.output_channels_per_group();
      const Strip& strip = layout->strips[task % strips];
      const bool direct = layout->pitch == layout->output_width;
      const std::int64_t sums = direct ? 0 : (layout->most_vectors + 1) * kernels_.lanes;
      float* const scratch =
          dwconv_scratch.floats(static_cast<std::size_t>(2 * layout->panel_floats +
                                                         layout->paired_floats + sums));

      StripArgs args;
      args.input_plane = height * width;
      args.input = input + (image * shape_.input_channels + first) * args.input_plane;
      args.first_source = strip.runs.empty() ? 0 : strip.runs.front().source;
      args.channels = static_cast<int>(std::min(channels, shape_.input_channels - first));
      args.multiplier = static_cast<int>(shape_.output_channels_per_group());
      args.output_plane = output_plane;
      const std::int64_t start = (image * shape_.output_channels + out) * output_plane +
                                 strip.first_row * layout->output_width;
      args.output = output + start;
      args.residual = residual == nullptr ? nullptr : residual + start;
      args.panel = scratch + layout->margin;
      args.next_panel = args.panel + (layout->panel_floats <= kSmallPanelFloats
                                          ? layout->panel_floats
                                          : 0);
      args.packing =
          packing_of(strip.runs, static_cast<int>(shape_.stride_width), strip.zeros);
      args.counts = layout->counts.data() + out * shape_.kernel_width;
      args.begins = layout->begins.data() + out;
      args.entries = layout->entries.data();
      args.weights = weights_.data() + out * shape_.weights_per_row();
      args.all_kept = all_kept_.data() + out;
      args.bias = bias_.data() + out;
      args.groups = static_cast<int>(shape_.kernel_width);
      args.masks = layout->masks.data();
      args.period = layout->period;
      args.square = layout->square;
      std::copy_n(layout->row_offsets, kMostSquare, args.row_offsets);
      args.paired = layout->paired;
      args.odd_first = layout->odd_first;
      args.paired_panel = scratch + 2 * layout->panel_floats;
      args.paired_packing = packing_of(strip.paired_runs, 1, strip.paired_zeros);
      args.paired_step = layout->paired_step;
      std::copy_n(layout->paired_rows, kMostSquare, args.paired_rows);
      args.rows = strip.rows;
      args.columns = static_cast<int>(layout->output_width);
      args.pitch = layout->pitch;
      args.vectors = static_cast<int>(
          divide_up((strip.rows - 1) * static_cast<std::int64_t>(args.pitch) + args.columns,
                    kernels_.lanes));
      args.sums = direct ? nullptr : scratch + 2 * layout->panel_floats + layout->paired_floats;
      args.epilogue = vector_epilogue(epilogue_);
      kernels_.strip(args);
    });
  }

 private:
  std::shared_ptr<const Layout> layout_of(std::int64_t height, std::int64_t width) const {
    const std::lock_guard<std::mutex> lock(mutex_);
    for (const auto& layout : layouts_) {
      if (layout->height == height && layout->width == width) return layout;
    }
    auto layout = std::make_shared<Layout>();
    layout->height = height;
    layout->width = width;
    layout->output_height = shape_.output_height(height);
    layout->output_width = shape_.output_width(width);
    layout->scalar = !lay_out(*layout);
    if (layouts_.size() == kMostLayouts) layouts_.erase(layouts_.begin());
    layouts_.push_back(layout);
    return layout;
  }

  // False for what is too large.
  bool lay_out(Layout& layout) const {
    const std::int64_t lanes = kernels_.lanes;
    const std::int64_t stride_y = shape_.stride_height;
    const std::int64_t stride_x = shape_.stride_width;
    if (shape_.kernel_height * shape_.kernel_width > kMostTaps ||
        std::max({layout.height, layout.width, layout.output_height, layout.output_width}) >
            kMostPanelFloats) {
      return false;
    }

    // Columns: those of the kernel, and the phases that the panel has.
    std::vector<Place> columns;
    std::vector<std::int64_t> phases_x;
    for (std::int64_t x = 0; x < shape_.kernel_width; ++x) {
      columns.push_back(place_of(x, shape_.dilation_width, shape_.pad_left, stride_x));
      phases_x.push_back(columns.back().phase);
    }
    if (stride_x == 2) phases_x = {0, 1};
    std::sort(phases_x.begin(), phases_x.end());
    phases_x.erase(std::unique(phases_x.begin(), phases_x.end()), phases_x.end());
    std::int64_t pitch = layout.output_width;
    for (const std::int64_t phase : phases_x) {
      pitch = std::max(pitch, pixels_of(phase, layout.width, stride_x));
    }
    if (pitch > kMostFlatPitch) pitch = round_up(pitch, lanes);
    layout.pitch = static_cast<int>(pitch);
    layout.period =
        static_cast<int>(round_up(kMostVectors, pitch / std::gcd(pitch, lanes)));

    // Rows likewise; `first` and `last` are the steps of a phase.
    struct Rows {
      std::int64_t phase, first, last;
    };
    std::vector<Place> rows;
    std::vector<Rows> phases_y;
    for (std::int64_t y = 0; y < shape_.kernel_height; ++y) {
      const Place place = place_of(y, shape_.dilation_height, shape_.pad_top, stride_y);
      rows.push_back(place);
      const auto same = std::find_if(phases_y.begin(), phases_y.end(),
                                     [&](const Rows& r) { return r.phase == place.phase; });
      if (same == phases_y.end()) {
        phases_y.push_back({place.phase, place.step, place.step});
      } else {
        same->last = place.step;  // they come in ascending order
      }
    }

    // As many rows in a strip as the cache takes, in strips as high as one another.
    std::int64_t extra_rows = 0;
    for (const Rows& phase : phases_y) extra_rows += phase.last - phase.first;
    const std::int64_t planes = static_cast<std::int64_t>(phases_y.size() * phases_x.size());
    const std::int64_t fixed = extra_rows * static_cast<std::int64_t>(phases_x.size()) * pitch;
    if (fixed + planes * pitch > kMostPanelFloats) return false;
    const std::int64_t fit =
        std::clamp<std::int64_t>((kPanelFloats - fixed) / (planes * pitch), 1,
                                 layout.output_height);
    const std::int64_t strip_rows =
        divide_up(layout.output_height, divide_up(layout.output_height, fit));

    // The panel: for each pair of phases its rows. Between them, what whole vectors write too far.
    const auto panel_rows = [&](const Rows& phase) {
      return strip_rows + phase.last - phase.first;
    };
    std::vector<std::int64_t> starts;  // [y phases, x phases]
    std::int64_t floats = 0;
    for (const Rows& phase : phases_y) {
      for (std::size_t i = 0; i < phases_x.size(); ++i) {
        starts.push_back(floats);
        floats = round_up(floats + panel_rows(phase) * pitch + lanes, lanes);
      }
    }
    // No column reads further than a row away from its place.
    layout.margin = round_up(pitch, kMostLanes);
    layout.panel_floats =
        round_up(layout.margin + floats + pitch + (kMostVectors + 1) * lanes, kMostLanes);

    layout.most_vectors = divide_up((strip_rows - 1) * pitch + layout.output_width, lanes);
    const auto start_of = [&](const Place& row, const Place& column) {
      std::size_t y = 0;
      while (phases_y[y].phase != row.phase) ++y;
      const std::size_t x = static_cast<std::size_t>(
          std::find(phases_x.begin(), phases_x.end(), column.phase) - phases_x.begin());
      return starts[y * phases_x.size() + x] + (row.step - phases_y[y].first) * pitch;
    };

    for (std::int64_t row = 0; row < layout.output_height; row += strip_rows) {
      Strip strip;
      strip.first_row = row;
      strip.rows = static_cast<int>(std::min(strip_rows, layout.output_height - row));
      for (std::size_t y = 0; y < phases_y.size(); ++y) {
        for (std::int64_t i = 0; i < panel_rows(phases_y[y]); ++i) {
          const std::int64_t image_row =
              (row + phases_y[y].first + i) * stride_y + phases_y[y].phase;
          const bool inside = image_row >= 0 && image_row < layout.height;
          const auto place = [&](std::size_t x) {
            return static_cast<std::int32_t>(starts[y * phases_x.size() + x] + i * pitch);
          };
          if (!inside) {
            for (std::size_t x = 0; x < phases_x.size(); ++x) {
              strip.zeros.push_back({place(x), layout.pitch});
            }
          } else if (stride_x <= 2) {
            PackRun run = {image_row * layout.width, place(0), stride_x == 2 ? place(1) : 0,
                           static_cast<std::int32_t>(layout.width)};
            // Rows that follow one another in both places are one stretch.
            if (stride_x == 1 && !strip.runs.empty() &&
                strip.runs.back().source + strip.runs.back().count == run.source &&
                strip.runs.back().destination + strip.runs.back().count == run.destination) {
              strip.runs.back().count += run.count;
            } else {
              strip.runs.push_back(run);
            }
          } else {
            for (std::size_t x = 0; x < phases_x.size(); ++x) {
              strip.runs.push_back({image_row * layout.width + phases_x[x], place(x), 0,
                                    static_cast<std::int32_t>(
                                        pixels_of(phases_x[x], layout.width, stride_x))});
            }
          }
        }
      }
      layout.strips.push_back(std::move(strip));
    }

    // Masks, and which columns read any pixel at all.
    std::vector<bool> reads;
    const std::size_t mask_vectors = static_cast<std::size_t>(layout.period) + kMostVectors + 1;
    layout.mask_values.resize(columns.size());
    for (std::size_t x = 0; x < columns.size(); ++x) {
      const Place& column = columns[x];
      const std::int64_t begin = std::max<std::int64_t>(0, -column.step);
      const std::int64_t end = std::min(
          layout.output_width, pixels_of(column.phase, layout.width, stride_x) - column.step);
      reads.push_back(begin < end);
      if (begin == 0 && end == layout.output_width) {
        layout.masks.push_back(nullptr);
        continue;
      }
      std::vector<std::int32_t>& values = layout.mask_values[x];
      const std::size_t size = mask_vectors * static_cast<std::size_t>(lanes);
      values.resize(size + static_cast<std::size_t>(lanes));
      void* aligned = values.data();
      std::size_t room = values.size() * sizeof(std::int32_t);
      std::align(static_cast<std::size_t>(lanes) * sizeof(float), size * sizeof(std::int32_t),
                 aligned, room);
      std::int32_t* mask = static_cast<std::int32_t*>(aligned);
      for (std::size_t i = 0; i < size; ++i) {
        // The first vector is the one before the strip.
        const std::int64_t place =
            (static_cast<std::int64_t>(i) + layout.period * lanes - lanes) % pitch;
        mask[i] = place >= begin && place < end ? -1 : 0;
      }
      layout.masks.push_back(mask + lanes);
    }

    // The kept weights, column by column.
    const std::int64_t taps = shape_.weights_per_row();
    for (std::int64_t channel = 0; channel < shape_.output_channels; ++channel) {
      layout.begins.push_back(static_cast<std::uint32_t>(layout.entries.size()));
      for (std::size_t x = 0; x < columns.size(); ++x) {
        const std::size_t before = layout.entries.size();
        for (std::size_t y = 0; y < rows.size() && reads[x]; ++y) {
          const float weight = weights_[static_cast<std::size_t>(channel * taps) +
                                        y * columns.size() + x];
          if (weight == 0.0f) continue;
          layout.entries.push_back(
              {static_cast<std::int32_t>(start_of(rows[y], columns[x]) + columns[x].step),
               weight});
        }
        layout.counts.push_back(static_cast<std::uint32_t>(layout.entries.size() - before));
      }
    }

    const bool square = shape_.kernel_width == shape_.kernel_height &&
                        shape_.dilation_width == 1 &&
                        (shape_.kernel_width == 3 || shape_.kernel_width == 5 ||
                         shape_.kernel_width == 7);
    const std::int64_t middle = shape_.kernel_width / 2;
    if (square && stride_x == 1 && shape_.pad_left == middle && shape_.pad_right == middle) {
      layout.square = static_cast<int>(shape_.kernel_width);
      for (std::size_t y = 0; y < rows.size(); ++y) {
        layout.row_offsets[y] =
            static_cast<std::int32_t>(start_of(rows[y], columns[static_cast<std::size_t>(middle)]));
      }
    }
    if (square && stride_x == 2) lay_out_pairs(layout, strip_rows);
    return true;
  }

  // The panel of padded rows, if it is small enough.
  void lay_out_pairs(Layout& layout, std::int64_t strip_rows) const {
    const std::int64_t odd = shape_.pad_left % 2;
    // Columns that any output reads, from the even column that the first one is or follows.
    const std::int64_t before = shape_.pad_left + odd;
    const std::int64_t read = 2 * (layout.output_width - 1) + odd + shape_.kernel_width;
    // The pixels of the first pair are aligned.
    const std::int64_t lead = odd == 1 ? kernels_.lanes - 2 : 0;
    const std::int64_t pitch =
        round_up(std::max(before + layout.width, read), kernels_.lanes);
    const std::int64_t span = (shape_.kernel_height - 1) * shape_.dilation_height + 1;
    const std::int64_t panel_rows = (strip_rows - 1) * shape_.stride_height + span;
    // What whole vectors read too far.
    const std::int64_t behind = (2 + 2) * kMostLanes;
    layout.paired_floats = round_up(lead + panel_rows * pitch + behind, kMostLanes);
    if (layout.paired_floats > 2 * kPanelFloats) {
      layout.paired_floats = 0;
      return;
    }
    layout.paired = static_cast<int>(shape_.kernel_width);
    layout.odd_first = odd == 1;
    layout.paired_step = static_cast<int>(shape_.stride_height * pitch);
    for (std::int64_t y = 0; y < shape_.kernel_height; ++y) {
      layout.paired_rows[y] = static_cast<std::int32_t>(lead + y * shape_.dilation_height * pitch);
    }
    for (Strip& strip : layout.strips) {
      strip.paired_zeros.push_back({0, static_cast<std::int32_t>(layout.paired_floats)});
      for (std::int64_t i = 0; i < panel_rows; ++i) {
        const std::int64_t row = strip.first_row * shape_.stride_height - shape_.pad_top + i;
        if (row < 0 || row >= layout.height) continue;
        strip.paired_runs.push_back({row * layout.width,
                                     static_cast<std::int32_t>(lead + i * pitch + before), 0,
                                     static_cast<std::int32_t>(layout.width)});
      }
    }
  }

  const SparseConv& scalar() const {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (scalar_ == nullptr) {
      scalar_ = create_sparse_conv_scalar(shape_, weights_.data(), bias_.data(), epilogue_);
    }
    return *scalar_;
  }

  const Kernels& kernels_;
  const ConvShape shape_;
  const Epilogue epilogue_;
  const std::vector<float> weights_;    // [output channels, kernel height, kernel width]
  std::vector<float> bias_;             // [output channels]
  std::vector<std::uint8_t> all_kept_;  // [output channels]: no weight is zero
  mutable std::mutex mutex_;
  mutable std::vector<std::shared_ptr<const Layout>> layouts_;
  mutable std::unique_ptr<SparseConv> scalar_;
};

}  // namespace

std::unique_ptr<SparseConv> create_depthwise(const Kernels& kernels, const ConvShape& shape,
                                             const float* weights, const float* bias,
                                             const Epilogue& epilogue) {
  return std::make_unique<DepthwiseConvF32>(kernels, shape, weights, bias, epilogue);
}

}  // namespace taco4j
