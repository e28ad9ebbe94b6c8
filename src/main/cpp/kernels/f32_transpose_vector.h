// Transposition in registers, written once on the compiler's vector types, as f32_spconv_vector.h is:
// a square of vectors, whose first half is interleaved with its second again and again, until each
// column is a vector.
#include "f32_transpose.h"
#include "f32_vector.h"

namespace taco4j::f32_transpose {
namespace TACO4J_KERNEL_NAMESPACE {
namespace {

using namespace f32_vector::TACO4J_KERNEL_NAMESPACE;

// Lanes of a and b in turn, from the first ones or from the middle on.
template <bool kHigh, int... kIndex>
TACO4J_INLINE Vector interleave(Vector a, Vector b, std::integer_sequence<int, kIndex...>) {
  return shuffle(a, b,
                 std::integer_sequence<int, (kHigh ? kLanes / 2 : 0) + kIndex / 2 +
                                                kIndex % 2 * kLanes...>());
}

TACO4J_INLINE void transpose(Vector (&square)[kLanes]) {
  constexpr auto kIndices = std::make_integer_sequence<int, kLanes>();
#pragma GCC unroll 4
  for (int step = 1; step < kLanes; step *= 2) {
    Vector next[kLanes];
#pragma GCC unroll 16
    for (int i = 0; i < kLanes / 2; ++i) {
      next[2 * i] = interleave<false>(square[i], square[i + kLanes / 2], kIndices);
      next[2 * i + 1] = interleave<true>(square[i], square[i + kLanes / 2], kIndices);
    }
#pragma GCC unroll 16
    for (int i = 0; i < kLanes; ++i) square[i] = next[i];
  }
}

// Fewer rows or columns than a vector has lanes, or none.
void edge(const Args& a, std::int64_t row, std::int64_t column) {
  const std::int64_t rows_left = a.rows - row;
  const std::int64_t columns_left = a.columns - column;
  const int rows = static_cast<int>(rows_left < 0 ? 0 : rows_left < kLanes ? rows_left : kLanes);
  const int columns = static_cast<int>(columns_left < kLanes ? columns_left : kLanes);
  const std::int64_t to_left = a.to_columns - row;
  const int to_columns = static_cast<int>(to_left < kLanes ? to_left : kLanes);
  Vector square[kLanes] = {};
  for (int r = 0; r < rows; ++r) {
    square[r] = load_first(a.from + (row + r) * a.from_stride + column, columns);
  }
  transpose(square);
  for (int c = 0; c < columns; ++c) {
    const std::int64_t place = (column + c) * a.to_stride + row;
    Vector x = square[c];
    if (a.addend != nullptr) x += load_first(a.addend + place, rows);
    store_first(a.to + place, x, to_columns);
  }
}

TACO4J_INLINE void block(const Args& a, std::int64_t row, std::int64_t column) {
  const float* const from = a.from + row * a.from_stride + column;
  const std::int64_t place = column * a.to_stride + row;
  // What comes next: rows are pages apart, which hardware does not foresee.
  const float* const next =
      from + (a.columns_first ? kLanes * a.from_stride : static_cast<std::int64_t>(kLanes));
  Vector square[kLanes];
#pragma GCC unroll 16
  for (int r = 0; r < kLanes; ++r) {
    __builtin_prefetch(next + r * a.from_stride, 0);
    square[r] = load_unaligned(from + r * a.from_stride);
  }
  transpose(square);
  if (a.addend != nullptr) {
#pragma GCC unroll 16
    for (int c = 0; c < kLanes; ++c) {
      square[c] += load_unaligned(a.addend + place + c * a.to_stride);
    }
  }
#pragma GCC unroll 16
  for (int c = 0; c < kLanes; ++c) store_unaligned(a.to + place + c * a.to_stride, square[c]);
}

TACO4J_INLINE void block_or_edge(const Args& a, std::int64_t row, std::int64_t column) {
  if (row + kLanes <= a.rows && column + kLanes <= a.columns) {
    block(a, row, column);
  } else {
    edge(a, row, column);
  }
}

void run(const Args& a) {
  if (a.columns_first) {
    for (std::int64_t column = 0; column < a.columns; column += kLanes) {
      for (std::int64_t row = 0; row < a.to_columns; row += kLanes) block_or_edge(a, row, column);
    }
    return;
  }
  for (std::int64_t row = 0; row < a.to_columns; row += kLanes) {
    for (std::int64_t column = 0; column < a.columns; column += kLanes) {
      block_or_edge(a, row, column);
    }
  }
}

}  // namespace
}  // namespace TACO4J_KERNEL_NAMESPACE
}  // namespace taco4j::f32_transpose
