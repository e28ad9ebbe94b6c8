// Many least-squares problems over parts of the same matrix at once, a thread block each: gathers
// A = H[S, S] for a list of positions S, factors A = L L^T, solves A x = b for one or a few right-hand
// sides and scatters x: the inner loop of the refit of a mask, where each row of the weights has a
// list of its own.
//
// Bound by FLOPs (k^3 / 3 of a problem of size k), in double. The factorisation looks left, by panels
// of 64 columns: a tile of 64 x 64 is gathered, all earlier columns are subtracted from it in
// registers (gemm_tile.cuh), and it is written once. So of L each panel reads what lies to its left,
// k^3 / 384 elements in all, 64 multiply-adds for each, from the second-level cache at best; nothing
// is read from H twice. Diagonal blocks are factored and inverted in registers (factor_tile.cuh).
//
// The right-hand sides stand below A as further rows, [count, k]: what makes L of a row of A makes
// L^-1 b of them, so that the forward substitution is part of the factorisation. Only the backward one
// is a pass of its own, of vectors, bound by the bytes of L.
//
// Blocks stay and take the next problem when they are done with one, so that scratch is needed for as
// many problems as run at once, and none waits for the longest of a wave.
#include "factor_tile.cuh"

namespace {

using namespace taco4j;

// Right-hand sides of one backward pass over L.
constexpr int kTogether = 4;

// One entry of the table of problems.
struct Problem {
  const int* list;    // [size], the positions S, ascending
  int size;           // k
  int source;         // 0 or 1: which matrix and right-hand sides
  int first_row;      // of the right-hand sides
  int count;          // of right-hand sides
};

__device__ __forceinline__ Problem read_problem(const int* table, const int* lists, int which) {
  const int* entry = table + 5 * which;
  return {lists + entry[0], entry[1], entry[2], entry[3], entry[4]};
}

// Backward substitution X L = Y, in place, `count` <= kTogether rows. l: [size, size] stride ld;
// inverses: of the diagonal blocks, [64, 64] each; y: [count, size] stride ld
__device__ __forceinline__ void substitute_backward(const double* l, int ld, int size,
                                                    const double* inverses, double* y, int count) {
  constexpr int kGroups = kTileThreads / kBlock;
  __shared__ double partial[kGroups][kTogether][kBlock];
  const int col = threadIdx.x % kBlock;
  const int group = threadIdx.x / kBlock;
  for (int first = (size - 1) / kBlock * kBlock; first >= 0; first -= kBlock) {
    const int width = min(kBlock, size - first);
    double sums[kTogether];
#pragma unroll
    for (int r = 0; r < kTogether; r++) sums[r] = 0;
    if (col < width) {
#pragma unroll 4
      for (int i = first + width + group; i < size; i += kGroups) {
        const double below = l[index(i, ld, first + col)];
#pragma unroll
        for (int r = 0; r < kTogether; r++) {
          if (r < count) sums[r] += y[index(r, ld, i)] * below;
        }
      }
    }
#pragma unroll
    for (int r = 0; r < kTogether; r++) partial[group][r][col] = sums[r];
    __syncthreads();
    // What is left of Y, then times M: a group of threads for each row.
    double left = 0;
    if (group < count && col < width) {
      left = y[index(group, ld, first + col)];
#pragma unroll
      for (int g = 0; g < kGroups; g++) left -= partial[g][group][col];
    }
    partial[0][group][col] = left;
    __syncthreads();
    if (group < count && col < width) {
      const double* inverse = inverses + (long long)(first / kBlock) * kBlock * kBlock;
      double sum = 0;
      for (int q = col; q < width; q++) sum += partial[0][group][q] * inverse[q * kBlock + col];
      y[index(group, ld, first + col)] = sum;
    }
    __syncthreads();
  }
}

// Factors, solves and scatters one problem; returns, to all threads, -1 or the pivot that is not
// positive and finite.
__device__ __forceinline__ int solve_problem(const Problem& problem, const double* matrix, int n,
                                             const double* right, double* solution, double* a) {
  const int size = problem.size;
  const int ld = size + size % 2;
  const int rows = size + problem.count;
  double* inverses = a + (long long)rows * ld;

  for (int first = 0; first < size; first += kBlock) {
    const int width = min(kBlock, size - first);
    double* inverse = inverses + (long long)(first / kBlock) * kBlock * kBlock;
    for (int first_row = first; first_row < rows;
         first_row += first_row == first ? width : kBlock) {
      const bool is_diagonal = first_row == first;
      const int last_row = min(rows, first_row + (is_diagonal ? width : kBlock));
      double tile[kSlots][kSlots];
      multiply_tile<double, kBlock, kBlock, 8>(left_operand<double>(a, ld, false),
                                               right_operand<double>(a, ld, true), first_row,
                                               last_row, first, first + width, 0, first, tile);
#pragma unroll
      for (int i = 0; i < kSlots; i++) {
        const int row = first_row + tile_line<double>(tile_row_thread(), i);
#pragma unroll
        for (int j = 0; j < kSlots; j++) {
          const int col = first + tile_line<double>(tile_col_thread(), j);
          double given = 0;
          if (col < size && row < last_row) {
            if (row >= size) {
              given = right[index(problem.first_row + row - size, n, problem.list[col])];
            } else if (col <= row) {
              given = matrix[index(problem.list[row], n, problem.list[col])];
            }
          }
          tile[i][j] = given - tile[i][j];
        }
      }
      if (is_diagonal) {
        double inverse_tile[kSlots][kSlots];
        const int failed = factor_tile<double, true>(width, tile, inverse_tile);
        if (failed >= 0) return first + failed;
        store_square<double, true>(tile, width, a + index(first, ld, first), ld);
        // The next tile meets a barrier before it reads these.
        store_square<double, false>(inverse_tile, kBlock, inverse, kBlock);
      } else {
        // Times M^T, by way of memory, in place.
        double* to = a + index(first_row, ld, first);
#pragma unroll
        for (int pass = 0; pass < 2; pass++) {
#pragma unroll
          for (int i = 0; i < kSlots; i++) {
            const int row = tile_line<double>(tile_row_thread(), i);
#pragma unroll
            for (int j = 0; j < kSlots; j++) {
              const int col = tile_line<double>(tile_col_thread(), j);
              if (first_row + row < last_row && col < width) to[index(row, ld, col)] = tile[i][j];
            }
          }
          __syncthreads();
          if (pass == 0) {
            multiply_tile<double, kBlock, kBlock, 8>(
                left_operand<double>(to, ld, false), right_operand<double>(inverse, kBlock, true), 0,
                last_row - first_row, 0, width, 0, width, tile);
          }
        }
      }
    }
  }

  for (int first = 0; first < problem.count; first += kTogether) {
    substitute_backward(a, ld, size, inverses, a + index(size + first, ld, 0),
                        min(kTogether, problem.count - first));
  }
  for (int row = 0; row < problem.count; row++) {
    for (int i = threadIdx.x; i < size; i += kTileThreads) {
      solution[index(problem.first_row + row, n, problem.list[i])] = a[index(size + row, ld, i)];
    }
  }
  return -1;
}

}  // namespace

// matrix0, matrix1: [n, n] row-major, symmetric, of which the lower triangle is read; right0, right1:
// [rows, n] row-major, the right-hand sides; solution0, solution1: [rows, n] row-major, where x goes, at
// the positions of the list, nothing else being written. A problem uses one of the three pairs.
// lists: the positions of all problems, one list after the other.
// table: [problems, 5]: where its list begins, its size k, 0 or 1, its first row, its number of rows.
// next: [1], in 0: which problem is next. Blocks take one after the other, so those that take long are
// best put first.
// scratch: [blocks, scratch_stride], a part for each block of the grid; scratch_stride is even, and at
// least (k + count) * ld + ceil(k / 64) * 4096 with ld = k rounded up to even, for all problems.
// flags: [problems]: -1, or the index within the list of the first pivot that is not positive and
// finite; the solution is then not written.
// Any grid: two blocks a multiprocessor; block: 256.
TACO4J_KERNEL __launch_bounds__(256, 2)
    taco4j_subset_solve_f64(const double* __restrict__ matrix0, const double* __restrict__ matrix1,
                            int n, const double* __restrict__ right0,
                            const double* __restrict__ right1, double* solution0, double* solution1,
                            const int* __restrict__ lists, const int* __restrict__ table,
                            int problems, int* next, double* scratch, long long scratch_stride,
                            int* flags) {
  __shared__ int taken;
  while (true) {
    if (threadIdx.x == 0) taken = atomicAdd(next, 1);
    __syncthreads();
    const int which = taken;
    if (which >= problems) return;
    const Problem problem = read_problem(table, lists, which);
    const bool first = problem.source == 0;
    const int failed =
        solve_problem(problem, first ? matrix0 : matrix1, n, first ? right0 : right1,
                      first ? solution0 : solution1, scratch + blockIdx.x * scratch_stride);
    // Everybody has read which, and is done with the scratch.
    __syncthreads();
    if (threadIdx.x == 0) flags[which] = failed;
  }
}
