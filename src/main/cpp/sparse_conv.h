// A convolution whose weights have zeros, packed once and run many times. This is the internal
// interface behind both the ONNX Runtime operator and the C ABI; each instruction set implements
// SparseConv.
#pragma once

#include <cstdint>
#include <limits>
#include <memory>
#include <vector>

#include "isa.h"
#include "parallel_for.h"

namespace taco4j {

// Everything that decides a 2-D convolution except the size of the image, in ONNX's terms.
// Weights: [output_channels, input_channels / groups, kernel_height, kernel_width].
struct ConvShape {
  std::int64_t output_channels = 0;
  std::int64_t input_channels = 0;
  std::int64_t groups = 1;
  std::int64_t kernel_height = 1;
  std::int64_t kernel_width = 1;
  std::int64_t stride_height = 1;
  std::int64_t stride_width = 1;
  std::int64_t dilation_height = 1;
  std::int64_t dilation_width = 1;
  std::int64_t pad_top = 0;
  std::int64_t pad_left = 0;
  std::int64_t pad_bottom = 0;
  std::int64_t pad_right = 0;

  std::int64_t input_channels_per_group() const { return input_channels / groups; }
  std::int64_t output_channels_per_group() const { return output_channels / groups; }
  std::int64_t weights_per_row() const {
    return input_channels_per_group() * kernel_height * kernel_width;
  }

  // Less than 1 where the kernel does not fit into the padded image.
  std::int64_t output_height(std::int64_t height) const {
    return output_size(height + pad_top + pad_bottom, kernel_height, dilation_height,
                       stride_height);
  }
  std::int64_t output_width(std::int64_t width) const {
    return output_size(width + pad_left + pad_right, kernel_width, dilation_width, stride_width);
  }

 private:
  static std::int64_t output_size(std::int64_t padded, std::int64_t kernel, std::int64_t dilation,
                                  std::int64_t stride) {
    const std::int64_t room = padded - ((kernel - 1) * dilation + 1);
    return room < 0 ? 0 : room / stride + 1;
  }
};

// Throw std::invalid_argument, saying which number is wrong. What they let pass has channels,
// kernels, strides and dilations of at least 1, pads of at least 0, a kernel that fits into the
// padded image, every single number below 2^31, and fewer than 2^61 weights, inputs and outputs.
// A batch of 0 passes.
void check_shape(const ConvShape& shape);
void check_image(const ConvShape& shape, std::int64_t batch, std::int64_t height,
                 std::int64_t width);

enum class Activation {
  kNone,
  kRelu,       // max(x, 0)
  kClip,       // min(max(x, minimum), maximum)
  kHardSwish,  // x * min(max(x / 6 + 0.5, 0), 1)
  kSilu,       // x / (1 + exp(-x)), which is x * Sigmoid(x)
  kGelu,       // x / 2 * (1 + erf(x / sqrt(2)))
};

// What happens to a sum before it is stored: bias, then residual, then activation. NaN stays NaN
// through every activation.
struct Epilogue {
  Activation activation = Activation::kNone;
  float minimum = -std::numeric_limits<float>::infinity();  // kClip only
  float maximum = std::numeric_limits<float>::infinity();   // kClip only
};

// x after the activation; what vector kernels must agree with.
float activate(const Epilogue& epilogue, float x);

// Packed weights. Immutable once made: several threads may run one object at the same time.
class SparseConv {
 public:
  virtual ~SparseConv() = default;

  // input: [batch, input_channels, height, width]
  // residual: null, or the shape of output; may be output itself, never overlaps it in part
  // output: [batch, output_channels, output_height(height), output_width(width)]
  // All float32, row-major, no alignment assumed; output does not overlap input. The caller has
  // called check_image; batch is at least 1.
  // Each output value is computed by one task in one order: results depend neither on the number
  // of threads nor on the batch an image is in.
  // Throws std::bad_alloc for scratch memory that there is not.
  virtual void run(const float* input, const float* residual, float* output, std::int64_t batch,
                   std::int64_t height, std::int64_t width,
                   const ParallelFor& parallel_for) const = 0;
};

// Packs. weights: dense, in the shape of ConvShape, copied; zeros (of either sign) are left out,
// but the few that kernels for blocks keep; all else is kept, NaN included. A zero may hide a NaN or
// an infinity of the input or not. bias: [output_channels], copied, or null for none. The caller has
// called check_shape. Throws std::bad_alloc.
using SparseConvFactory = std::unique_ptr<SparseConv> (*)(const ConvShape& shape,
                                                          const float* weights, const float* bias,
                                                          const Epilogue& epilogue);

// The twin that others are tested against. Any shape, any activation.
std::unique_ptr<SparseConv> create_sparse_conv_scalar(const ConvShape& shape, const float* weights,
                                                      const float* bias,
                                                      const Epilogue& epilogue);

// The instruction sets which this library has kernels for and this processor runs, best first.
// kScalar is always the last.
std::vector<Isa> available_isas();

// The instruction set of the kernels that the environment variable TACO4J_ISA names, as
// choose_qconv_kernels() of sparse_qconv.h knows them, or the best there is. Throws
// std::invalid_argument where it names what is not available: a forced choice never falls back.
Isa choose_isa();

// isa: one of available_isas().
std::unique_ptr<SparseConv> create_sparse_conv(Isa isa, const ConvShape& shape,
                                               const float* weights, const float* bias,
                                               const Epilogue& epilogue);

}  // namespace taco4j
