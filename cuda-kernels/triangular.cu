// The inverse M of a lower triangular L, in place, and M^T M, the inverse of L L^T.
//
// Diagonal blocks of 64 are inverted all at once; then pairs of neighbours are joined, sizes doubling:
//   inverse of [L11 0; L21 L22] = [M11 0; -M22 L21 M11, M22],
// all pairs of a size at once. So there are 2 log2(n / 64) products, bound by FLOPs (gemm_tile.cuh)
// once pairs are large, and by latency before. L21 M11 waits, transposed, above the diagonal, where it
// fits exactly: no scratch. Zeros of triangles are skipped by whole tiles.
#include "factor_tile.cuh"

namespace {

using namespace taco4j;

template <typename T>
__device__ __forceinline__ void invert_blocks(T* l, int ld, int n) {
  const int first = blockIdx.x * kBlock;
  const int size = min(kBlock, n - first);
  T* block = l + index(first, ld, first);
  T tile[kSlots][kSlots];
  T inverse[kSlots][kSlots];
  load_lower(block, ld, size, tile);
  factor_tile<T, false>(size, tile, inverse);
  store_square<T, false>(inverse, size, block, ld);
}

template <typename T>
__device__ __forceinline__ void store_tile(const T (&sums)[kSlots][kSlots], T factor, int first_row,
                                           int rows, int first_col, int cols, T* to, int ld) {
#pragma unroll
  for (int i = 0; i < kSlots; i++) {
    const int row = first_row + tile_line<T>(tile_row_thread(), i);
#pragma unroll
    for (int j = 0; j < kSlots; j++) {
      const int col = first_col + tile_line<T>(tile_col_thread(), j);
      if (row < rows && col < cols) to[index(row, ld, col)] = factor * sums[i][j];
    }
  }
}

// (L21 M11)^T = M11^T L21^T: [half, rows of L21], above the diagonal.
template <typename T>
__device__ __forceinline__ void couple(T* l, int ld, int n, int half) {
  const int first = blockIdx.z * 2 * half;
  const int second = first + half;
  const int rest = min(half, n - second);
  const int first_row = blockIdx.y * kBlock;
  const int first_col = blockIdx.x * kBlock;
  if (first_col >= rest) return;
  T sums[kSlots][kSlots];
  multiply_tile<T, kBlock, kBlock, 8>(
      left_operand<T>(l + index(first, ld, first), ld, true),
      right_operand<T>(l + index(second, ld, first), ld, true), first_row, half, first_col, rest,
      /* M11 is 0 above its diagonal */ first_row, half, sums);
  store_tile(sums, T(1), first_row, half, first_col, rest, l + index(first, ld, second), ld);
}

// M21 = -M22 (L21 M11), in place of L21.
template <typename T>
__device__ __forceinline__ void join(T* l, int ld, int n, int half) {
  const int first = blockIdx.z * 2 * half;
  const int second = first + half;
  const int rest = min(half, n - second);
  const int first_row = blockIdx.y * kBlock;
  const int first_col = blockIdx.x * kBlock;
  if (first_row >= rest) return;
  T sums[kSlots][kSlots];
  multiply_tile<T, kBlock, kBlock, 8>(
      left_operand<T>(l + index(second, ld, second), ld, false),
      right_operand<T>(l + index(first, ld, second), ld, true), first_row, rest, first_col, half, 0,
      /* M22 is 0 above its diagonal */ min(rest, first_row + kBlock), sums);
  store_tile(sums, T(-1), first_row, rest, first_col, half, l + index(second, ld, first), ld);
}

template <typename T>
__device__ __forceinline__ void clear_upper(T* l, int ld, int n) {
  const int row = blockIdx.y * blockDim.y + threadIdx.y;
  const int col = blockIdx.x * blockDim.x + threadIdx.x;
  if (col < n && row < col) l[index(row, ld, col)] = T(0);
}

}  // namespace

// l: [n, n] stride ld; each diagonal block of 64 is inverted, what is above the diagonal in it becomes
// 0. A diagonal without zeros. Grid: ceil(n / 64); block: 256.
TACO4J_KERNEL __launch_bounds__(256) taco4j_invert_lower_blocks_f32(float* l, int ld, int n) {
  invert_blocks(l, ld, n);
}

TACO4J_KERNEL __launch_bounds__(256) taco4j_invert_lower_blocks_f64(double* l, int ld, int n) {
  invert_blocks(l, ld, n);
}

// l: [n, n] stride ld, whose diagonal blocks of `half` = 64, 128, ... are inverted. `couple` writes
// above the diagonal blocks of `half`, `join` finishes those of 2 half.
// Grid: (ceil(half / 64), ceil(half / 64), pairs) with pairs = ceil((n - half) / (2 half)); block: 256.
TACO4J_KERNEL __launch_bounds__(256)
    taco4j_invert_lower_couple_f32(float* l, int ld, int n, int half) {
  couple(l, ld, n, half);
}

TACO4J_KERNEL __launch_bounds__(256)
    taco4j_invert_lower_couple_f64(double* l, int ld, int n, int half) {
  couple(l, ld, n, half);
}

TACO4J_KERNEL __launch_bounds__(256) taco4j_invert_lower_join_f32(float* l, int ld, int n, int half) {
  join(l, ld, n, half);
}

TACO4J_KERNEL __launch_bounds__(256)
    taco4j_invert_lower_join_f64(double* l, int ld, int n, int half) {
  join(l, ld, n, half);
}

// l: [n, n] stride ld; what is above the diagonal becomes 0. Grid: (ceil(n / 32), ceil(n / 8));
// block: (32, 8).
TACO4J_KERNEL taco4j_clear_upper_f32(float* l, int ld, int n) { clear_upper(l, ld, n); }
TACO4J_KERNEL taco4j_clear_upper_f64(double* l, int ld, int n) { clear_upper(l, ld, n); }

// M^T M, both triangles, exactly symmetric; nothing where the flag is set. m: [n, n] stride ldm, lower
// triangular, 0 above the diagonal within its diagonal blocks of 64, anything above those. to: [n, n]
// stride ldt. flag: [1]. Grid: (ceil(n / 64), ceil(n / 64)); block: 256.
TACO4J_KERNEL __launch_bounds__(256, 2)
    taco4j_lower_gram_f64(const double* __restrict__ m, int ldm, int n, double* to, int ldt,
                          const int* flag) {
  const int first_row = blockIdx.y * kBlock;
  const int first_col = blockIdx.x * kBlock;
  if (first_row < first_col || *flag >= 0) return;
  double sums[kSlots][kSlots];
  multiply_tile<double, kBlock, kBlock, 8>(
      left_operand(m, ldm, true), right_operand(m, ldm, false), first_row, n, first_col, n,
      /* M is 0 above its diagonal */ first_row, n, sums);
#pragma unroll
  for (int i = 0; i < kSlots; i++) {
    const int row = first_row + tile_line<double>(tile_row_thread(), i);
#pragma unroll
    for (int j = 0; j < kSlots; j++) {
      const int col = first_col + tile_line<double>(tile_col_thread(), j);
      if (row < n && col <= row) {
        to[index(row, ldt, col)] = sums[i][j];
        to[index(col, ldt, row)] = sums[i][j];
      }
    }
  }
}

// Both triangles from the lower; nothing where the flag is set. from: [n, n] stride ldf; to: [n, n]
// stride ldt, another matrix. flag: [1]. Grid: (ceil(n / 32), ceil(n / 32)); block: (32, 8).
//
// Bound by bytes: tiles of 32 x 32 go through shared memory, so that both reads and writes are whole
// lines.
TACO4J_KERNEL taco4j_symmetric_f64(const double* __restrict__ from, int ldf, int n, double* to,
                                   int ldt, const int* flag) {
  __shared__ double tile[32][33];
  const int first_row = blockIdx.y * 32;
  const int first_col = blockIdx.x * 32;
  if (first_row < first_col || *flag >= 0) return;
  for (int i = threadIdx.y; i < 32; i += blockDim.y) {
    const int row = first_row + i;
    const int col = first_col + threadIdx.x;
    if (row < n && col <= row) {
      tile[i][threadIdx.x] = from[index(row, ldf, col)];
      to[index(row, ldt, col)] = tile[i][threadIdx.x];
    }
  }
  __syncthreads();
  for (int i = threadIdx.y; i < 32; i += blockDim.y) {
    const int row = first_col + i;
    const int col = first_row + threadIdx.x;
    if (col < n && row < col) to[index(row, ldt, col)] = tile[threadIdx.x][i];
  }
}
