// The CPU reference of pivot_search.cu: every support is fitted anew, and every swap tried.
#pragma once

#include <cmath>
#include <limits>
#include <vector>

namespace taco4j_reference {

// Rows that share a mask.
struct SearchedRows {
  int cols, rows;
  std::vector<double> h;        // [cols, cols]
  std::vector<double> targets;  // [rows, cols]
  double energy;
  std::vector<int> group_of;  // [cols], or empty
};

// What the fit to a support has to say.
struct SupportFit {
  double error;
  std::vector<double> inverse;  // G, [size, size]
  std::vector<double> weights;  // [rows, size]
  bool regular;
};

inline SupportFit fit(const SearchedRows& problem, const std::vector<int>& support) {
  const int n = static_cast<int>(support.size());
  SupportFit fit{problem.energy, std::vector<double>(n * n), {}, true};
  std::vector<double> a(n * n);
  for (int i = 0; i < n; i++) {
    fit.inverse[i * n + i] = 1;
    for (int j = 0; j < n; j++) a[i * n + j] = problem.h[support[i] * problem.cols + support[j]];
  }
  for (int k = 0; k < n; k++) {
    const double pivot = a[k * n + k];
    fit.regular = fit.regular && pivot > 0;
    for (int j = 0; j < n; j++) {
      a[k * n + j] /= pivot;
      fit.inverse[k * n + j] /= pivot;
    }
    for (int i = 0; i < n; i++) {
      const double factor = a[i * n + k];
      for (int j = 0; j < n && i != k; j++) {
        a[i * n + j] -= factor * a[k * n + j];
        fit.inverse[i * n + j] -= factor * fit.inverse[k * n + j];
      }
    }
  }
  for (int r = 0; r < problem.rows; r++) {
    for (int p = 0; p < n; p++) {
      double weight = 0;
      for (int q = 0; q < n; q++) {
        weight += fit.inverse[p * n + q] * problem.targets[r * problem.cols + support[q]];
      }
      fit.weights.push_back(weight);
      fit.error -= weight * problem.targets[r * problem.cols + support[p]];
    }
  }
  return fit;
}

struct Swap {
  int position = -1;  // in the support
  int column = -1;    // to be in its place
  double improvement = 0;
};

// The best swap there is; gains: [cols] out, what each column more would gain.
inline Swap best_swap(const SearchedRows& problem, const std::vector<int>& support,
                      const SupportFit& fit, std::vector<double>* gains = nullptr) {
  const int n = static_cast<int>(support.size());
  std::vector<bool> kept(problem.cols);
  for (const int column : support) kept[column] = true;
  Swap best;
  for (int j = 0; j < problem.cols; j++) {
    if (gains != nullptr) gains->push_back(0);
    if (kept[j]) continue;
    const double* row = &problem.h[j * problem.cols];
    double d = row[j];
    std::vector<double> c(n);
    for (int p = 0; p < n; p++) {
      for (int q = 0; q < n; q++) c[p] += fit.inverse[p * n + q] * row[support[q]];
      d -= c[p] * row[support[p]];
    }
    if (!(d > 1e-10 * row[j])) continue;
    double gain = 0;
    std::vector<double> x(problem.rows);
    for (int r = 0; r < problem.rows; r++) {
      x[r] = problem.targets[r * problem.cols + j];
      for (int p = 0; p < n; p++) x[r] -= row[support[p]] * fit.weights[r * n + p];
      gain += x[r] * x[r] / d;
    }
    if (gains != nullptr) gains->back() = gain;
    for (int p = 0; p < n; p++) {
      const bool grouped = !problem.group_of.empty();
      if (grouped && problem.group_of[support[p]] != problem.group_of[j]) continue;
      double squares = 0;
      for (int r = 0; r < problem.rows; r++) {
        const double weight = fit.weights[r * n + p] - c[p] * x[r] / d;
        squares += weight * weight;
      }
      const double improvement = gain - squares / (fit.inverse[p * n + p] + c[p] * c[p] / d);
      if (improvement > best.improvement) best = {p, j, improvement};
    }
  }
  return best;
}

// Swaps the best while that lowers the error by more than a part of it; the error.
inline double descend(const SearchedRows& problem, std::vector<int>& support, double tolerance) {
  double last = std::numeric_limits<double>::infinity();
  for (;;) {
    const SupportFit now = fit(problem, support);
    const Swap swap = best_swap(problem, support, now);
    // Where the error does not fall, the improvement was rounding.
    const bool useless = !(now.error > 0 && now.error < last);
    if (useless || swap.improvement <= tolerance * now.error) return std::fmin(now.error, last);
    last = now.error;
    support[swap.position] = swap.column;
  }
}

}  // namespace taco4j_reference
