#include "sparse_product.h"

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <stdexcept>

namespace taco4j {
namespace {

// Rows and columns of a piece that stays in the first-level cache, and of one in registers.
constexpr std::int64_t kBlock = 16;
constexpr std::int64_t kQuad = 4;

using Quad = float __attribute__((vector_size(kQuad * sizeof(float))));

Quad load(const float* from) {
  Quad value;
  std::memcpy(&value, from, sizeof(value));
  return value;
}

void store(float* to, Quad value) { std::memcpy(to, &value, sizeof(value)); }

// to[c, r] = from[r, c] for four rows of four.
void transpose_quad(const float* from, std::int64_t stride, float* to, std::int64_t to_stride) {
  const Quad a = load(from);
  const Quad b = load(from + stride);
  const Quad c = load(from + 2 * stride);
  const Quad d = load(from + 3 * stride);
  const Quad ab_low = __builtin_shufflevector(a, b, 0, 4, 1, 5);
  const Quad ab_high = __builtin_shufflevector(a, b, 2, 6, 3, 7);
  const Quad cd_low = __builtin_shufflevector(c, d, 0, 4, 1, 5);
  const Quad cd_high = __builtin_shufflevector(c, d, 2, 6, 3, 7);
  store(to, __builtin_shufflevector(ab_low, cd_low, 0, 1, 4, 5));
  store(to + to_stride, __builtin_shufflevector(ab_low, cd_low, 2, 3, 6, 7));
  store(to + 2 * to_stride, __builtin_shufflevector(ab_high, cd_high, 0, 1, 4, 5));
  store(to + 3 * to_stride, __builtin_shufflevector(ab_high, cd_high, 2, 3, 6, 7));
}

// to[c, r] = from[r, c] for a piece of at most kBlock x kBlock. By way of a block of its own:
// stores 4 KB apart would hold up the loads.
void transpose_block(const float* from, std::int64_t from_stride, float* to,
                     std::int64_t to_stride, std::int64_t rows, std::int64_t columns) {
  alignas(64) float block[kBlock][kBlock];
  if (rows == kBlock && columns == kBlock) {
    for (std::int64_t r = 0; r < kBlock; r += kQuad) {
      for (std::int64_t c = 0; c < kBlock; c += kQuad) {
        transpose_quad(from + r * from_stride + c, from_stride, &block[c][r], kBlock);
      }
    }
    // The known size makes these whole vectors.
    for (std::int64_t c = 0; c < kBlock; ++c) std::copy_n(block[c], kBlock, to + c * to_stride);
    return;
  }
  for (std::int64_t r = 0; r < rows; ++r) {
    for (std::int64_t c = 0; c < columns; ++c) block[c][r] = from[r * from_stride + c];
  }
  for (std::int64_t c = 0; c < columns; ++c) std::copy_n(block[c], rows, to + c * to_stride);
}

// from: [rows, columns]; to: [columns, rows]; both row-major.
void transpose(const float* from, std::int64_t rows, std::int64_t columns, float* to,
               const ParallelFor& parallel_for) {
  const std::int64_t bands = (rows + kBlock - 1) / kBlock;
  parallel_for(static_cast<std::size_t>(bands), [&](std::size_t band) {
    const std::int64_t row = static_cast<std::int64_t>(band) * kBlock;
    const std::int64_t height = std::min(kBlock, rows - row);
    for (std::int64_t column = 0; column < columns; column += kBlock) {
      transpose_block(from + row * columns + column, columns, to + column * rows + row, rows,
                      height, std::min(kBlock, columns - column));
    }
  });
}

// Not cleared, as a vector would be.
std::unique_ptr<float[]> scratch(std::int64_t rows, std::int64_t columns) {
  return std::unique_ptr<float[]>(new float[static_cast<std::size_t>(rows * columns)]);
}

}  // namespace

SparseProduct::SparseProduct(ConstantSide side, Isa isa, std::int64_t inputs, std::int64_t outputs,
                             const float* weights, const float* bias, const Epilogue& epilogue)
    : side_(side) {
  shape_.input_channels = inputs;
  shape_.output_channels = outputs;
  check_shape(shape_);
  if (side == ConstantSide::kLeft) {
    packed_ = create_sparse_conv(isa, shape_, weights, bias, epilogue);
    return;
  }
  const std::unique_ptr<float[]> rows = scratch(outputs, inputs);
  transpose(weights, inputs, outputs, rows.get(), {});
  packed_ = create_sparse_conv(isa, shape_, rows.get(), bias, epilogue);
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
  const std::unique_ptr<float[]> columns = scratch(inputs, tokens);
  const std::unique_ptr<float[]> products = scratch(outputs, tokens);
  transpose(input, tokens, inputs, columns.get(), parallel_for);
  // The kernel may read the residual where it writes.
  if (residual != nullptr) transpose(residual, tokens, outputs, products.get(), parallel_for);
  packed_->run(columns.get(), residual == nullptr ? nullptr : products.get(), products.get(), 1, 1,
               tokens, parallel_for);
  transpose(products.get(), outputs, tokens, output, parallel_for);
}

}  // namespace taco4j
