// One tile of a matrix product, held in the registers of a thread block: what gemm.cu,
// cholesky.cu, triangular.cu and subset_solve.cu are made of.
//
// Bound by FLOPs where k is large. 256 threads stand 16 x 16, each owns (kRows / 16) x (kCols / 16)
// sums: at 8 x 8 floats, 64 multiply-adds for 4 vector loads from shared memory. Slices of both
// operands, kDepth deep, are double buffered: while one is multiplied, the next is on its way from
// global memory into registers, and there is one barrier a slice.
//
// Slices lie in shared memory as [k][line], whatever the operand's layout, so that the inner loop
// reads 16-byte vectors without bank conflicts. Operands that are contiguous along k are transposed
// when they are stored; lines are padded by 16 bytes, which keeps these scalar stores in different
// banks too.
//
// Each sum is added up along k in order, whatever the tile: the same bytes for any tile size.
#pragma once

#include "common.cuh"

namespace taco4j {

constexpr int kTileThreads = 256;
// Threads stand kTileSide x kTileSide.
constexpr int kTileSide = 16;

template <typename T, int kCount>
struct alignas(sizeof(T) * kCount) Pack {
  T values[kCount];
};

template <typename T>
__device__ constexpr int pack_size() {
  return 16 / static_cast<int>(sizeof(T));
}

template <typename T>
__device__ __forceinline__ bool is_aligned(const T* data, int ld, int count) {
  return reinterpret_cast<unsigned long long>(data) % (sizeof(T) * count) == 0 && ld % count == 0;
}

// op(A) or op(B)^T as a tile reads it: [lines, k], where a line is a row of op(A) or a column of
// op(B). Element (line, k) is at line * ld + k where it is contiguous along k, else at k * ld + line.
template <typename T>
struct Operand {
  const T* data;
  int ld;
  bool along_k;
};

template <typename T>
__device__ __forceinline__ Operand<T> left_operand(const T* a, int lda, bool transposed) {
  return {a, lda, !transposed};
}

template <typename T>
__device__ __forceinline__ Operand<T> right_operand(const T* b, int ldb, bool transposed) {
  return {b, ldb, transposed};
}

// Which row (of thread / 16) or column (of thread % 16) of the tile a thread's slot holds: vectors
// of 16 bytes, the neighbour's next to one's own.
template <typename T>
__device__ __forceinline__ int tile_line(int thread, int slot) {
  constexpr int kPack = pack_size<T>();
  return slot / kPack * (kTileSide * kPack) + thread * kPack + slot % kPack;
}

__device__ __forceinline__ int tile_row_thread() { return threadIdx.x / kTileSide; }
__device__ __forceinline__ int tile_col_thread() { return threadIdx.x % kTileSide; }

// Brings [kLines, kDepth] of an operand to shared memory: fetch, later store.
template <typename T, int kLines, int kDepth>
struct SliceLoader {
  static constexpr int kVector = kLines * kDepth / kTileThreads;
  static constexpr int kStride = kLines + pack_size<T>();
  T values[kVector];

  // lines, depth: the end of what there is; beyond it are zeros.
  __device__ __forceinline__ void fetch(const Operand<T>& from, bool aligned, int first_line,
                                        int lines, int first_k, int depth) {
    const int line = first_line + (from.along_k ? threadIdx.x / (kDepth / kVector)
                                                : threadIdx.x % (kLines / kVector) * kVector);
    const int k = first_k + (from.along_k ? threadIdx.x % (kDepth / kVector) * kVector
                                          : threadIdx.x / (kLines / kVector));
    const T* at = from.data + (from.along_k ? index(line, from.ld, k) : index(k, from.ld, line));
    const bool inside = from.along_k ? line < lines && k + kVector <= depth
                                     : k < depth && line + kVector <= lines;
    if (inside && aligned) {
      const Pack<T, kVector> pack = *reinterpret_cast<const Pack<T, kVector>*>(at);
#pragma unroll
      for (int v = 0; v < kVector; v++) values[v] = pack.values[v];
    } else {
#pragma unroll
      for (int v = 0; v < kVector; v++) {
        const bool exists = from.along_k ? line < lines && k + v < depth
                                         : k < depth && line + v < lines;
        values[v] = exists ? at[v] : T(0);
      }
    }
  }

  // to: [kDepth, kStride], shared
  __device__ __forceinline__ void store(bool along_k, T* to) const {
    if (along_k) {
      const int line = threadIdx.x / (kDepth / kVector);
      const int k = threadIdx.x % (kDepth / kVector) * kVector;
#pragma unroll
      for (int v = 0; v < kVector; v++) to[(k + v) * kStride + line] = values[v];
    } else {
      const int line = threadIdx.x % (kLines / kVector) * kVector;
      const int k = threadIdx.x / (kLines / kVector);
      Pack<T, kVector> pack;
#pragma unroll
      for (int v = 0; v < kVector; v++) pack.values[v] = values[v];
      *reinterpret_cast<Pack<T, kVector>*>(to + k * kStride + line) = pack;
    }
  }
};

// sums = A B over k in [first_k, depth) for the tile at (first_row, first_col), all threads of the
// block; ends with a barrier. sums[i][j] belongs to row tile_line(tile_row_thread(), i) and column
// tile_line(tile_col_thread(), j) of the tile. What the block wrote to A or B before its last
// barrier is seen: the operands are not read through the read-only cache unless the kernel's
// parameters say that nobody writes there.
template <typename T, int kRows, int kCols, int kDepth>
__device__ __forceinline__ void multiply_tile(const Operand<T>& a, const Operand<T>& b,
                                              int first_row, int rows, int first_col, int cols,
                                              int first_k, int depth,
                                              T (&sums)[kRows / kTileSide][kCols / kTileSide]) {
  constexpr int kPack = pack_size<T>();
  constexpr int kRowSlots = kRows / kTileSide;
  constexpr int kColSlots = kCols / kTileSide;
  using Left = SliceLoader<T, kRows, kDepth>;
  using Right = SliceLoader<T, kCols, kDepth>;
  alignas(16) __shared__ T left[2][kDepth * Left::kStride];
  alignas(16) __shared__ T right[2][kDepth * Right::kStride];

  const bool left_aligned = is_aligned(a.data, a.ld, Left::kVector);
  const bool right_aligned = is_aligned(b.data, b.ld, Right::kVector);
  const int row_thread = tile_row_thread();
  const int col_thread = tile_col_thread();
#pragma unroll
  for (int i = 0; i < kRowSlots; i++) {
#pragma unroll
    for (int j = 0; j < kColSlots; j++) sums[i][j] = T(0);
  }
  if (first_k >= depth) return;

  Left left_slice;
  Right right_slice;
  left_slice.fetch(a, left_aligned, first_row, rows, first_k, depth);
  right_slice.fetch(b, right_aligned, first_col, cols, first_k, depth);
  left_slice.store(a.along_k, left[0]);
  right_slice.store(b.along_k, right[0]);
  __syncthreads();
  int buffer = 0;
  for (int k = first_k; k < depth; k += kDepth) {
    const bool more = k + kDepth < depth;
    if (more) {
      left_slice.fetch(a, left_aligned, first_row, rows, k + kDepth, depth);
      right_slice.fetch(b, right_aligned, first_col, cols, k + kDepth, depth);
    }
#pragma unroll
    for (int q = 0; q < kDepth; q++) {
      Pack<T, kPack> x[kRowSlots / kPack];
      Pack<T, kPack> y[kColSlots / kPack];
#pragma unroll
      for (int i = 0; i < kRowSlots / kPack; i++) {
        x[i] = *reinterpret_cast<const Pack<T, kPack>*>(
            &left[buffer][q * Left::kStride + tile_line<T>(row_thread, i * kPack)]);
      }
#pragma unroll
      for (int j = 0; j < kColSlots / kPack; j++) {
        y[j] = *reinterpret_cast<const Pack<T, kPack>*>(
            &right[buffer][q * Right::kStride + tile_line<T>(col_thread, j * kPack)]);
      }
#pragma unroll
      for (int i = 0; i < kRowSlots; i++) {
#pragma unroll
        for (int j = 0; j < kColSlots; j++) {
          sums[i][j] += x[i / kPack].values[i % kPack] * y[j / kPack].values[j % kPack];
        }
      }
    }
    if (more) {
      left_slice.store(a.along_k, left[buffer ^ 1]);
      right_slice.store(b.along_k, right[buffer ^ 1]);
    }
    __syncthreads();
    buffer ^= 1;
  }
}

}  // namespace taco4j
