// Inverts the diagonal blocks of a lower triangular factor, all at once: the M = (L_BB)^-1 with which
// the blocks of a sweep are swept. The factor stays.
//
// Column c of M follows from L by forward substitution, and needs no other column:
//   M_ic = ((i == c) - sum over k = c .. i - 1 of L_ik M_kc) / L_ii.
// What bounds it is this chain of at most 128 rows; it is once a layer, a few microseconds for all
// blocks. A thread takes a column, eight rows at a time: of a row above it reads its own element and
// eight of L, which all threads share, for eight multiply-adds. Thread blocks are single warps, of 32
// columns, so that they are many, need no barriers, and hold their columns in 16 KiB of shared memory.
#include "common.cuh"

namespace taco4j {
namespace {

constexpr int kMostColumns = 128;
constexpr int kRows = 8;

}  // namespace
}  // namespace taco4j

// lower: L, [cols, cols] stride ld; above its diagonal nothing is read
// inverses: [ceil(cols / block), block, block], written: that of columns [cols - (t + 1) block,
//   cols - t block) is t; of the last, which may have fewer, the first rows and columns, others are
//   not written; above the diagonal 0
// block: columns of a block, at most 128
// Launch: grid [ceil(block / 32), ceil(cols / block)], block [32]
TACO4J_KERNEL taco4j_diagonal_inverse_f32(const float* lower, int ld, int cols, int block,
                                          float* inverses) {
  using namespace taco4j;
  __shared__ float columns[kMostColumns][kWarp];     // of M
  __shared__ __align__(16) float rows[kMostColumns][kRows];  // of L, transposed
  const int end = cols - (int)blockIdx.y * block;
  const int first = max(0, end - block);
  const int size = end - first;
  const int begin = blockIdx.x * kWarp;  // above which the columns of this warp are 0
  const int lane = threadIdx.x;
  const int c = begin + lane;
  const float* l = lower + index(first, ld, first);
  float* to = inverses + (long long)blockIdx.y * block * block;
  if (begin >= size) return;
  for (int i = 0; i < begin && c < size; i++) to[index(i, block, c)] = 0;

  for (int start = begin; start < size; start += kRows) {
    __syncwarp();
    for (int at = lane; at < (start + kRows - begin) * kRows; at += kWarp) {
      // Neighbouring lanes read neighbouring columns of L; the conflicts of the store are the price.
      const int width = start + kRows - begin;
      const int r = at / width;
      const int k = begin + at - r * width;
      rows[k - begin][r] = start + r < size && k <= start + r ? l[index(start + r, ld, k)] : 0;
    }
    __syncwarp();
    float sums[kRows];
#pragma unroll
    for (int r = 0; r < kRows; r++) sums[r] = start + r == c ? 1 : 0;
#pragma unroll 4
    for (int k = 0; k < start - begin; k++) {
      const float m = columns[k][lane];
      const float4 a = *reinterpret_cast<const float4*>(&rows[k][0]);
      const float4 b = *reinterpret_cast<const float4*>(&rows[k][4]);
      sums[0] -= a.x * m;
      sums[1] -= a.y * m;
      sums[2] -= a.z * m;
      sums[3] -= a.w * m;
      sums[4] -= b.x * m;
      sums[5] -= b.y * m;
      sums[6] -= b.z * m;
      sums[7] -= b.w * m;
    }
#pragma unroll
    for (int r = 0; r < kRows; r++) {
      const int at = start - begin + r;
      // Rows above the diagonal stay exactly 0: all of their sums are.
      const float m = start + r < size ? sums[r] / rows[at][r] : 0;
#pragma unroll
      for (int below = r + 1; below < kRows; below++) sums[below] -= rows[at][below] * m;
      columns[at][lane] = m;
      if (start + r < size && c < size) to[index(start + r, block, c)] = m;
    }
  }
}
