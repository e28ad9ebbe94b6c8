// tr(W G W^T) around a product Q = W G in double: W is widened before it, and row by row the sums
// of Q * W are taken after it. Bound by bytes; the product between them by FLOPs.
#include "common.cuh"

// from: [rows, cols] stride ld; to: [rows, cols], contiguous.
// Grid: (ceil(cols / 256), at most rows); block: 256.
TACO4J_KERNEL taco4j_widen_f64(const float* __restrict__ from, int ld, int rows, int cols,
                               double* to) {
  const int col = blockIdx.x * blockDim.x + threadIdx.x;
  if (col >= cols) return;
  for (int row = blockIdx.y; row < rows; row += gridDim.y) {
    to[taco4j::index(row, cols, col)] = from[taco4j::index(row, ld, col)];
  }
}

// q: [rows, cols]; w: [rows, cols], both contiguous; sums: [rows], of q * w over a row, always added up
// in the same order. Grid: rows; block: 256.
TACO4J_KERNEL taco4j_row_products_f64(const double* __restrict__ q, const double* __restrict__ w,
                                      int cols, double* sums) {
  __shared__ double scratch[32];
  double sum = 0;
  for (int col = threadIdx.x; col < cols; col += blockDim.x) {
    const long long at = taco4j::index(blockIdx.x, cols, col);
    sum += q[at] * w[at];
  }
  sum = taco4j::block_sum(sum, scratch);
  if (threadIdx.x == 0) sums[blockIdx.x] = sum;
}
