// What obs_sweep.cu computes, in plain loops and double: row after row, column after column from the
// last to the first.
#pragma once

#include <vector>

namespace taco4j_reference {

// Moves column j of a row to a target, and the columns before it so as to make up for it.
//
// inverse: M, [columns, columns], lower triangular
// w: [columns, rows], in and out
inline void sweep_column(const std::vector<float>& inverse, int columns, std::vector<double>& w,
                         int rows, int row, int j, double target) {
  const double error = (w[j * rows + row] - target) / inverse[j * columns + j];
  for (int c = 0; c < j; c++) w[c * rows + row] -= error * inverse[j * columns + c];
  w[j * rows + row] = target;
}

// removed: [columns, rows]
inline void obs_sweep(const std::vector<float>& inverse, int columns, std::vector<double>& w,
                      int rows, const std::vector<unsigned char>& removed) {
  for (int row = 0; row < rows; row++) {
    for (int j = columns - 1; j >= 0; j--) {
      if (removed[j * rows + row]) sweep_column(inverse, columns, w, rows, row, j, 0);
    }
  }
}

// removed is written: of each `group` columns all but `kept`.
inline void obs_sweep_groups(const std::vector<float>& inverse, int columns, std::vector<double>& w,
                             int rows, std::vector<unsigned char>& removed, int kept, int group) {
  for (int row = 0; row < rows; row++) {
    auto saliency = [&](int j) {
      const double error = w[j * rows + row] / inverse[j * columns + j];
      return error * error;
    };
    for (int end = columns; end > 0; end -= group) {
      for (int j = end - 1; j >= end - group; j--) {
        int before = 0;
        for (int other = end - 1; other >= end - group; other--) {
          const double a = saliency(other);
          const double b = saliency(j);
          before += a < b || (a == b && other > j) ? 1 : 0;
        }
        removed[j * rows + row] = before < group - kept;
      }
      for (int j = end - 1; j >= end - group; j--) {
        if (removed[j * rows + row]) sweep_column(inverse, columns, w, rows, row, j, 0);
      }
    }
  }
}

}  // namespace taco4j_reference
