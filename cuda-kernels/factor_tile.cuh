// Cholesky factor and inverse of one diagonal block, 64 x 64, in the registers of a thread block:
// what blocked factorisations and triangular inverses do between their products.
//
// Bound by latency: 64 steps that follow one another. So each step has one barrier: the owners of
// column j publish it as it is, everybody takes the root of its pivot for himself and updates its
// 4 x 4 elements; the buffers alternate. The rows of the inverse ride along: M = L^-1 comes out of
// the same eliminations applied to the identity (forward substitution, column by column), at no
// further barrier.
#pragma once

#include "gemm_tile.cuh"

namespace taco4j {

constexpr int kBlock = 64;
constexpr int kSlots = kBlock / kTileSide;

__device__ __forceinline__ float root(float value) { return sqrtf(value); }
__device__ __forceinline__ double root(double value) { return sqrt(value); }

// a: elements (tile_line(tile_row_thread(), i), tile_line(tile_col_thread(), j)) of a matrix
// [size, size], size <= 64, zeros beyond; only its lower triangle matters. With kFactor it is
// symmetric, and becomes L with A = L L^T; else it is L, and stays. inverse: becomes M = L^-1, zeros
// above the diagonal, the identity beyond size. Called by all 256 threads, ends with a barrier; returns,
// to all of them, -1 or the first pivot that is not positive and finite, the rest then being spoilt.
template <typename T, bool kFactor>
__device__ __forceinline__ int factor_tile(int size, T (&a)[kSlots][kSlots],
                                           T (&inverse)[kSlots][kSlots]) {
  constexpr int kPack = pack_size<T>();
  alignas(16) __shared__ T columns[2][kBlock];
  alignas(16) __shared__ T rows[2][kBlock];
  const int row_thread = tile_row_thread();
  const int col_thread = tile_col_thread();
#pragma unroll
  for (int i = 0; i < kSlots; i++) {
#pragma unroll
    for (int j = 0; j < kSlots; j++) {
      const bool diagonal = tile_line<T>(row_thread, i) == tile_line<T>(col_thread, j);
      inverse[i][j] = diagonal ? T(1) : T(0);
    }
  }
#pragma unroll
  for (int group = 0; group < kSlots / kPack; group++) {
    for (int owner = 0; owner < kTileSide; owner++) {
#pragma unroll
      for (int element = 0; element < kPack; element++) {
        const int slot = group * kPack + element;
        const int step = tile_line<T>(owner, slot);
        if (step >= size) break;
        T* column = columns[element % 2];
        T* row = rows[element % 2];
        if (col_thread == owner) {
#pragma unroll
          for (int i = 0; i < kSlots; i++) column[tile_line<T>(row_thread, i)] = a[i][slot];
        }
        if (row_thread == owner) {
#pragma unroll
          for (int j = 0; j < kSlots; j++) row[tile_line<T>(col_thread, j)] = inverse[slot][j];
        }
        __syncthreads();
        T pivot = column[step];
        if (kFactor) {
          // Written so that NaN fails too.
          if (!(pivot > T(0) && pivot - pivot == T(0))) return step;
          pivot = root(pivot);
        }
        const T reciprocal = T(1) / pivot;
        const T scale = kFactor ? reciprocal : T(1);
        T below[kSlots];   // of column `step` of L, 0 where the row is finished
        T across[kSlots];  // the same for this thread's columns
        T solved[kSlots];  // row `step` of M
#pragma unroll
        for (int i = 0; i < kSlots; i++) {
          const int line = tile_line<T>(row_thread, i);
          below[i] = line > step ? column[line] * scale : T(0);
        }
#pragma unroll
        for (int j = 0; j < kSlots; j++) {
          const int line = tile_line<T>(col_thread, j);
          across[j] = line > step ? column[line] * scale : T(0);
          solved[j] = row[line] * reciprocal;
        }
#pragma unroll
        for (int i = 0; i < kSlots; i++) {
#pragma unroll
          for (int j = 0; j < kSlots; j++) {
            if (kFactor) a[i][j] -= below[i] * across[j];
            inverse[i][j] -= below[i] * solved[j];
          }
        }
        if (row_thread == owner) {
#pragma unroll
          for (int j = 0; j < kSlots; j++) inverse[slot][j] = solved[j];
        }
        if (kFactor && col_thread == owner) {
#pragma unroll
          for (int i = 0; i < kSlots; i++) {
            const int line = tile_line<T>(row_thread, i);
            if (line >= step) a[i][slot] = line == step ? pivot : below[i];
          }
        }
      }
    }
  }
  __syncthreads();
  return -1;
}

// The lower triangle of a block, zeros elsewhere. from: [size, size] stride ld
template <typename T>
__device__ __forceinline__ void load_lower(const T* from, int ld, int size,
                                           T (&tile)[kSlots][kSlots]) {
#pragma unroll
  for (int i = 0; i < kSlots; i++) {
    const int row = tile_line<T>(tile_row_thread(), i);
#pragma unroll
    for (int j = 0; j < kSlots; j++) {
      const int col = tile_line<T>(tile_col_thread(), j);
      tile[i][j] = row < size && col <= row ? from[index(row, ld, col)] : T(0);
    }
  }
}

// to: [size, size] stride ld; with kLowerOnly nothing is written above the diagonal.
template <typename T, bool kLowerOnly>
__device__ __forceinline__ void store_square(const T (&tile)[kSlots][kSlots], int size, T* to,
                                             int ld) {
#pragma unroll
  for (int i = 0; i < kSlots; i++) {
    const int row = tile_line<T>(tile_row_thread(), i);
#pragma unroll
    for (int j = 0; j < kSlots; j++) {
      const int col = tile_line<T>(tile_col_thread(), j);
      if (row < size && col < size && (!kLowerOnly || col <= row)) to[index(row, ld, col)] = tile[i][j];
    }
  }
}

}  // namespace taco4j
