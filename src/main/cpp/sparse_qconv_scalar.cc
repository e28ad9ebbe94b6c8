// The readable form: for each output plane, each kept weight adds a shifted and scaled input plane.
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <vector>

#include "sparse_qconv.h"

namespace taco4j {
namespace {

struct Entry {
  std::int32_t weight;
  std::int32_t channel;  // within the group
  std::int32_t kernel_y;
  std::int32_t kernel_x;
};

// The nearest byte of a grid, which is given as (byte - zero point), and that difference.
float nearest(float x, std::uint8_t zero_point) {
  const float least = -static_cast<float>(zero_point);
  const float most = 255.0f - static_cast<float>(zero_point);
  return std::nearbyint(std::min(std::max(x, least), most));
}

class SparseQConvScalar final : public SparseQConv {
 public:
  explicit SparseQConvScalar(const QuantizedConv& conv)
      : conv_(conv), shape_(conv.shape), first_sums_(first_sums(conv, conv.input.zero_point)) {
    conv_.weights = nullptr;
    conv_.weight_scales = nullptr;
    conv_.bias = nullptr;
    const std::int8_t* weights = conv.weights;
    for (std::int64_t row = 0; row < shape_.output_channels; ++row) {
      scales_.push_back(requantization_scale(conv, row));
      row_begins_.push_back(entries_.size());
      for (std::int64_t channel = 0; channel < shape_.input_channels_per_group(); ++channel) {
        for (std::int64_t y = 0; y < shape_.kernel_height; ++y) {
          for (std::int64_t x = 0; x < shape_.kernel_width; ++x) {
            const std::int32_t weight = *weights++;
            if (weight == 0) continue;
            entries_.push_back({weight, static_cast<std::int32_t>(channel),
                                static_cast<std::int32_t>(y), static_cast<std::int32_t>(x)});
          }
        }
      }
    }
    row_begins_.push_back(entries_.size());
  }

  void run(const std::uint8_t* input, const std::uint8_t* residual, std::uint8_t* output,
           std::int64_t batch, std::int64_t height, std::int64_t width,
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
  void run_plane(const std::uint8_t* input, std::int64_t row, const std::uint8_t* residual,
                 std::uint8_t* output, std::int64_t height, std::int64_t width) const {
    const std::int64_t output_height = shape_.output_height(height);
    const std::int64_t output_width = shape_.output_width(width);
    for (std::int64_t y = 0; y < output_height; ++y) {
      for (std::int64_t x = 0; x < output_width; ++x) {
        // Unsigned, because sums may wrap around.
        std::uint32_t sum = static_cast<std::uint32_t>(first_sums_[row]);
        for (std::size_t i = row_begins_[row]; i < row_begins_[row + 1]; ++i) {
          const Entry& entry = entries_[i];
          const std::int64_t from_y =
              y * shape_.stride_height + entry.kernel_y * shape_.dilation_height - shape_.pad_top;
          const std::int64_t from_x =
              x * shape_.stride_width + entry.kernel_x * shape_.dilation_width - shape_.pad_left;
          // Padding is zero: its byte is the zero point.
          if (from_y < 0 || from_y >= height || from_x < 0 || from_x >= width) continue;
          const std::int32_t byte = input[(entry.channel * height + from_y) * width + from_x];
          sum += static_cast<std::uint32_t>(entry.weight * (byte - conv_.input.zero_point));
        }
        const std::int64_t i = y * output_width + x;
        output[i] = result(static_cast<std::int32_t>(sum), scales_[row],
                           residual == nullptr ? 0 : residual[i]);
      }
    }
  }

  std::uint8_t result(std::int32_t sum, float scale, std::uint8_t residual) const {
    const float product = nearest(static_cast<float>(sum) * scale, conv_.product.zero_point);
    if (!conv_.adds) return byte_of(product, conv_.product.zero_point);
    const float operand = static_cast<float>(residual - conv_.residual.zero_point);
    const float total = product * conv_.product.scale + operand * conv_.residual.scale;
    return byte_of(nearest(total / conv_.output.scale, conv_.output.zero_point),
                   conv_.output.zero_point);
  }

  static std::uint8_t byte_of(float difference, std::uint8_t zero_point) {
    return static_cast<std::uint8_t>(static_cast<std::int32_t>(difference) + zero_point);
  }

  QuantizedConv conv_;  // without the arrays
  ConvShape shape_;
  // With the zero point as offset: the bias alone.
  std::vector<std::int32_t> first_sums_;
  std::vector<float> scales_;            // [output_channels]
  std::vector<Entry> entries_;           // row after row
  std::vector<std::size_t> row_begins_;  // [output_channels + 1]
};

class SparseQProductScalar final : public SparseQProduct {
 public:
  explicit SparseQProductScalar(const QuantizedProduct& product)
      : product_(product), weights_(transposed_weights(product)) {
    for (std::int64_t o = 0; o < product.outputs; ++o) {
      scales_.push_back(requantization_scale(product, o));
      bias_.push_back(product.bias == nullptr ? 0 : product.bias[o]);
      float_bias_.push_back(product.float_bias == nullptr ? 0.0f : product.float_bias[o]);
    }
    product_.weights = nullptr;
    product_.weight_scales = product_.float_bias = nullptr;
    product_.bias = nullptr;
  }

  void run(const std::uint8_t* input, const float* residual, void* output, std::int64_t tokens,
           const ParallelFor& parallel_for) const override {
    const std::int64_t outputs = product_.outputs;
    parallel_for(static_cast<std::size_t>(tokens), [&](std::size_t token) {
      const std::uint8_t* x = input + static_cast<std::int64_t>(token) * product_.inputs;
      for (std::int64_t o = 0; o < outputs; ++o) {
        const std::int64_t at = static_cast<std::int64_t>(token) * outputs + o;
        const std::int32_t sum = sum_of(x, o);
        const float scaled = static_cast<float>(sum) * scales_[o];
        if (product_.result == QuantizedProduct::Result::kBytes) {
          const std::uint8_t zero_point = product_.output.zero_point;
          static_cast<std::uint8_t*>(output)[at] = static_cast<std::uint8_t>(
              static_cast<std::int32_t>(nearest(scaled, zero_point)) + zero_point);
        } else {
          const float y = scaled + float_bias_[o];
          static_cast<float*>(output)[at] =
              activate(product_.epilogue, residual == nullptr ? y : y + residual[at]);
        }
      }
    });
  }

 private:
  std::int32_t sum_of(const std::uint8_t* x, std::int64_t o) const {
    std::uint32_t sum = static_cast<std::uint32_t>(bias_[o]);
    for (std::int64_t i = 0; i < product_.inputs; ++i) {
      const std::int32_t weight = weights_[static_cast<std::size_t>(o * product_.inputs + i)];
      sum += static_cast<std::uint32_t>(weight * (x[i] - product_.input.zero_point));
    }
    return static_cast<std::int32_t>(sum);
  }

  QuantizedProduct product_;          // without the arrays
  std::vector<std::int8_t> weights_;  // [outputs, inputs]
  std::vector<float> scales_;         // [outputs]
  std::vector<std::int32_t> bias_;    // [outputs]
  std::vector<float> float_bias_;     // [outputs]
};

}  // namespace

std::unique_ptr<SparseQProduct> create_sparse_qproduct_scalar(const QuantizedProduct& product) {
  return std::make_unique<SparseQProductScalar>(product);
}

std::unique_ptr<SparseQConv> create_sparse_qconv_scalar(const QuantizedConv& conv) {
  return std::make_unique<SparseQConvScalar>(conv);
}

}  // namespace taco4j
