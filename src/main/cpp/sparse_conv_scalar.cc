// The readable form: for each output plane, each kept weight adds a shifted and scaled input plane.
#include <algorithm>
#include <cstddef>
#include <vector>

#include "sparse_conv.h"

namespace taco4j {
namespace {

struct Entry {
  float weight;
  std::int32_t channel;  // within the group
  std::int32_t kernel_y;
  std::int32_t kernel_x;
};

// Output positions whose input position, position * stride + offset, lies in [0, size).
struct Range {
  std::int64_t begin;
  std::int64_t end;
};

Range valid_positions(std::int64_t offset, std::int64_t stride, std::int64_t size,
                      std::int64_t positions) {
  const std::int64_t begin = offset >= 0 ? 0 : (-offset + stride - 1) / stride;
  const std::int64_t end = offset >= size ? 0 : (size - 1 - offset) / stride + 1;
  return {begin, std::min(end, positions)};
}

class SparseConvScalar final : public SparseConv {
 public:
  SparseConvScalar(const ConvShape& shape, const float* weights, const float* bias,
                   const Epilogue& epilogue)
      : shape_(shape), epilogue_(epilogue), bias_(shape.output_channels) {
    if (bias != nullptr) std::copy_n(bias, shape.output_channels, bias_.begin());
    row_begins_.reserve(shape.output_channels + 1);
    for (std::int64_t row = 0; row < shape.output_channels; ++row) {
      row_begins_.push_back(entries_.size());
      for (std::int64_t channel = 0; channel < shape.input_channels_per_group(); ++channel) {
        for (std::int64_t y = 0; y < shape.kernel_height; ++y) {
          for (std::int64_t x = 0; x < shape.kernel_width; ++x) {
            const float weight = *weights++;
            if (weight == 0.0f) continue;
            entries_.push_back({weight, static_cast<std::int32_t>(channel),
                                static_cast<std::int32_t>(y), static_cast<std::int32_t>(x)});
          }
        }
      }
    }
    row_begins_.push_back(entries_.size());
  }

  void run(const float* input, const float* residual, float* output, std::int64_t batch,
           std::int64_t height, std::int64_t width,
           const ParallelFor& parallel_for) const override {
    const std::int64_t output_plane = shape_.output_height(height) * shape_.output_width(width);
    parallel_for(static_cast<std::size_t>(batch * shape_.output_channels), [&](std::size_t task) {
      const std::int64_t image = static_cast<std::int64_t>(task) / shape_.output_channels;
      const std::int64_t row = static_cast<std::int64_t>(task) % shape_.output_channels;
      const std::int64_t group = row / shape_.output_channels_per_group();
      const std::int64_t channel =
          image * shape_.input_channels + group * shape_.input_channels_per_group();
      const std::int64_t start = static_cast<std::int64_t>(task) * output_plane;
      run_plane(input + channel * height * width, row,
                residual == nullptr ? nullptr : residual + start, output + start, height, width);
    });
  }

 private:
  // input: [input_channels_per_group, height, width]; residual, output: one plane.
  void run_plane(const float* input, std::int64_t row, const float* residual, float* output,
                 std::int64_t height, std::int64_t width) const {
    const std::int64_t output_height = shape_.output_height(height);
    const std::int64_t output_width = shape_.output_width(width);
    // Output may be the residual: sums must not go there before the residual has been read.
    std::vector<float> sums(static_cast<std::size_t>(output_height * output_width), bias_[row]);
    for (std::size_t i = row_begins_[row]; i < row_begins_[row + 1]; ++i) {
      const Entry& entry = entries_[i];
      const std::int64_t offset_y = entry.kernel_y * shape_.dilation_height - shape_.pad_top;
      const std::int64_t offset_x = entry.kernel_x * shape_.dilation_width - shape_.pad_left;
      const Range rows = valid_positions(offset_y, shape_.stride_height, height, output_height);
      const Range columns = valid_positions(offset_x, shape_.stride_width, width, output_width);
      const float* plane = input + entry.channel * height * width;
      for (std::int64_t y = rows.begin; y < rows.end; ++y) {
        const float* line = plane + (y * shape_.stride_height + offset_y) * width;
        float* sum = sums.data() + y * output_width;
        for (std::int64_t x = columns.begin; x < columns.end; ++x) {
          sum[x] += entry.weight * line[x * shape_.stride_width + offset_x];
        }
      }
    }
    for (std::size_t i = 0; i < sums.size(); ++i) {
      const float sum = residual == nullptr ? sums[i] : sums[i] + residual[i];
      output[i] = activate(epilogue_, sum);
    }
  }

  ConvShape shape_;
  Epilogue epilogue_;
  std::vector<float> bias_;             // [output_channels]
  std::vector<Entry> entries_;          // row after row
  std::vector<std::size_t> row_begins_;  // [output_channels + 1]
};

}  // namespace

std::unique_ptr<SparseConv> create_sparse_conv_scalar(const ConvShape& shape, const float* weights,
                                                      const float* bias,
                                                      const Epilogue& epilogue) {
  return std::make_unique<SparseConvScalar>(shape, weights, bias, epilogue);
}

}  // namespace taco4j
