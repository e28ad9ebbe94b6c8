// What exact OBC makes of the losses of all rows (Frantar and Alistarh 2022, "Optimal Brain
// Compression", section 4, "global step"): each set of rows loses as many units as it has among the
// smallest losses of the layer, of equals the first rows' first steps; and the mask of that.
//
// The loss of the given rank is found by its digits, from the highest 8 bits to the lowest (a radix
// selection): losses are not negative, so that their bits are ordered as they are. Every pass reads
// all losses once, 8 bytes each, which bounds all passes but the first: there nearly all losses have
// the same digit, seven bits of the exponent, and wait for each other at one counter. Only counts of
// whole numbers are added up by atomics, so that nothing depends on the order.
#include "common.cuh"

namespace {

using taco4j::kAllLanes;
using taco4j::kWarp;

constexpr int kDigitBits = 8;
constexpr int kDigits = 1 << kDigitBits;

__device__ __forceinline__ unsigned long long bits_of(double loss) {
  return (unsigned long long)__double_as_longlong(loss);
}

// The first step of warps that go over sets, and how many sets lie between two of a warp's.
__device__ __forceinline__ int warp_in_grid() {
  return (blockIdx.x * blockDim.x + threadIdx.x) / kWarp;
}

__device__ __forceinline__ int warps_of_grid() { return gridDim.x * blockDim.x / kWarp; }

// Σ of the lanes before this one; sum: of all.
__device__ __forceinline__ int sum_before(int value, int* sum) {
  const int lane = threadIdx.x % kWarp;
  int inclusive = value;
  for (int offset = 1; offset < kWarp; offset *= 2) {
    const int other = __shfl_up_sync(kAllLanes, inclusive, offset);
    if (lane >= offset) inclusive += other;
  }
  *sum = __shfl_sync(kAllLanes, inclusive, kWarp - 1);
  return inclusive - value;
}

}  // namespace

// One digit of the loss of a rank; to be launched for digit = 0 … 7, after which state[0] are the
// bits of that loss.
//
// losses: [sets, steps], of which each set has the first taken[set]; none negative, none NaN
// rank: 0 … number of losses - 1; read where digit is 0
// state: [2]: the digits so far, and the rank among the losses that have them; free at digit 0
// histogram: [257], 0 at the first launch and again after each
// grid: any; block: 256
TACO4J_KERNEL taco4j_obc_select_digit(const double* losses, const int* taken, int sets, int steps,
                                      long long rank, int digit, unsigned long long* state,
                                      unsigned* histogram) {
  __shared__ unsigned counts[kDigits];
  __shared__ bool is_last;
  const int shift = 64 - kDigitBits * (digit + 1);
  const unsigned long long prefix = digit == 0 ? 0 : state[0];
  const unsigned long long wanted = digit == 0 ? (unsigned long long)rank : state[1];
  counts[threadIdx.x] = 0;
  __syncthreads();
  const int lane = threadIdx.x % kWarp;
  for (int set = warp_in_grid(); set < sets; set += warps_of_grid()) {
    const double* row = losses + taco4j::index(set, steps, 0);
    for (int step = lane; step < taken[set]; step += kWarp) {
      const unsigned long long bits = bits_of(row[step]);
      // Not by a shift of 64, which is undefined.
      if (digit == 0 || (bits ^ prefix) >> shift >> kDigitBits == 0) {
        atomicAdd(&counts[(bits >> shift) % kDigits], 1u);
      }
    }
  }
  __syncthreads();
  if (counts[threadIdx.x] > 0) atomicAdd(&histogram[threadIdx.x], counts[threadIdx.x]);
  __threadfence();
  __syncthreads();
  if (threadIdx.x == 0) is_last = atomicAdd(&histogram[kDigits], 1u) == gridDim.x - 1;
  __syncthreads();
  if (!is_last) return;

  // The last block to get here sees the counts of all.
  counts[threadIdx.x] = atomicExch(&histogram[threadIdx.x], 0u);
  __syncthreads();
  if (threadIdx.x == 0) {
    histogram[kDigits] = 0;
    unsigned long long below = 0;
    int found = 0;
    while (found < kDigits - 1 && below + counts[found] <= wanted) below += counts[found++];
    state[0] = prefix | (unsigned long long)found << shift;
    state[1] = wanted - below;
  }
}

// How many losses of each set are below a threshold, and how many equal it.
//
// losses, taken: as above
// threshold: [1]
// below, equal: [sets] out
// grid: any; block: any multiple of 32
TACO4J_KERNEL taco4j_obc_count(const double* losses, const int* taken, int sets, int steps,
                               const double* threshold, int* below, int* equal) {
  const int lane = threadIdx.x % kWarp;
  const double limit = *threshold;
  for (int set = warp_in_grid(); set < sets; set += warps_of_grid()) {
    const double* row = losses + taco4j::index(set, steps, 0);
    int less = 0;
    int same = 0;
    for (int step = lane; step < taken[set]; step += kWarp) {
      less += row[step] < limit ? 1 : 0;
      same += row[step] == limit ? 1 : 0;
    }
    less = taco4j::warp_sum(less);
    same = taco4j::warp_sum(same);
    if (lane == 0) {
      below[set] = less;
      equal[set] = same;
    }
  }
}

// Of the losses that equal the threshold the first sets' go until there are so many as asked for.
//
// total: units that the layer loses
// counts: [sets]: in as below; out how many units each set loses
// equal: [sets]
// grid: 1; block: 32
TACO4J_KERNEL taco4j_obc_share_ties(long long total, int sets, int* counts, const int* equal) {
  const int lane = threadIdx.x % kWarp;
  long long left = total;
  for (int set = lane; set - lane < sets; set += kWarp) {
    left -= taco4j::warp_sum((long long)(set < sets ? counts[set] : 0));
  }
  for (int set = lane; set - lane < sets; set += kWarp) {
    const int same = set < sets ? equal[set] : 0;
    int all;
    const long long here = left - sum_before(same, &all);
    if (set < sets && here > 0) counts[set] += here < same ? (int)here : same;
    left -= all;
  }
}

// The mask: all but the units of each set's first steps.
//
// order: [sets, steps]: units
// counts: [sets]: so many of them go
// columns: [n]: the column that stands at each place; unit u is places u · k … u · k + k - 1
// kept: [rows, n] out: 1 or 0
// grid: any; block: any
TACO4J_KERNEL taco4j_obc_mask(const int* order, const int* counts, int sets, int steps,
                              const int* columns, int k, int rows, int set_rows, int n,
                              unsigned char* kept) {
  for (int set = blockIdx.x; set < sets; set += gridDim.x) {
    const int first = set * set_rows;
    const int end = first + set_rows < rows ? first + set_rows : rows;
    for (long long i = taco4j::index(first, n, threadIdx.x); i < taco4j::index(end, n, 0);
         i += blockDim.x) {
      kept[i] = 1;
    }
    __syncthreads();
    const int* units = order + taco4j::index(set, steps, 0);
    for (int i = threadIdx.x; i < counts[set] * k; i += blockDim.x) {
      const int column = columns[units[i / k] * k + i % k];
      for (int row = first; row < end; row++) kept[taco4j::index(row, n, column)] = 0;
    }
  }
}
