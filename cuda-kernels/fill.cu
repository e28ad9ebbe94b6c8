// Sets every element of an array.
#include "common.cuh"

namespace {

template <typename T>
__device__ void fill(T* to, T value, long long count) {
  const long long step = (long long)gridDim.x * blockDim.x;
  for (long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x; i < count; i += step) {
    to[i] = value;
  }
}

}  // namespace

// to: [count]
TACO4J_KERNEL taco4j_fill_f32(float* to, float value, long long count) { fill(to, value, count); }
TACO4J_KERNEL taco4j_fill_f64(double* to, double value, long long count) { fill(to, value, count); }
TACO4J_KERNEL taco4j_fill_i32(int* to, int value, long long count) { fill(to, value, count); }
