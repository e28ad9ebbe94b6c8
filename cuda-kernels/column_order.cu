// Takes a layer to the order of the sweep and back: position p holds column column[p]
// (org.taco4j.solve.ColumnSweep numbers them backwards), weights are transposed to [position, row].
//
// What bounds all of these: bytes. Transpositions go through tiles of 32 x 32 in shared memory, a
// float wider than that for no bank conflicts, so that both sides are coalesced as far as the order
// of columns allows: all of it where that is natural, forwards or backwards.
#include "common.cuh"

namespace taco4j {
namespace {

constexpr int kTileRows = 8;  // of threads; each takes four elements

}  // namespace
}  // namespace taco4j

// The damped Hessian by positions: the lower triangle becomes float(H + shift I), where the diagonal
// of dead columns is 1 before; above the diagonal 0.
//
// h: [cols, cols], symmetric
// column: [cols], the column at each position
// dead: [cols] by position, 0 or 1
// lower: [cols, cols] stride ld, written
// diagonal: [cols], written: that of lower
// flags: [2]; the first becomes 1 where a value of h is not finite
// Launch: grid [ceil(cols / 256), min(cols, 65535)], block [256]
TACO4J_KERNEL taco4j_order_hessian_f32(const double* h, int cols, const int* column,
                                       const unsigned char* dead, double shift, float* lower,
                                       int ld, float* diagonal, int* flags) {
  using namespace taco4j;
  const int q = blockIdx.x * blockDim.x + threadIdx.x;
  if (q >= cols) return;
  const int source = column[q];
  for (int p = blockIdx.y; p < cols; p += gridDim.y) {
    double value = 0;
    if (q < p) value = h[index(column[p], cols, source)];
    if (q == p) value = dead[p] ? 1 : h[index(source, cols, source)];
    // Of infinities and NaN only the difference from itself is not 0.
    if (!(value - value == 0)) atomicOr(flags, 1);
    if (q == p) {
      value += shift;
      diagonal[p] = (float)value;
    }
    lower[index(p, ld, q)] = (float)value;
  }
}

// Counts pivots that are rounding error: not l_pp^2 >= epsilon * diagonal_p, a NaN among them.
//
// lower: L, [cols, cols] stride ld
// diagonal: [cols], of the matrix that was factored
// flags: [2]; the second is added to
// Launch: grid [ceil(cols / 256)], block [256]
TACO4J_KERNEL taco4j_count_lost_pivots_f32(const float* lower, int ld, const float* diagonal,
                                           int cols, float epsilon, int* flags) {
  using namespace taco4j;
  const int p = blockIdx.x * blockDim.x + threadIdx.x;
  if (p >= cols) return;
  const float pivot = lower[index(p, ld, p)];
  if (!(pivot * pivot >= epsilon * diagonal[p])) atomicAdd(&flags[1], 1);
}

// Weights by positions, transposed, twice: one copy for the sweep, one to become the change that it
// makes. Dead columns are 0.
//
// weights: [rows, cols]
// column, dead: [cols] by position
// swept, change: [cols, rows], written
// Launch: grid [ceil(cols / 32), ceil(rows / 32)], block [32, 8]
TACO4J_KERNEL taco4j_gather_weights_f32(const float* weights, int rows, int cols,
                                        const int* column, const unsigned char* dead, float* swept,
                                        float* change) {
  using namespace taco4j;
  __shared__ float tile[kWarp][kWarp + 1];
  const int p = blockIdx.x * kWarp + threadIdx.x;
  for (int i = threadIdx.y; i < kWarp; i += kTileRows) {
    const int row = blockIdx.y * kWarp + i;
    if (p < cols && row < rows) {
      tile[i][threadIdx.x] = dead[p] ? 0 : weights[index(row, cols, column[p])];
    }
  }
  __syncthreads();
  const int row = blockIdx.y * kWarp + threadIdx.x;
  for (int i = threadIdx.y; i < kWarp; i += kTileRows) {
    const int to = blockIdx.x * kWarp + i;
    if (to < cols && row < rows) {
      swept[index(to, rows, row)] = tile[threadIdx.x][i];
      change[index(to, rows, row)] = tile[threadIdx.x][i];
    }
  }
}

// What a mask removes, by positions, transposed.
//
// kept: [rows, cols], 0 or 1
// removed: [cols, rows], written
// Launch: as taco4j_gather_weights_f32
TACO4J_KERNEL taco4j_gather_removed_u8(const unsigned char* kept, int rows, int cols,
                                       const int* column, unsigned char* removed) {
  using namespace taco4j;
  // A word an element: bytes of a column would share their banks.
  __shared__ int tile[kWarp][kWarp + 1];
  const int p = blockIdx.x * kWarp + threadIdx.x;
  for (int i = threadIdx.y; i < kWarp; i += kTileRows) {
    const int row = blockIdx.y * kWarp + i;
    if (p < cols && row < rows) tile[i][threadIdx.x] = kept[index(row, cols, column[p])];
  }
  __syncthreads();
  const int row = blockIdx.y * kWarp + threadIdx.x;
  for (int i = threadIdx.y; i < kWarp; i += kTileRows) {
    const int to = blockIdx.x * kWarp + i;
    if (to < cols && row < rows) removed[index(to, rows, row)] = tile[threadIdx.x][i] == 0 ? 1 : 0;
  }
}

// The way back of both.
//
// swept: [cols, rows]
// removed: [cols, rows], 0 or 1; null for none
// weights: [rows, cols], written
// kept: [rows, cols], written: not removed; null where removed is
// Launch: as taco4j_gather_weights_f32
TACO4J_KERNEL taco4j_scatter_weights_f32(const float* swept, const unsigned char* removed, int rows,
                                         int cols, const int* column, float* weights,
                                         unsigned char* kept) {
  using namespace taco4j;
  __shared__ float tile[kWarp][kWarp + 1];
  __shared__ int marks[kWarp][kWarp + 1];
  const int row = blockIdx.y * kWarp + threadIdx.x;
  for (int i = threadIdx.y; i < kWarp; i += kTileRows) {
    const int p = blockIdx.x * kWarp + i;
    if (p < cols && row < rows) {
      tile[i][threadIdx.x] = swept[index(p, rows, row)];
      marks[i][threadIdx.x] = removed != nullptr ? removed[index(p, rows, row)] : 0;
    }
  }
  __syncthreads();
  const int p = blockIdx.x * kWarp + threadIdx.x;
  for (int i = threadIdx.y; i < kWarp; i += kTileRows) {
    const int to = blockIdx.y * kWarp + i;
    if (p < cols && to < rows) {
      weights[index(to, cols, column[p])] = tile[threadIdx.x][i];
      if (kept != nullptr) kept[index(to, cols, column[p])] = marks[threadIdx.x][i] == 0 ? 1 : 0;
    }
  }
}
