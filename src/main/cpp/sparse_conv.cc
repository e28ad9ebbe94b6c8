#include "sparse_conv.h"

#include <cmath>
#include <initializer_list>
#include <stdexcept>
#include <string>

#include "kernels/f32_spconv_create.h"
#include "sparse_qconv.h"

namespace taco4j {
namespace {

struct Implementation {
  Isa isa;
  SparseConvFactory create;
};

// Best first. An instruction set stands here where it was compiled.
constexpr Implementation kImplementations[] = {
#if defined(__x86_64__)
    {Isa::kAvx512, create_sparse_conv_avx512},
    {Isa::kAvx2, create_sparse_conv_avx2},
#elif defined(__aarch64__)
    {Isa::kNeon, create_sparse_conv_neon},
#endif
    {Isa::kScalar, create_sparse_conv_scalar},
};

constexpr std::int64_t kLargest = std::numeric_limits<std::int32_t>::max();
constexpr std::int64_t kMostElements = std::int64_t{1} << 61;

void check_range(const char* what, std::int64_t value, std::int64_t least) {
  if (value < least || value > kLargest) {
    throw std::invalid_argument(std::string(what) + " is " + std::to_string(value) +
                                "; it must be from " + std::to_string(least) + " to " +
                                std::to_string(kLargest));
  }
}

void check_elements(const char* what, std::initializer_list<std::int64_t> sizes) {
  std::int64_t product = 1;
  for (std::int64_t size : sizes) {
    if (size > 0 && product > kMostElements / size) {
      throw std::invalid_argument(std::string(what) + " has too many elements");
    }
    product *= size;
  }
}

}  // namespace

void check_shape(const ConvShape& shape) {
  check_range("output channels", shape.output_channels, 1);
  check_range("input channels", shape.input_channels, 1);
  check_range("groups", shape.groups, 1);
  check_range("kernel height", shape.kernel_height, 1);
  check_range("kernel width", shape.kernel_width, 1);
  check_range("stride height", shape.stride_height, 1);
  check_range("stride width", shape.stride_width, 1);
  check_range("dilation height", shape.dilation_height, 1);
  check_range("dilation width", shape.dilation_width, 1);
  check_range("top pad", shape.pad_top, 0);
  check_range("left pad", shape.pad_left, 0);
  check_range("bottom pad", shape.pad_bottom, 0);
  check_range("right pad", shape.pad_right, 0);
  if (shape.input_channels % shape.groups != 0 || shape.output_channels % shape.groups != 0) {
    throw std::invalid_argument(std::to_string(shape.groups) + " groups do not divide " +
                                std::to_string(shape.input_channels) + " input and " +
                                std::to_string(shape.output_channels) + " output channels");
  }
  check_elements("the weight", {shape.output_channels, shape.input_channels_per_group(),
                                shape.kernel_height, shape.kernel_width});
}

void check_image(const ConvShape& shape, std::int64_t batch, std::int64_t height,
                 std::int64_t width) {
  check_range("batch", batch, 0);
  check_range("image height", height, 1);
  check_range("image width", width, 1);
  const std::int64_t output_height = shape.output_height(height);
  const std::int64_t output_width = shape.output_width(width);
  if (output_height < 1 || output_width < 1) {
    throw std::invalid_argument("an image of " + std::to_string(height) + " x " +
                                std::to_string(width) + " is smaller than the kernel of " +
                                std::to_string(shape.kernel_height) + " x " +
                                std::to_string(shape.kernel_width));
  }
  check_range("output height", output_height, 1);
  check_range("output width", output_width, 1);
  check_elements("the input", {batch, shape.input_channels, height, width});
  check_elements("the output", {batch, shape.output_channels, output_height, output_width});
}

float activate(const Epilogue& epilogue, float x) {
  // Comparisons are written such that NaN falls through them.
  switch (epilogue.activation) {
    case Activation::kNone:
      return x;
    case Activation::kRelu:
      return x < 0.0f ? 0.0f : x;
    case Activation::kClip:
      x = x < epilogue.minimum ? epilogue.minimum : x;
      return x > epilogue.maximum ? epilogue.maximum : x;
    case Activation::kHardSwish: {
      float gate = x * (1.0f / 6.0f) + 0.5f;
      gate = gate < 0.0f ? 0.0f : gate;
      gate = gate > 1.0f ? 1.0f : gate;
      return x * gate;
    }
    case Activation::kSilu:
      return x * (1.0f / (1.0f + std::exp(-x)));
    case Activation::kGelu:
      return 0.5f * x * (1.0f + std::erf(x * 0.70710678f));
  }
  return x;
}

std::vector<Isa> available_isas() {
  std::vector<Isa> available;
  for (const Implementation& implementation : kImplementations) {
    if (processor_has(implementation.isa)) available.push_back(implementation.isa);
  }
  return available;
}

// Each instruction set has kernels for bytes of its name, and some have others.
Isa choose_isa() { return choose_qconv_kernels().isa; }

std::unique_ptr<SparseConv> create_sparse_conv(Isa isa, const ConvShape& shape,
                                               const float* weights, const float* bias,
                                               const Epilogue& epilogue) {
  for (const Implementation& implementation : kImplementations) {
    if (implementation.isa == isa) return implementation.create(shape, weights, bias, epilogue);
  }
  throw std::invalid_argument("no kernels for " + std::string(isa_name(isa)));
}

}  // namespace taco4j
