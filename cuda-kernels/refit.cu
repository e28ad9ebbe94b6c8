// What stands before and after the solves of a refit (subset_solve.cu): the weights that a mask removes,
// and the refitted weights from what the solves change. Bound by bytes, each read and written once.
#include "common.cuh"

// weights: [count], float; kept: [count], 0 or 1; removed: [count], the weights where they are not
// kept, else 0. Any grid and block.
TACO4J_KERNEL taco4j_refit_removed_f64(const float* __restrict__ weights,
                                       const unsigned char* __restrict__ kept, double* removed,
                                       long long count) {
  const long long step = (long long)gridDim.x * blockDim.x;
  for (long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x; i < count; i += step) {
    removed[i] = kept[i] ? 0.0 : (double)weights[i];
  }
}

// weights: [count], in and out: plus changes where they are kept, else +0. changes: [count]. Any grid
// and block.
TACO4J_KERNEL taco4j_refit_apply_f32(float* weights, const unsigned char* __restrict__ kept,
                                     const double* __restrict__ changes, long long count) {
  const long long step = (long long)gridDim.x * blockDim.x;
  for (long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x; i < count; i += step) {
    weights[i] = kept[i] ? (float)((double)weights[i] + changes[i]) : 0.0f;
  }
}
