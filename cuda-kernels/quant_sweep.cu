// Moves the weights of one block of columns to the grids of their rows, and the columns still to
// come so as to make up for it: the inner loop of GPTQ (Frantar et al. 2022, algorithm 1).
// column_block.cuh has the design, what bounds it and the launch; quant_sweep_reference.h the same
// in plain loops.
#include "column_block.cuh"

namespace taco4j {
namespace {

// A weight becomes +0 where it is marked, else the nearest point of its row's grid.
struct Rounding {
  static constexpr bool kMarksAreGiven = true;
  unsigned marks;
  const float* scales;
  const float* lows;
  const float* highs;
  float scale, lowest, highest;

  __device__ __forceinline__ void begin(unsigned given, int row, bool inside) {
    marks = given;
    scale = inside ? scales[row] : 1;
    lowest = inside ? lows[row] : 0;
    highest = inside ? highs[row] : 0;
  }
  __device__ __forceinline__ void reach(int, const float (&)[kSlots], const float*, float*, int) {}
  __device__ __forceinline__ void choose_across(int, const Spans&, const float (&)[kSlots],
                                                const float*, float*, int) {}

  __device__ __forceinline__ float sweep(int slot, float& w, float pivot) const {
    // rintf rounds half to even. Comparisons instead of fminf, which would hide a NaN.
    const float code = rintf(w / scale);
    const float clamped = code < lowest ? lowest : code > highest ? highest : code;
    // Adding 0 turns -0 into +0.
    const float point = marks >> slot & 1 ? 0.0f : scale * clamped + 0.0f;
    const float e = (w - point) * pivot;
    w = point;
    return e;
  }
};

}  // namespace
}  // namespace taco4j

// inverse: M, [columns, columns] stride ld_inverse, lower triangle
// weights: [columns, rows] stride ld, in and out
// change: [columns, rows] stride ld_change: W in, W - swept W out; may be null
// removed: [columns, rows] stride ld_removed: 1 where the weight becomes 0; null for none
// scale, lowest, highest: [rows]: points are scale * (lowest, lowest + 1, ..., highest), whole
//   numbers below 2^22 in magnitude
// Launch: column_block.cuh, with group = 1
TACO4J_KERNEL TACO4J_SWEEP_BOUNDS taco4j_quant_sweep_f32(
    const float* inverse, int ld_inverse, float* weights, int ld, float* change, int ld_change,
    unsigned char* removed, int ld_removed, const float* scale, const float* lowest,
    const float* highest, int columns, int rows) {
  taco4j::Rounding rule;
  rule.scales = scale;
  rule.lows = lowest;
  rule.highs = highest;
  taco4j::sweep_block(rule, inverse, ld_inverse, weights, ld, change, ld_change, removed,
                      ld_removed, columns, rows, 1);
}
