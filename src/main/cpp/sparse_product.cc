#include "sparse_product.h"

#include <algorithm>
#include <cstddef>
#include <stdexcept>
#include <vector>

#include "kernels/f32_transpose.h"
#include "kernels/scratch.h"

namespace taco4j {
namespace {

// Rows of a task: a multiple of the lanes of all vectors.
constexpr std::int64_t kBand = 16;
// Tokens are rounded up to whole vectors of any instruction set: tiles are made of them anyway, and
// are aligned then.
constexpr std::int64_t kTokens = 16;

thread_local Scratch columns_scratch;
thread_local Scratch products_scratch;

void transpose_scalar(const f32_transpose::Args& a) {
  for (std::int64_t c = 0; c < a.columns; ++c) {
    float* to = a.to + c * a.to_stride;
    for (std::int64_t r = 0; r < a.rows; ++r) {
      const float x = a.from[r * a.from_stride + c];
      to[r] = a.addend == nullptr ? x : x + a.addend[c * a.to_stride + r];
    }
    for (std::int64_t r = a.rows; r < a.to_columns; ++r) to[r] = 0.0f;
  }
}

void transpose_band(Isa isa, const f32_transpose::Args& args) {
  switch (isa) {
#if defined(__x86_64__)
    case Isa::kAvx512:
      return f32_transpose::run_avx512(args);
    case Isa::kAvx2:
      return f32_transpose::run_avx2(args);
#elif defined(__aarch64__)
    case Isa::kNeon:
      return f32_transpose::run_neon(args);
#endif
    default:
      return transpose_scalar(args);
  }
}

void transpose(Isa isa, const f32_transpose::Args& all, const ParallelFor& parallel_for) {
  const std::int64_t side = all.columns_first ? all.columns : all.rows;
  const std::int64_t bands = (side + kBand - 1) / kBand;
  parallel_for(static_cast<std::size_t>(bands), [&](std::size_t band) {
    const std::int64_t first = static_cast<std::int64_t>(band) * kBand;
    const std::int64_t size = std::min(kBand, side - first);
    f32_transpose::Args args = all;
    // The first row or column of the band, in both.
    args.from += all.columns_first ? first : first * all.from_stride;
    const std::int64_t place = all.columns_first ? first * all.to_stride : first;
    args.to += place;
    if (args.addend != nullptr) args.addend += place;
    if (all.columns_first) {
      args.columns = size;
    } else {
      args.rows = size;
      // What is behind the last row belongs to the last band.
      args.to_columns = first + kBand >= all.rows ? all.to_columns - first : kBand;
    }
    transpose_band(isa, args);
  });
}

}  // namespace

SparseProduct::SparseProduct(ConstantSide side, Isa isa, std::int64_t inputs, std::int64_t outputs,
                             const float* weights, const float* bias, const Epilogue& epilogue)
    : side_(side), isa_(isa), activation_(epilogue.activation) {
  shape_.input_channels = inputs;
  shape_.output_channels = outputs;
  check_shape(shape_);
  if (side == ConstantSide::kLeft) {
    packed_ = create_sparse_conv(isa, shape_, weights, bias, epilogue);
    return;
  }
  std::vector<float> rows(static_cast<std::size_t>(outputs * inputs));
  transpose(isa, {weights, outputs, rows.data(), inputs, nullptr, inputs, outputs, inputs, false},
            {});
  packed_ = create_sparse_conv(isa, shape_, rows.data(), bias, epilogue);
}

void SparseProduct::run(const float* input, const float* residual, float* output,
                        std::int64_t batch, std::int64_t tokens,
                        const ParallelFor& parallel_for) const {
  if (batch == 0 || tokens == 0) return;
  if (side_ == ConstantSide::kLeft) {
    check_image(shape_, batch, 1, tokens);
    packed_->run(input, residual, output, batch, 1, tokens, parallel_for);
    return;
  }
  // All tokens are alike, whatever image they are of: one long image of them.
  std::int64_t all = 0;
  if (__builtin_mul_overflow(batch, tokens, &all)) {
    throw std::invalid_argument("the input has too many tokens");
  }
  check_image(shape_, 1, 1, all);
  run_right(input, residual, output, all, parallel_for);
}

void SparseProduct::run_right(const float* input, const float* residual, float* output,
                              std::int64_t tokens, const ParallelFor& parallel_for) const {
  const std::int64_t inputs = shape_.input_channels;
  const std::int64_t outputs = shape_.output_channels;
  if (tokens == 1) {
    // A row is a column.
    packed_->run(input, residual, output, 1, 1, 1, parallel_for);
    return;
  }
  const std::int64_t padded = (tokens + kTokens - 1) / kTokens * kTokens;
  check_image(shape_, 1, 1, padded);
  ScratchLease columns_lease(columns_scratch), products_lease(products_scratch);
  float* const columns = columns_lease.floats(static_cast<std::size_t>(inputs * padded));
  float* const products = products_lease.floats(static_cast<std::size_t>(outputs * padded));
  transpose(isa_, {input, inputs, columns, padded, nullptr, tokens, inputs, padded, false},
            parallel_for);
  // Without an activation behind it, the residual can be added at the end; else the kernel does it,
  // which may read it where it writes.
  const bool adds_last = activation_ == Activation::kNone;
  const bool adds_first = residual != nullptr && !adds_last;
  if (adds_first) {
    transpose(isa_, {residual, outputs, products, padded, nullptr, tokens, outputs, padded, false},
              parallel_for);
  }
  packed_->run(columns, adds_first ? products : nullptr, products, 1, 1, padded, parallel_for);
  transpose(isa_,
            {products, padded, output, outputs, adds_last ? residual : nullptr, outputs, tokens,
             outputs, true},
            parallel_for);
}

}  // namespace taco4j
