// Which weights of a block of columns go: the k units (single weights, or blocks of neighbouring
// columns in a row) with the smallest saliency, exactly k, and of equals those that the sweep
// reaches first. Removing the columns G of a unit costs ||w_G L_GG||^2 (org.taco4j.solve's
// FastObcSolver has the derivation). The k-th smallest is found without a sort, as all scores are
// at least 0 and their bits order them: a histogram of their leading 11 bits, one of the next 10
// among those in the bin that the k-th falls into, and one of the last 10.
//
//   scores (and histogram 0) -> histogram 1 -> histogram 2 -> marks
//
// What bounds it: each of the four kernels reads 4 bytes a score, from the L2 cache; with 10^5
// scores that is less than a launch takes. So there are few kernels: the first histogram comes with
// the scores, and nobody waits for a scan, as every thread block of the next kernel does it for
// itself, 8 bins a thread. Counters are integers, so that their order does not matter. Bins are
// counted in shared memory first; 3 bits of the mantissa in the first pass keep lanes apart.
//
// Launch, all of them: block [256]; the first three grid [any], elements are dealt out to the
// threads; marks: grid [units]. histograms and state: all 0 before the first of them.
#include "common.cuh"

namespace taco4j {
namespace {

constexpr int kThreads = 256;
constexpr int kBins = 2048;
constexpr int kBinsPerThread = kBins / kThreads;

__host__ __device__ constexpr int shift_of(int pass) { return 20 - 10 * pass; }

// The bits of a score, a number of 31 bits; a NaN is larger than all others.
__device__ __forceinline__ unsigned key_of(float score) {
  return (unsigned)__float_as_int(score) & 0x7fffffffu;
}

__device__ __forceinline__ void clear_bins(int* bins) {
  for (int bin = threadIdx.x; bin < kBins; bin += kThreads) bins[bin] = 0;
  __syncthreads();
}

// bins: [2048], shared, added to histogram: [2048]
__device__ __forceinline__ void add_bins(const int* bins, int* histogram) {
  __syncthreads();
  for (int bin = threadIdx.x; bin < kBins; bin += kThreads) {
    if (bins[bin] != 0) atomicAdd(&histogram[bin], bins[bin]);
  }
}

// The bin that the k-th smallest falls into, which it is in there, and how many there are.
struct Place {
  int bin;
  int rank;  // from 1 on
  int count;
};

// histogram: [2048]; k from 1 to the sum of it; scratch: [12], shared
__device__ Place find(const int* histogram, int k, int* scratch) {
  int counts[kBinsPerThread];
  int sum = 0;
#pragma unroll
  for (int i = 0; i < kBinsPerThread; i += 4) {
    const int4 four = reinterpret_cast<const int4*>(histogram)[(threadIdx.x * kBinsPerThread + i) / 4];
    counts[i] = four.x;
    counts[i + 1] = four.y;
    counts[i + 2] = four.z;
    counts[i + 3] = four.w;
    sum += four.x + four.y + four.z + four.w;
  }
  const int lane = threadIdx.x % kWarp;
  const int warp = threadIdx.x / kWarp;
  int before = sum;  // of this warp's threads up to this one, then of all before it
#pragma unroll
  for (int offset = 1; offset < kWarp; offset *= 2) {
    const int other = __shfl_up_sync(kAllLanes, before, offset);
    if (lane >= offset) before += other;
  }
  if (lane == kWarp - 1) scratch[warp] = before;
  __syncthreads();
  before -= sum;
  for (int other = 0; other < warp; other++) before += scratch[other];
  if (before < k && k <= before + sum) {
    int i = 0;
    while (before + counts[i] < k) before += counts[i++];
    scratch[8] = threadIdx.x * kBinsPerThread + i;
    scratch[9] = k - before;
    scratch[10] = counts[i];
  }
  __syncthreads();
  return {scratch[8], scratch[9], scratch[10]};
}

// What the kernels of a selection leave for the next: the leading bits of the k-th smallest as far
// as they are known, and which it is among those with these. state: [2, 2]
__device__ Place narrow(int pass, int k, const int* histograms, int* state, int* scratch) {
  const int rank = pass == 1 ? k : state[2 * (pass - 2) + 1];
  Place place = find(histograms + (pass - 1) * kBins, rank, scratch);
  if (pass > 1) place.bin |= state[2 * (pass - 2)] << 10;
  if (pass < 3 && blockIdx.x == 0 && threadIdx.x == 0) {
    state[2 * (pass - 1)] = place.bin;
    state[2 * (pass - 1) + 1] = place.rank;
  }
  return place;
}

}  // namespace
}  // namespace taco4j

// weights: [units * unit, rows] stride ld
// factor: L_BB, [units * unit, units * unit] stride ld_factor, lower triangle
// scores: [units, rows], written
// histograms: [3, 2048], of which this adds to the first
TACO4J_KERNEL taco4j_unit_scores_f32(const float* weights, int ld, const float* factor,
                                     int ld_factor, int units, int unit, int rows, float* scores,
                                     int* histograms) {
  using namespace taco4j;
  __shared__ int bins[kBins];
  clear_bins(bins);
  const int count = units * rows;
  for (int i = blockIdx.x * kThreads + threadIdx.x; i < count; i += gridDim.x * kThreads) {
    const int u = i / rows;
    const int row = i - u * rows;
    const int end = (u + 1) * unit;
    float score = 0;
    for (int c = u * unit; c < end; c++) {
      float rotated = 0;
      for (int j = c; j < end; j++) {
        rotated += weights[index(j, ld, row)] * __ldg(&factor[index(j, ld_factor, c)]);
      }
      score += rotated * rotated;
    }
    scores[i] = score;
    atomicAdd(&bins[key_of(score) >> shift_of(0)], 1);
  }
  add_bins(bins, histograms);
}

// scores: [count]
// pass: 1, then 2
// histograms: [3, 2048]: those before are read, that of the pass is added to
// state: [2, 2]
TACO4J_KERNEL taco4j_select_histogram_f32(const float* scores, int count, int k, int pass,
                                          int* histograms, int* state) {
  using namespace taco4j;
  __shared__ int bins[kBins];
  __shared__ int scratch[12];
  if (k == 0) return;
  clear_bins(bins);
  const unsigned known = narrow(pass, k, histograms, state, scratch).bin;
  for (int i = blockIdx.x * kThreads + threadIdx.x; i < count; i += gridDim.x * kThreads) {
    const unsigned key = key_of(scores[i]);
    if (key >> shift_of(pass - 1) == known) {
      atomicAdd(&bins[key >> shift_of(pass) & 1023], 1);
    }
  }
  add_bins(bins, histograms + pass * kBins);
}

// scores: [units, rows]
// removed: [units * unit, rows] stride ld_removed, written: 1 for the k units with the smallest
//   score, of equals those of the last unit first, and there those of the first row
TACO4J_KERNEL taco4j_select_mark_f32(const float* scores, int units, int unit, int rows, int k,
                                     const int* histograms, int* state, unsigned char* removed,
                                     int ld_removed) {
  using namespace taco4j;
  __shared__ int scratch[12];
  __shared__ int sums[kWarp];
  const int u = blockIdx.x;
  const float* mine = scores + index(u, rows, 0);
  unsigned bound = 0;  // smaller ones go
  int ties = 0;        // of this unit's equals, how many
  int equals = 0;      // of how many; not counted where all or none go
  if (k > 0) {
    const Place place = narrow(3, k, histograms, state, scratch);
    bound = place.bin;
    ties = place.rank == place.count ? rows : 0;
    equals = rows;
    if (place.rank < place.count) {
      // Rare, so that it needs no kernel of its own: every thread block counts what comes before.
      int before = 0;
      int own = 0;
      for (int i = u * rows + threadIdx.x; i < units * rows; i += kThreads) {
        const int is_equal = key_of(scores[i]) == bound ? 1 : 0;
        before += i >= (u + 1) * rows ? is_equal : 0;
        own += i < (u + 1) * rows ? is_equal : 0;
      }
      before = block_sum(before, sums);
      __syncthreads();
      equals = block_sum(own, sums);
      ties = min(equals, max(0, place.rank - before));
    }
  }
  int left = ties;
  for (int first = 0; first < rows; first += kThreads) {
    const int row = first + threadIdx.x;
    const unsigned key = row < rows ? key_of(mine[row]) : 0xffffffffu;
    bool gone = key < bound;
    if (ties == 0 || ties == equals) {
      gone = gone || (ties > 0 && key == bound);
    } else {
      // Only the unit in which the last one goes comes here.
      const unsigned ballot = __ballot_sync(kAllLanes, key == bound);
      __syncthreads();
      if (threadIdx.x % kWarp == 0) sums[threadIdx.x / kWarp] = __popc(ballot);
      __syncthreads();
      int before = __popc(ballot & ((1u << threadIdx.x % kWarp) - 1));
      int all = 0;
      for (int warp = 0; warp < kThreads / kWarp; warp++) {
        before += warp < (int)threadIdx.x / kWarp ? sums[warp] : 0;
        all += sums[warp];
      }
      gone = gone || (key == bound && before < left);
      left -= all;
    }
    for (int m = 0; m < unit && row < rows; m++) {
      removed[index(u * unit + m, ld_removed, row)] = gone ? 1 : 0;
    }
  }
}
