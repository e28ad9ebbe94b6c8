// What select_smallest.cu computes, by sorting.
#pragma once

#include <algorithm>
#include <numeric>
#include <vector>

namespace taco4j_reference {

// ||w_G L_GG||^2 of each unit G of columns: [units, rows].
inline std::vector<double> unit_scores(const std::vector<float>& weights,
                                       const std::vector<float>& factor, int units, int unit,
                                       int rows) {
  const int columns = units * unit;
  std::vector<double> scores(static_cast<size_t>(units) * rows);
  for (int u = 0; u < units; u++) {
    for (int row = 0; row < rows; row++) {
      for (int c = u * unit; c < (u + 1) * unit; c++) {
        double rotated = 0;
        for (int j = c; j < (u + 1) * unit; j++) {
          rotated += static_cast<double>(weights[j * rows + row]) * factor[j * columns + c];
        }
        scores[u * rows + row] += rotated * rotated;
      }
    }
  }
  return scores;
}

// 1 for the k smallest of scores: [units, rows], of equals those of the last unit first, and there
// those of the first row.
inline std::vector<unsigned char> smallest(const std::vector<float>& scores, int units, int rows,
                                           int k) {
  std::vector<int> order(scores.size());
  for (int u = units - 1, i = 0; u >= 0; u--) {
    for (int row = 0; row < rows; row++) order[i++] = u * rows + row;
  }
  std::stable_sort(order.begin(), order.end(), [&](int a, int b) { return scores[a] < scores[b]; });
  std::vector<unsigned char> marks(scores.size(), 0);
  for (int i = 0; i < k; i++) marks[order[i]] = 1;
  return marks;
}

}  // namespace taco4j_reference
