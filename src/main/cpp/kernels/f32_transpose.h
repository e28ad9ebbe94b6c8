// Matrices are turned around, a vector of rows at a time.
#pragma once

#include <cstdint>

namespace taco4j::f32_transpose {

// to[c, r] = from[r, c] + addend[c, r], where the addend may be null, or `to` itself. Rows are
// `stride` floats apart. Columns of `to` behind the last row become zero, up to to_columns.
struct Args {
  const float* from;
  std::int64_t from_stride;
  float* to;
  std::int64_t to_stride;
  const float* addend;  // with the rows of `to`, and its stride
  std::int64_t rows, columns;
  std::int64_t to_columns;  // at least `rows`
  bool columns_first;       // walk down the rows of a few columns, so that `to` is written in order
};

void run_avx512(const Args& args);
void run_avx2(const Args& args);
void run_neon(const Args& args);

}  // namespace taco4j::f32_transpose
