// Blocks of columns for the tests of obs_sweep.cu and quant_sweep.cu, and how these are launched.
#pragma once

#include <random>
#include <vector>

#include "column_block.cuh"

struct SweepProblem {
  int columns;
  int rows;
  int ld;                        // stride of all [columns, rows], a little more than rows
  std::vector<float> inverse;    // [columns, columns]; NaN above the diagonal, which is not read
  std::vector<float> weights;    // [columns, rows]

  SweepProblem(int columns, int rows, std::mt19937& random)
      : columns(columns), rows(rows), ld(rows + 3), inverse(columns * columns, NAN),
        weights(columns * rows) {
    std::normal_distribution<float> normal;
    std::uniform_real_distribution<float> pivot(0.5f, 2.0f);
    // Small enough beside the diagonal that a sweep does not blow up.
    const float coupling = 0.5f / std::sqrt(static_cast<float>(columns));
    for (int j = 0; j < columns; j++) {
      for (int c = 0; c < j; c++) inverse[j * columns + c] = coupling * normal(random);
      inverse[j * columns + j] = pivot(random);
    }
    for (float& w : weights) w = normal(random);
  }

  // [columns, rows] -> [columns, ld], with `beyond` after each row.
  template <typename T>
  std::vector<T> padded(const std::vector<T>& dense, T beyond) const {
    std::vector<T> values(columns * ld, beyond);
    for (int j = 0; j < columns; j++) {
      for (int row = 0; row < rows; row++) values[j * ld + row] = dense[j * rows + row];
    }
    return values;
  }

  // Whether what lies beyond each row is still as it was.
  template <typename T>
  bool untouched_beyond(const std::vector<T>& values, T beyond) const {
    for (int j = 0; j < columns; j++) {
      for (int row = rows; row < ld; row++) {
        if (values[j * ld + row] != beyond) return false;
      }
    }
    return true;
  }
};

// As at the top of column_block.cuh.
struct SweepLaunch {
  dim3 grid, block;
  size_t shared;

  SweepLaunch(int columns, int rows, int group) {
    const int unit = group <= 16 ? 16 / group * group : group;
    const int per_unit = (unit + 15) / 16;
    const int spans = (columns + unit - 1) / unit * per_unit;
    grid = dim3((rows + 31) / 32);
    block = dim3(32, spans);
    shared = 4 * (1024 + 272 * spans + (group > 16 ? 32 * group : 0));
    if (spans > taco4j::kMaxSpans || shared > 48 << 10) {
      throw taco4j_shim::LaunchError("More than a block of columns may have");
    }
  }
};
