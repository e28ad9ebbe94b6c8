// The CPU reference of ziplm.cu: ZipLM by its definition, with W and Q rewritten at each step.
#pragma once

#include <cmath>
#include <limits>
#include <vector>

namespace taco4j_reference {

// X of A X = B by Gauss-Jordan elimination; a: [n, n] symmetric positive definite, b: [n, m].
inline std::vector<double> solve(std::vector<double> a, std::vector<double> b, int n, int m) {
  for (int k = 0; k < n; k++) {
    for (int i = 0; i < n; i++) {
      if (i == k) continue;
      const double factor = a[i * n + k] / a[k * n + k];
      for (int j = k; j < n; j++) a[i * n + j] -= factor * a[k * n + j];
      for (int j = 0; j < m; j++) b[i * m + j] -= factor * b[k * m + j];
    }
  }
  for (int i = 0; i < n; i++) {
    for (int j = 0; j < m; j++) b[i * m + j] /= a[i * n + i];
  }
  return b;
}

struct ZipLmStep {
  int group;
  double cost;
  double next;  // the cost of the second cheapest: how clear the choice was
};

// The groups in the order in which they go.
// inverse: [cols, cols] of the damped Hessian; weights: [rows, cols]
inline std::vector<ZipLmStep> ziplm(std::vector<double> inverse, std::vector<double> weights,
                                    int rows, int cols, int group, int count) {
  const int groups = cols / group;
  std::vector<bool> gone(groups);
  std::vector<ZipLmStep> steps;
  for (int step = 0; step < count; step++) {
    ZipLmStep best{-1, std::numeric_limits<double>::infinity(),
                   std::numeric_limits<double>::infinity()};
    // [g, rows + cols]: (Q_GG)^-1 times W_:G^T and Q_G:, of the best group.
    std::vector<double> best_solved;
    for (int b = 0; b < groups; b++) {
      if (gone[b]) continue;
      std::vector<double> block(group * group);
      std::vector<double> right(group * (rows + cols));
      for (int i = 0; i < group; i++) {
        for (int j = 0; j < group; j++) {
          block[i * group + j] = inverse[(b * group + i) * cols + b * group + j];
        }
        for (int r = 0; r < rows; r++) {
          right[i * (rows + cols) + r] = weights[r * cols + b * group + i];
        }
        for (int j = 0; j < cols; j++) {
          right[i * (rows + cols) + rows + j] = inverse[(b * group + i) * cols + j];
        }
      }
      const std::vector<double> solved = solve(block, right, group, rows + cols);
      double cost = 0;
      for (int i = 0; i < group; i++) {
        for (int r = 0; r < rows; r++) {
          cost += solved[i * (rows + cols) + r] * weights[r * cols + b * group + i];
        }
      }
      if (cost < best.cost) {
        best = {b, cost, best.cost};
        best_solved = solved;
      } else if (cost < best.next) {
        best.next = cost;
      }
    }
    const int at = best.group * group;
    const std::vector<double> before = inverse;
    for (int i = 0; i < group; i++) {
      const double* solved = &best_solved[i * (rows + cols)];
      for (int j = 0; j < cols; j++) {
        for (int r = 0; r < rows; r++) {
          weights[r * cols + j] -= solved[r] * before[(at + i) * cols + j];
        }
        for (int k = 0; k < cols; k++) {
          inverse[k * cols + j] -= before[(at + i) * cols + k] * solved[rows + j];
        }
      }
    }
    gone[best.group] = true;
    steps.push_back(best);
  }
  return steps;
}

}  // namespace taco4j_reference
