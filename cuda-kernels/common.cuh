// What the kernels share: vocabulary, warp and block reductions, shared memory.
//
// The same sources are compiled twice: by nvcc for GPUs, and by a C++ compiler for the tests, where
// TACO4J_CPU_SHIM is defined and cuda_shim.h runs a block's threads as fibers. So kernels use only
// what cuda_shim.h lists, and declare dynamic shared memory with TACO4J_DYNAMIC_SHARED.
//
// Conventions:
// - One operation a file. Kernels are extern "C" and named taco4j_<operation>_<type>: f32, f64.
// - Matrices are row-major; "[rows, cols] stride ld" means element (i, j) at i * ld + j.
// - Sizes and strides are int; offsets into matrices are computed in long long (index()).
// - Results are the same at every launch: no atomic additions of floating-point numbers.
#pragma once

#ifdef TACO4J_CPU_SHIM
#include "cuda_shim.h"
// [bytes given at launch], shared by the threads of a block.
#define TACO4J_DYNAMIC_SHARED(type, name) type* name = static_cast<type*>(taco4j_dynamic_shared())
#else
#include <cuda_runtime.h>
#define TACO4J_DYNAMIC_SHARED(type, name)                    \
  extern __shared__ __align__(16) unsigned char name##_raw[]; \
  type* name = reinterpret_cast<type*>(name##_raw)
#endif

#define TACO4J_KERNEL extern "C" __global__ void

namespace taco4j {

constexpr int kWarp = 32;
constexpr unsigned kAllLanes = 0xffffffffu;

// Offset of element (row, col); matrices may have more than 2^31 elements.
__device__ __forceinline__ long long index(long long row, int ld, long long col) {
  return row * ld + col;
}

__host__ __device__ constexpr int ceil_div(int value, int by) { return (value + by - 1) / by; }

// The sum over a warp, in all lanes, always added up in the same order.
template <typename T>
__device__ __forceinline__ T warp_sum(T value) {
  for (int offset = kWarp / 2; offset > 0; offset /= 2) {
    value += __shfl_xor_sync(kAllLanes, value, offset);
  }
  return value;
}

// A value and whose it is; of equal values the lower index is the smaller.
template <typename T>
struct Candidate {
  T value;
  int index;

  __device__ __forceinline__ bool before(const Candidate& other) const {
    return value < other.value || (value == other.value && index < other.index);
  }
};

// The smallest candidate of a warp, in all lanes.
template <typename T>
__device__ __forceinline__ Candidate<T> warp_min(Candidate<T> candidate) {
  for (int offset = kWarp / 2; offset > 0; offset /= 2) {
    Candidate<T> other{__shfl_xor_sync(kAllLanes, candidate.value, offset),
                       __shfl_xor_sync(kAllLanes, candidate.index, offset)};
    if (other.before(candidate)) candidate = other;
  }
  return candidate;
}

// The sum over a block of at most 1024 threads, a multiple of 32, in all threads.
// scratch: [32], shared; free to be written again after the next __syncthreads.
template <typename T>
__device__ __forceinline__ T block_sum(T value, T* scratch) {
  value = warp_sum(value);
  const int warp = threadIdx.x / kWarp;
  const int lane = threadIdx.x % kWarp;
  if (lane == 0) scratch[warp] = value;
  __syncthreads();
  const int warps = blockDim.x / kWarp;
  return warp_sum(lane < warps ? scratch[lane] : T(0));
}

// The smallest candidate of a block, as block_sum. values, indices: [32], shared.
template <typename T>
__device__ __forceinline__ Candidate<T> block_min(Candidate<T> candidate, T* values, int* indices) {
  candidate = warp_min(candidate);
  const int warp = threadIdx.x / kWarp;
  const int lane = threadIdx.x % kWarp;
  if (lane == 0) {
    values[warp] = candidate.value;
    indices[warp] = candidate.index;
  }
  __syncthreads();
  const int warps = blockDim.x / kWarp;
  const int source = lane < warps ? lane : 0;
  return warp_min(Candidate<T>{values[source], indices[source]});
}

}  // namespace taco4j
