// Removes weights of one block of columns and moves the columns still to come so as to make up for
// it: the inner loop of SparseGPT (Frantar and Alistarh 2023, algorithm 1). The marks are given, or
// chosen by N:M group when the sweep reaches the group. column_block.cuh has the design, what bounds
// it and the launch; obs_sweep_reference.h the same in plain loops.
#include "column_block.cuh"

namespace taco4j {
namespace {

// Removes what is marked: e = w_j / M_jj there, else 0.
struct Removal {
  unsigned marks;  // bits, one a slot

  __device__ __forceinline__ float sweep(int slot, float& w, float pivot) const {
    const bool gone = marks >> slot & 1;
    const float e = gone ? w * pivot : 0;
    w = gone ? 0 : w;
    return e;
  }
};

struct GivenMarks : Removal {
  static constexpr bool kMarksAreGiven = true;

  __device__ __forceinline__ void begin(unsigned given, int, bool) { marks = given; }
  __device__ __forceinline__ void reach(int, const float (&)[kSlots], const float*, float*, int) {}
  __device__ __forceinline__ void choose_across(int, const Spans&, const float (&)[kSlots],
                                                const float*, float*, int) {}
};

// Of each group the weights with the smallest saliency (w_j / M_jj)^2 go: those before which fewer
// than `count` of the group come, by saliency and, of equals, by turn. Comparing each with each
// needs no order among the lanes' ways, and no more than the sweep itself for groups up to 64.
struct ChosenMarks : Removal {
  static constexpr bool kMarksAreGiven = false;
  int group;
  int count;
  unsigned ends;  // bits, one a slot: where a group inside of a span has its last column

  __device__ __forceinline__ ChosenMarks(int group, int count) : group(group), count(count) {
    ends = 0;
#pragma unroll 1
    for (int slot = kSlots - 1; slot >= 0 && group <= kSlots; slot -= group) ends |= 1u << slot;
  }
  __device__ __forceinline__ void begin(unsigned, int, bool) { marks = 0; }

  // For groups inside of a span: where slot is the last column of one, chooses for all of it. The
  // scores wait where the errors of these columns will be; each lane reads only its own.
  __device__ __forceinline__ void reach(int slot, const float (&w)[kSlots], const float* pivots,
                                        float* scratch, int) {
    if ((ends >> slot & 1) == 0) return;
    float* scores = scratch + threadIdx.x;
#pragma unroll
    for (int k = 0; k < kSlots; k++) {
      if (k <= slot) scores[k * kWarp] = saliency(w[k], pivots[k]);
    }
#pragma unroll 1
    for (int k = slot; k > slot - group; k--) {
      const float mine = scores[k * kWarp];
      int before = 0;
#pragma unroll 1
      for (int other = slot; other > slot - group; other--) {
        const float score = scores[other * kWarp];
        before += (other > k ? score <= mine : score < mine) ? 1 : 0;
      }
      marks |= (before < count ? 1u : 0u) << k;
    }
  }

  // For groups of several spans, of which t is the first: all of them choose at once.
  // scores: [group, 32], in order of their turns
  __device__ __forceinline__ void choose_across(int t, const Spans& spans,
                                                const float (&w)[kSlots], const float* pivots,
                                                float* scores, int used) {
    const int span = threadIdx.y;
    const bool takes_part = span >= t && span < t + spans.per_unit;
    const int begin = (span - t) * kSlots;  // turns of this span: begin, begin + 1, ...
    scores += threadIdx.x;
    float mine[kSlots];  // by slot
    if (takes_part) {
#pragma unroll
      for (int k = 0; k < kSlots; k++) {
        mine[k] = saliency(w[k], pivots[k]);
        if (k >= kSlots - used) scores[(begin + kSlots - 1 - k) * kWarp] = mine[k];
      }
    }
    __syncthreads();
    if (!takes_part) return;
    unsigned before[kSlots / 4] = {};  // four counts in the bytes of each
#pragma unroll 1
    for (int turn = 0; turn < begin; turn++) {
      const float score = scores[turn * kWarp];
#pragma unroll
      for (int k = 0; k < kSlots; k++) before[k / 4] += score <= mine[k] ? one(k) : 0;
    }
#pragma unroll 1
    for (int turn = begin; turn < begin + used; turn++) {
      const float score = scores[turn * kWarp];
      const int slot = kSlots - 1 - (turn - begin);
#pragma unroll
      for (int k = 0; k < kSlots; k++) {
        before[k / 4] += (slot > k ? score <= mine[k] : score < mine[k]) ? one(k) : 0;
      }
    }
#pragma unroll 1
    for (int turn = begin + used; turn < group; turn++) {
      const float score = scores[turn * kWarp];
#pragma unroll
      for (int k = 0; k < kSlots; k++) before[k / 4] += score < mine[k] ? one(k) : 0;
    }
#pragma unroll
    for (int k = 0; k < kSlots; k++) {
      marks |= ((int)(before[k / 4] >> k % 4 * 8 & 0xff) < count ? 1u : 0u) << k;
    }
  }

 private:
  static __device__ __forceinline__ unsigned one(int k) { return 1u << k % 4 * 8; }
  static __device__ __forceinline__ float saliency(float w, float pivot) {
    const float e = w * pivot;
    return e * e;
  }
};

}  // namespace
}  // namespace taco4j

// inverse: M, [columns, columns] stride ld_inverse, lower triangle
// weights: [columns, rows] stride ld, in and out; removed weights become +0
// change: [columns, rows] stride ld_change: W in, W - swept W out; may be null
// removed: [columns, rows] stride ld_removed, 0 or 1, read
// Launch: column_block.cuh, with group = 1
TACO4J_KERNEL TACO4J_SWEEP_BOUNDS taco4j_obs_sweep_f32(
    const float* inverse, int ld_inverse, float* weights, int ld, float* change, int ld_change,
    unsigned char* removed, int ld_removed, int columns, int rows) {
  taco4j::sweep_block(taco4j::GivenMarks(), inverse, ld_inverse, weights, ld, change, ld_change,
                      removed, ld_removed, columns, rows, 1);
}

// As above, but removed is written: of each `group` columns, counted from the last, all but `kept`
// are removed. group divides columns and is at most 128.
TACO4J_KERNEL TACO4J_SWEEP_BOUNDS taco4j_obs_sweep_groups_f32(
    const float* inverse, int ld_inverse, float* weights, int ld, float* change, int ld_change,
    unsigned char* removed, int ld_removed, int columns, int rows, int kept, int group) {
  taco4j::sweep_block(taco4j::ChosenMarks(group, group - kept), inverse, ld_inverse, weights, ld,
                      change, ld_change, removed, ld_removed, columns, rows, group);
}
