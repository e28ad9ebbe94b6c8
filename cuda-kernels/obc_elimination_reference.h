// Exact OBS as the paper has it (Frantar and Alistarh 2022, algorithm 1), in double: the whole
// inverse is updated at each step. What obc_elimination.cu is held against.
#pragma once

#include <cmath>
#include <vector>

namespace taco4j_reference {

// The Cholesky factor of the k x k block of a that begins at column first, [k, k] row-major; NaN
// where there is none.
inline std::vector<double> block_factor(const std::vector<double>& a, int n, int first, int k) {
  std::vector<double> l(k * k, 0);
  for (int i = 0; i < k; i++) {
    for (int j = 0; j <= i; j++) {
      double sum = a[(first + i) * n + first + j];
      for (int c = 0; c < j; c++) sum -= l[i * k + c] * l[j * k + c];
      l[i * k + j] = i == j ? std::sqrt(sum) : sum / l[j * k + j];
    }
  }
  return l;
}

// z := L⁻¹ z.
inline void substitute(const std::vector<double>& l, int k, double* z) {
  for (int i = 0; i < k; i++) {
    for (int c = 0; c < i; c++) z[i] -= l[i * k + c] * z[c];
    z[i] /= l[i * k + i];
  }
}

// Eliminates units from rows that share a mask; all as the kernels have it, of one set.
//
// inverse: [n, n]; least: [n]; weights: [rows, n]; order, losses: [steps] out
// Returns the steps taken, or -1 - steps.
inline int obc_eliminate(const std::vector<double>& inverse, const std::vector<double>& least,
                         const float* weights, int n, int rows, int k, int group_size,
                         int group_budget, int steps, double stop, int* order, double* losses) {
  std::vector<double> a = inverse;
  std::vector<double> w(weights, weights + rows * n);
  std::vector<bool> gone(n / k, false);
  std::vector<int> budget(n / group_size, group_budget);
  for (int step = 0; step < steps; step++) {
    int best = -1;
    double score = INFINITY;
    for (int unit = 0; unit < n / k; unit++) {
      if (gone[unit] || (k == 1 && budget[unit / group_size] == 0)) continue;
      double sum = 0;
      if (k == 1) {
        for (int r = 0; r < rows; r++) sum += w[r * n + unit] * w[r * n + unit];
        sum /= a[unit * n + unit];
      } else {
        const std::vector<double> l = block_factor(a, n, unit * k, k);
        for (int r = 0; r < rows; r++) {
          std::vector<double> z(&w[r * n + unit * k], &w[r * n + unit * k] + k);
          substitute(l, k, z.data());
          for (const double value : z) sum += value * value;
        }
      }
      if (sum < score) {  // NaN is less than nothing
        score = sum;
        best = unit;
      }
    }
    if (best < 0) return -1 - step;
    const int first = best * k;
    if (k == 1 && !(a[first * n + first] >= least[first] && a[first * n + first] < INFINITY)) {
      return -1 - step;
    }
    const std::vector<double> l = block_factor(a, n, first, k);
    for (int i = 0; i < k; i++) {
      const double pivot = l[i * k + i] * l[i * k + i];
      // Roots and squares round; pivots on the edge are no cases of the test.
      if (!(pivot >= least[first + i] * (1 - 1e-12) && pivot < INFINITY)) return -1 - step;
    }
    if (0.5 * score > stop) return step;
    order[step] = best;
    losses[step] = 0.5 * score;
    gone[best] = true;
    if (k == 1) budget[best / group_size]--;
    // V = A_:B L⁻ᵀ, [n, k]: A -= V Vᵀ, w -= (L⁻¹ w_B)ᵀ Vᵀ.
    std::vector<double> v(n * k);
    for (int i = 0; i < n; i++) {
      for (int c = 0; c < k; c++) v[i * k + c] = a[i * n + first + c];
      substitute(l, k, &v[i * k]);
    }
    for (int r = 0; r < rows; r++) {
      std::vector<double> z(&w[r * n + first], &w[r * n + first] + k);
      substitute(l, k, z.data());
      for (int i = 0; i < n; i++) {
        for (int c = 0; c < k; c++) w[r * n + i] -= v[i * k + c] * z[c];
      }
    }
    for (int i = 0; i < n; i++) {
      for (int j = 0; j < n; j++) {
        for (int c = 0; c < k; c++) a[i * n + j] -= v[i * k + c] * v[j * k + c];
      }
    }
  }
  return steps;
}

}  // namespace taco4j_reference
