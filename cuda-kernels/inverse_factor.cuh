// The inverse Cholesky factor of a small matrix by all threads of a block.
#pragma once

#include "common.cuh"

namespace taco4j {

// w := L^-1 with w = L L^T in its lower triangle, [n, n] with row stride ld, in shared or global
// memory; above the diagonal nothing is read or written. What eliminates a column of w is done to
// the identity matrix too, whose rows take the place of the columns that are finished. The threads,
// a multiple of 32, must have synchronised, and have so again after it. False where a pivot was not
// positive; w is then spoilt.
__device__ inline bool inverse_factor(double* w, int ld, int n) {
  const int warp = threadIdx.x / kWarp;
  const int lane = threadIdx.x % kWarp;
  const int warps = blockDim.x / kWarp;
  for (int k = 0; k < n; k++) {
    const double pivot = w[index(k, ld, k)];
    if (!(pivot > 0)) return false;  // the same for all
    const double scale = 1 / sqrt(pivot);
    __syncthreads();
    for (int i = threadIdx.x; i < n; i += blockDim.x) {
      if (i < k) w[index(k, ld, i)] *= scale;
      if (i == k) w[index(k, ld, k)] = scale;
      if (i > k) w[index(i, ld, k)] *= scale;
    }
    __syncthreads();
    for (int i = k + 1 + warp; i < n; i += warps) {
      const double factor = w[index(i, ld, k)];
      for (int j = lane; j <= i; j += kWarp) {
        const double other = j < k ? w[index(k, ld, j)] : w[index(j, ld, k)];
        if (j != k) w[index(i, ld, j)] -= factor * other;
      }
    }
    __syncthreads();
    for (int i = k + 1 + threadIdx.x; i < n; i += blockDim.x) w[index(i, ld, k)] *= -scale;
    __syncthreads();
  }
  return true;
}

}  // namespace taco4j
