// A convolution of bytes whose weights have zeros: 8-bit activations and weights, sums of 32 bits,
// results rounded to bytes again. To the bit what ONNX's QLinearConv gives; packed once and run many
// times, as sparse_conv.h is for float32.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "isa.h"
#include "parallel_for.h"
#include "sparse_conv.h"

namespace taco4j {

// What the bytes of a tensor stand for: (byte - zero_point) * scale.
struct Quantization {
  float scale = 1.0f;
  std::uint8_t zero_point = 0;
};

// Everything that decides a quantised convolution except the size of the image.
struct QuantizedConv {
  ConvShape shape;
  const std::int8_t* weights = nullptr;  // dense, in the shape of ConvShape
  const float* weight_scales = nullptr;  // [output_channels]
  const std::int32_t* bias = nullptr;    // [output_channels], in units of input times weight scale;
                                         // or null for none
  Quantization input;
  // Sums are rounded to this grid: sum * (input.scale * weight_scale / product.scale), to the
  // nearest integer, of two the even one; + zero point; saturated.
  Quantization product;
  // With a residual both operands are dequantised and added, and the sum is divided by output.scale
  // and rounded likewise. Without one, product is the output's.
  bool adds = false;
  Quantization residual;
  Quantization output;
};

// Throws std::invalid_argument, saying what is wrong: besides the shape, scales that are not
// positive and finite, or whose ratio is not. A weight's scale may be 0.
void check_quantized_conv(const QuantizedConv& conv);

// input.scale * weight_scale / product.scale, as ONNX Runtime rounds it.
float requantization_scale(const QuantizedConv& conv, std::int64_t row);

// Where the sums of an output channel begin, so that (input - offset) * weight may be summed instead
// of (input - zero point) * weight: its bias and what the zero point makes of its weights. Sums wrap
// around, as ONNX Runtime's do.
std::vector<std::int32_t> first_sums(const QuantizedConv& conv, std::uint8_t offset);

// Packed weights. Immutable once made: several threads may run one object at the same time.
class SparseQConv {
 public:
  virtual ~SparseQConv() = default;

  // As SparseConv::run, with bytes. residual: the shape of output where the convolution adds one,
  // else null; it may be output itself.
  virtual void run(const std::uint8_t* input, const std::uint8_t* residual, std::uint8_t* output,
                   std::int64_t batch, std::int64_t height, std::int64_t width,
                   const ParallelFor& parallel_for) const = 0;
};

// Packs; the arrays are copied. The caller has called check_quantized_conv. Weights are skipped where
// those of four consecutive input channels are all zero for one tap. Throws std::bad_alloc.
using SparseQConvFactory = std::unique_ptr<SparseQConv> (*)(const QuantizedConv& conv);

// The twin that others are tested against. Any shape.
std::unique_ptr<SparseQConv> create_sparse_qconv_scalar(const QuantizedConv& conv);

// A product of bytes with a constant matrix: [tokens, inputs] x [inputs, outputs]. Its sums are
// 32-bit integers; the result is bytes again or floats.
struct QuantizedProduct {
  enum class Result { kBytes, kFloats };

  std::int64_t inputs = 0;
  std::int64_t outputs = 0;
  const std::int8_t* weights = nullptr;  // [inputs, outputs]
  const float* weight_scales = nullptr;  // [outputs]
  Quantization input;
  Result result = Result::kBytes;
  // kBytes: as QuantizedConv without a residual.
  const std::int32_t* bias = nullptr;  // [outputs], or null
  Quantization output;
  // kFloats: activation(sum * (input.scale * weight_scale) + float_bias + residual).
  const float* float_bias = nullptr;  // [outputs], or null
  Epilogue epilogue;
};

// Throws std::invalid_argument, as check_quantized_conv.
void check_quantized_product(const QuantizedProduct& product);

// By what a sum is multiplied.
float requantization_scale(const QuantizedProduct& product, std::int64_t column);

// The weights with outputs first: [outputs, inputs].
std::vector<std::int8_t> transposed_weights(const QuantizedProduct& product);

// Packed weights; immutable, for any number of threads at the same time.
class SparseQProduct {
 public:
  virtual ~SparseQProduct() = default;

  // input: [tokens, inputs]. residual: null, or [tokens, outputs] where the result is floats.
  // output: [tokens, outputs], bytes or floats as the product was made; it may be the residual.
  // tokens is at least 1, and inputs, outputs and sums of them stay below 2^61.
  virtual void run(const std::uint8_t* input, const float* residual, void* output,
                   std::int64_t tokens, const ParallelFor& parallel_for) const = 0;
};

using SparseQProductFactory = std::unique_ptr<SparseQProduct> (*)(const QuantizedProduct& product);

// The twin.
std::unique_ptr<SparseQProduct> create_sparse_qproduct_scalar(const QuantizedProduct& product);

// Kernels that this processor runs. An instruction set may have several: with and without
// instructions for dot products of bytes.
struct QConvKernels {
  const char* name;  // "avx512vnni"
  Isa isa;
  SparseQConvFactory create;
  SparseQProductFactory create_product;
};

// Best first; the scalar form is the last.
std::vector<QConvKernels> available_qconv_kernels();

// Those that the environment variable TACO4J_ISA names, or the best there are. Throws
// std::invalid_argument where it names what is not available: a forced choice never falls back.
QConvKernels choose_qconv_kernels();

}  // namespace taco4j
