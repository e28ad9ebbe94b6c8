// C = alpha op(A) op(B) + beta C, where cuBLAS does not load or would not check the flag; also of
// one triangle only (A A^T, A^T A).
//
// Bound by FLOPs for matrices of some hundreds and more: see gemm_tile.cuh. Tiles of 128 x 128 floats
// or 64 x 64 doubles; of 64 x 64 floats where larger ones would leave multiprocessors idle. There is
// no split along k, so sums are the same for either tile.
#include "gemm_tile.cuh"

namespace {

using namespace taco4j;

enum Triangle { kAll = 0, kLower = 1, kUpper = 2 };

__device__ __forceinline__ bool is_in(int triangle, int row, int col) {
  return triangle == kAll || (triangle == kLower ? col <= row : row <= col);
}

template <typename T, int kSide, int kDepth>
__device__ __forceinline__ void gemm(int m, int n, int k, T alpha, const T* a, int lda,
                                     int a_transposed, const T* b, int ldb, int b_transposed,
                                     T beta, T* c, int ldc, int triangle, const int* flag) {
  constexpr int kPack = pack_size<T>();
  constexpr int kSlots = kSide / kTileSide;
  const int first_row = blockIdx.y * kSide;
  const int first_col = blockIdx.x * kSide;
  if (flag != nullptr && *flag >= 0) return;
  if (triangle == kLower && first_row + kSide <= first_col) return;
  if (triangle == kUpper && first_col + kSide <= first_row) return;

  T sums[kSlots][kSlots];
  multiply_tile<T, kSide, kSide, kDepth>(left_operand(a, lda, a_transposed != 0),
                                         right_operand(b, ldb, b_transposed != 0), first_row, m,
                                         first_col, n, 0, k, sums);

  const bool aligned = is_aligned(c, ldc, kPack);
#pragma unroll
  for (int i = 0; i < kSlots; i++) {
    const int row = first_row + tile_line<T>(tile_row_thread(), i);
    if (row >= m) continue;
#pragma unroll
    for (int j = 0; j < kSlots; j += kPack) {
      const int col = first_col + tile_line<T>(tile_col_thread(), j);
      T* to = c + index(row, ldc, col);
      const bool whole = col + kPack <= n && is_in(triangle, row, col) &&
                         is_in(triangle, row, col + kPack - 1);
      if (whole && aligned) {
        Pack<T, kPack> pack;
        if (beta != T(0)) pack = *reinterpret_cast<Pack<T, kPack>*>(to);
#pragma unroll
        for (int v = 0; v < kPack; v++) {
          pack.values[v] = alpha * sums[i][j + v] + (beta == T(0) ? T(0) : beta * pack.values[v]);
        }
        *reinterpret_cast<Pack<T, kPack>*>(to) = pack;
      } else {
#pragma unroll
        for (int v = 0; v < kPack; v++) {
          if (col + v < n && is_in(triangle, row, col + v)) {
            to[v] = alpha * sums[i][j + v] + (beta == T(0) ? T(0) : beta * to[v]);
          }
        }
      }
    }
  }
}

}  // namespace

// a: [m, k] stride lda, or [k, m] where a_transposed; b: [k, n] stride ldb, or [n, k] where
// b_transposed; c: [m, n] stride ldc, sharing no element with a or b; beta 0 overwrites c, whatever
// it holds. triangle: 0 all of c, 1 the lower, 2 the upper with the diagonal, the rest of c is not
// touched. flag: null, or [1]: nothing is done where it is not negative.
// Grid: (ceil(n / side), ceil(m / side)), side 128 for _f32, 64 for _small_f32 and _f64; block: 256.
TACO4J_KERNEL __launch_bounds__(256, 2)
    taco4j_gemm_f32(int m, int n, int k, float alpha, const float* __restrict__ a, int lda,
                    int a_transposed, const float* __restrict__ b, int ldb, int b_transposed,
                    float beta, float* c, int ldc, int triangle, const int* flag) {
  gemm<float, 128, 8>(m, n, k, alpha, a, lda, a_transposed, b, ldb, b_transposed, beta, c, ldc,
                      triangle, flag);
}

TACO4J_KERNEL __launch_bounds__(256)
    taco4j_gemm_small_f32(int m, int n, int k, float alpha, const float* __restrict__ a, int lda,
                          int a_transposed, const float* __restrict__ b, int ldb, int b_transposed,
                          float beta, float* c, int ldc, int triangle, const int* flag) {
  gemm<float, 64, 8>(m, n, k, alpha, a, lda, a_transposed, b, ldb, b_transposed, beta, c, ldc,
                     triangle, flag);
}

TACO4J_KERNEL __launch_bounds__(256, 2)
    taco4j_gemm_f64(int m, int n, int k, double alpha, const double* __restrict__ a, int lda,
                    int a_transposed, const double* __restrict__ b, int ldb, int b_transposed,
                    double beta, double* c, int ldc, int triangle, const int* flag) {
  gemm<double, 64, 8>(m, n, k, alpha, a, lda, a_transposed, b, ldb, b_transposed, beta, c, ldc,
                      triangle, flag);
}
