// The sweep of one block of columns, which pruning (obs_sweep.cu) and quantization (quant_sweep.cu)
// share: column after column, from the last position to the first, something is done to the weight
// w_j of each row, with the error e_j = (w_j - new w_j) / M_jj, and the columns still to come make
// up for it: w_c -= e_j M_jc for all c < j, M = (L_BB)^-1 (Frantar and Alistarh 2023, "SparseGPT",
// algorithm 1; Frantar et al. 2022, "GPTQ", algorithm 1; backwards, as org.taco4j.solve.ColumnSweep
// says).
//
// What bounds it: rows * b^2 / 2 multiply-adds against 4 * 4 * rows * b bytes (weights and change, in
// and out), 16 to the float for b = 128: both limits are a few microseconds for the layers there are,
// so what decides in truth is the chain of b columns that wait for each other. The design keeps that
// chain short, and has many thread blocks where there are many rows; 256 rows are 8, which a large
// GPU hardly notices, and the chain is all they take:
// - A thread block takes 32 rows, a row a lane. W is [position, row], so loads are coalesced.
// - A warp holds up to 16 columns of its rows in registers (a "span"). The warps take turns; in its
//   turn a warp sweeps its span with nobody to wait for and leaves the 16 errors in shared memory.
//   After one barrier all later warps apply these to their spans at once: 256 multiply-adds a lane
//   for 16 loads of errors, free of bank conflicts, and 64 broadcasts of 4 elements of M. So there
//   are 8 barriers for 128 columns, and the next warp's turn begins as soon as it has applied them.
// - Each element of M is wanted by one warp only. It fetches a tile of 16 x 16 for itself, while the
//   turn before still computes, and keeps one at a time in shared memory: 13 KiB a thread block, so
//   that registers decide how many of these a multiprocessor takes.
//
// Groups of N:M are chosen when the sweep reaches them; so spans hold whole groups, or a group
// begins with a span of its own.
//
// Launch: grid [ceil(rows / 32)], block [32, spans], dynamic shared memory as below. With
// unit = group <= 16 ? 16 / group * group : group, and perUnit = ceil(unit / 16):
//   spans = ceil(b / unit) * perUnit where group <= 16, else b / group * perUnit
//   bytes = 4 * (1024 + 272 * spans + (group > 16 ? 32 * group : 0))
// At most 14 spans and 48 KiB, which b <= 128 and any group up to that meet.
#pragma once
#include "common.cuh"

namespace taco4j {

// Columns a warp holds.
constexpr int kSlots = 16;
constexpr int kTile = kSlots * kSlots;
// What a block may have of them.
constexpr int kMaxSpans = 14;
// At most 72 registers a thread, so that three thread blocks of 8 spans fit a multiprocessor.
#define TACO4J_SWEEP_BOUNDS __launch_bounds__(taco4j::kMaxSpans* taco4j::kWarp, 2)

// Which columns are whose: span t holds [first(t), end(t)), at most 16, in its last slots. Span 0 is
// swept first.
struct Spans {
  int columns;
  int unit;      // columns of perUnit spans: whole groups, or the one group that they share
  int per_unit;

  __device__ __forceinline__ Spans(int columns, int group) : columns(columns) {
    unit = group <= kSlots ? kSlots / group * group : group;
    per_unit = ceil_div(unit, kSlots);
  }
  __device__ __forceinline__ int end(int t) const {
    return columns - t / per_unit * unit - t % per_unit * kSlots;
  }
  __device__ __forceinline__ int first(int t) const {
    return max(0, max(end(t) - kSlots, columns - (t / per_unit + 1) * unit));
  }
  // The column in a slot; not a column of the span where below first(t).
  __device__ __forceinline__ int column(int t, int slot) const { return end(t) - kSlots + slot; }
};

// A tile of M on its way from global to shared memory: what the columns of span t, its rows, move in
// the columns of a warp's own span.
struct Tile {
  float values[kTile / kWarp];

  // inverse: M, [columns, columns] stride ld
  __device__ __forceinline__ void fetch(const float* inverse, int ld, const Spans& spans, int t) {
    const int c = spans.column(threadIdx.y, threadIdx.x % kSlots);
    const bool is_column = c >= spans.first(threadIdx.y);
    const int first = spans.first(t);
#pragma unroll
    for (int n = 0; n < kTile / kWarp; n++) {
      const int j = spans.column(t, 2 * n + threadIdx.x / kSlots);
      values[n] = is_column && j >= first && c <= j ? inverse[index(j, ld, c)] : 0;
    }
  }

  // to: [16, 16]
  __device__ __forceinline__ void store(float* to) const {
    __syncwarp();
#pragma unroll
    for (int n = 0; n < kTile / kWarp; n++) to[n * kWarp + threadIdx.x] = values[n];
    __syncwarp();
  }
};

// w[0 .. slots) -= e * m[0 .. slots), m in shared memory, aligned to 16 bytes.
template <int slots>
__device__ __forceinline__ void move_columns(float (&w)[kSlots], float e, const float* m) {
#pragma unroll
  for (int k = 0; k < slots; k += 4) {
    const float4 four = *reinterpret_cast<const float4*>(m + k);
    w[k] -= e * four.x;
    if (k + 1 < slots) w[k + 1] -= e * four.y;
    if (k + 2 < slots) w[k + 2] -= e * four.z;
    if (k + 3 < slots) w[k + 3] -= e * four.w;
  }
}

// A span's turn, from slot `slot` down to 0.
template <int slot, typename Rule>
__device__ __forceinline__ void sweep_span(float (&w)[kSlots], Rule& rule, const float* pivots,
                                           const float* tile, float* errors, int used) {
  if (slot >= kSlots - used) {
    rule.reach(slot, w, pivots, errors, used);
    const float e = rule.sweep(slot, w[slot], pivots[slot]);
    errors[slot * kWarp + threadIdx.x] = e;
    move_columns<slot>(w, e, tile + slot * kSlots);
  } else {
    errors[slot * kWarp + threadIdx.x] = 0;
  }
  if constexpr (slot > 0) sweep_span<slot - 1>(w, rule, pivots, tile, errors, used);
}

// inverse: M, [columns, columns] stride ld_inverse, lower triangular; above the diagonal it is not
//   read
// weights: [columns, rows] stride ld; in before the sweep, out after it
// change: [columns, rows] stride ld_change: W in, W - swept W out; or null
// removed: [columns, rows] stride ld_removed, 0 or 1: in or out as the rule has it; or null
// Rule: what is done to a weight, and for groups when it is decided (see obs_sweep.cu). A lane's
//   marks are bits, one a slot.
template <typename Rule>
__device__ void sweep_block(Rule rule, const float* inverse, int ld_inverse, float* weights, int ld,
                            float* change, int ld_change, unsigned char* removed, int ld_removed,
                            int columns, int rows, int group) {
  TACO4J_DYNAMIC_SHARED(float, shared);
  const Spans spans(columns, group);
  const int count = blockDim.y;
  const int lane = threadIdx.x;
  const int span = threadIdx.y;
  const int row = blockIdx.x * kWarp + lane;
  const bool inside = row < rows;
  const int first = spans.first(span);
  const int used = spans.end(span) - first;

  float* errors = shared;                              // [2, 16, 32]
  float* tile = errors + (2 * kWarp + kSlots * span) * kSlots;  // [spans, 16, 16], of this warp
  float* pivots = errors + (2 * kWarp + kSlots * count + span) * kSlots;  // [spans, 16]
  float* scores = errors + (2 * kWarp + kSlots * count + count) * kSlots;  // [group, 32]

  Tile next;
  next.fetch(inverse, ld_inverse, spans, 0);
  float w[kSlots];
  unsigned marks = 0;
#pragma unroll
  for (int i = 0; i < kSlots; i++) {
    const int c = spans.column(span, i);
    const bool is_mine = inside && c >= first;
    w[i] = is_mine ? weights[index(c, ld, row)] : 0;
    if (Rule::kMarksAreGiven && removed != nullptr && is_mine) {
      marks |= (removed[index(c, ld_removed, row)] != 0 ? 1u : 0u) << i;
    }
  }
  if (lane < kSlots) {
    const int c = spans.column(span, lane);
    pivots[lane] = c >= first ? 1 / inverse[index(c, ld_inverse, c)] : 0;
  }
  rule.begin(marks, row, inside);
  next.store(tile);

  for (int t = 0; t < count; t++) {
    if (spans.per_unit > 1 && t % spans.per_unit == 0) {
      rule.choose_across(t, spans, w, pivots, scores, used);
    }
    if (span > t) next.fetch(inverse, ld_inverse, spans, t + 1);
    // Read in turn t - 2 by warps that have since met at the barrier of turn t - 1.
    float* turn = errors + t % 2 * kSlots * kWarp;
    if (span == t) sweep_span<kSlots - 1>(w, rule, pivots, tile, turn, used);
    __syncthreads();
    if (span > t) {
#pragma unroll 4
      for (int i = kSlots - 1; i >= 0; i--) {
        move_columns<kSlots>(w, turn[i * kWarp + lane], tile + i * kSlots);
      }
      next.store(tile);
    }
  }

#pragma unroll
  for (int i = 0; i < kSlots; i++) {
    const int c = spans.column(span, i);
    if (inside && c >= first) {
      weights[index(c, ld, row)] = w[i];
      if (change != nullptr) change[index(c, ld_change, row)] -= w[i];
      if (!Rule::kMarksAreGiven) removed[index(c, ld_removed, row)] = rule.marks >> i & 1;
    }
  }
}

}  // namespace taco4j
