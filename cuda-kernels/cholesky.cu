// A = L L^T in place, in steps of 64 columns, without the host: the diagonal block, the panel below
// it, then the trailing update by gemm.cu with the lower triangle (or cuBLAS).
//
// The panel is multiplied by the inverse of the diagonal block instead of solved with it: a product
// like any other, at an error that grows with the condition of that block only. The trailing update,
// all but n^2 of the work, reads and writes each element once for 64 multiply-adds, at the bound of
// FLOPs and that of bytes alike; the diagonal blocks are bound by latency (factor_tile.cuh), n / 64 of
// them one after the other.
//
// flag: [1], -1, or the index of the first pivot that is not positive and finite. It is started anew
// by the diagonal block at column 0; all later kernels return at once where it is set, so that nobody
// needs to look before the end.
#include "factor_tile.cuh"

namespace {

using namespace taco4j;

template <typename T>
__device__ __forceinline__ void diagonal(T* a, int lda, int first, int size, T* inverse, int* flag) {
  if (first > 0 && *flag >= 0) return;
  T tile[kSlots][kSlots];
  T inverse_tile[kSlots][kSlots];
  T* block = a + index(first, lda, first);
  load_lower(block, lda, size, tile);
  const int failed = factor_tile<T, true>(size, tile, inverse_tile);
  if (threadIdx.x == 0 && (first == 0 || failed >= 0)) *flag = failed < 0 ? -1 : first + failed;
  if (failed >= 0) return;
  store_square<T, true>(tile, size, block, lda);
  store_square<T, false>(inverse_tile, kBlock, inverse, kBlock);
}

template <typename T>
__device__ __forceinline__ void panel(T* a, int lda, int n, int first, int size, const T* inverse,
                                      const int* flag) {
  if (*flag >= 0) return;
  T* below = a + index(first + size, lda, first);
  const int rows = n - first - size;
  const int first_row = blockIdx.x * kBlock;
  T sums[kSlots][kSlots];
  // A block reads its own rows only, and writes them when all of it has read.
  multiply_tile<T, kBlock, kBlock, 8>(left_operand<T>(below, lda, false),
                                      right_operand<T>(inverse, kBlock, true), first_row, rows, 0,
                                      size, 0, size, sums);
#pragma unroll
  for (int i = 0; i < kSlots; i++) {
    const int row = first_row + tile_line<T>(tile_row_thread(), i);
#pragma unroll
    for (int j = 0; j < kSlots; j++) {
      const int col = tile_line<T>(tile_col_thread(), j);
      if (row < rows && col < size) below[index(row, lda, col)] = sums[i][j];
    }
  }
}

template <typename T>
__device__ __forceinline__ void check_pivots(const T* l, int ld, int n, int* flag) {
  __shared__ int values[kWarp];
  __shared__ int indices[kWarp];
  const int info = *flag;
  Candidate<int> first{n, 0};
  for (int i = threadIdx.x; i < n && (info <= 0 || i < info); i += blockDim.x) {
    const T pivot = l[index(i, ld, i)];
    // Written so that NaN fails too.
    if (!(pivot > T(0) && pivot - pivot == T(0))) first.value = min(first.value, i);
  }
  first = block_min(first, values, indices);
  if (threadIdx.x == 0) {
    const int failed = info > 0 ? min(info - 1, first.value) : first.value;
    *flag = failed < n ? failed : -1;
  }
}

}  // namespace

// a: [n, n] stride lda, columns before `first` done, the lower triangle from there on updated by
// them; the block [first, first + size) of it, size <= 64, becomes L; above the diagonal nothing is
// read or written. inverse: [64, 64], L^-1 of the block, the identity beyond size. flag: [1].
// Grid: 1; block: 256.
TACO4J_KERNEL __launch_bounds__(256)
    taco4j_cholesky_diagonal_f32(float* a, int lda, int first, int size, float* inverse, int* flag) {
  diagonal(a, lda, first, size, inverse, flag);
}

TACO4J_KERNEL __launch_bounds__(256)
    taco4j_cholesky_diagonal_f64(double* a, int lda, int first, int size, double* inverse,
                                 int* flag) {
  diagonal(a, lda, first, size, inverse, flag);
}

// Rows first + size and below of the columns [first, first + size) of a become L. inverse: [64, 64],
// from the kernel above. Grid: ceil((n - first - size) / 64); block: 256.
TACO4J_KERNEL __launch_bounds__(256)
    taco4j_cholesky_panel_f32(float* a, int lda, int n, int first, int size, const float* inverse,
                              const int* flag) {
  panel(a, lda, n, first, size, inverse, flag);
}

TACO4J_KERNEL __launch_bounds__(256)
    taco4j_cholesky_panel_f64(double* a, int lda, int n, int first, int size, const double* inverse,
                              const int* flag) {
  panel(a, lda, n, first, size, inverse, flag);
}

// What cuSOLVER says of a factorisation in the words of the kernels above. flag: [1], in devInfo: 0, or
// one more than the index of the pivot at which it gave up; out -1 or that index. Pivots that it lets
// pass, NaN and infinite ones, are found in L: [n, n] stride lda. Grid: 1; block: 256.
TACO4J_KERNEL taco4j_cholesky_flag_f32(const float* l, int ld, int n, int* flag) {
  check_pivots(l, ld, n, flag);
}

TACO4J_KERNEL taco4j_cholesky_flag_f64(const double* l, int ld, int n, int* flag) {
  check_pivots(l, ld, n, flag);
}
