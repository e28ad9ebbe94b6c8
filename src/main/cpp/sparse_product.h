// The product of activations with a constant matrix that has zeros, on the kernels of a 1x1
// convolution: those vectorise over pixels, which here are tokens.
#pragma once

#include <cstdint>
#include <memory>

#include "parallel_for.h"
#include "sparse_conv.h"

namespace taco4j {

// On which side the constant stands.
enum class ConstantSide {
  kRight,  // [batch, tokens, inputs] x [inputs, outputs]: tokens are turned into columns and back
  kLeft,   // [outputs, inputs] x [batch, inputs, tokens]: a convolution as it is
};

// Packed weights; immutable, for any number of threads at the same time.
class SparseProduct {
 public:
  // weights: as ONNX's MatMul has them, [inputs, outputs] on the right, [outputs, inputs] on the
  // left; copied. bias: [outputs], or null. Throws std::invalid_argument for sizes that cannot be.
  SparseProduct(ConstantSide side, Isa isa, std::int64_t inputs, std::int64_t outputs,
                const float* weights, const float* bias, const Epilogue& epilogue);

  // output = activation(product + bias + residual).
  // residual: null, or the shape of output, which is [batch, tokens, outputs] with the constant on
  // the right and [batch, outputs, tokens] with it on the left. batch and tokens may be 0.
  // Throws std::bad_alloc, and std::invalid_argument for sizes that cannot be.
  void run(const float* input, const float* residual, float* output, std::int64_t batch,
           std::int64_t tokens, const ParallelFor& parallel_for) const;

 private:
  void run_right(const float* input, const float* residual, float* output, std::int64_t tokens,
                 const ParallelFor& parallel_for) const;

  ConstantSide side_;
  Isa isa_;
  Activation activation_;
  ConvShape shape_;
  std::unique_ptr<SparseConv> packed_;
};

}  // namespace taco4j
