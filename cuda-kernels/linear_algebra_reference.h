// What gemm.cu, cholesky.cu, triangular.cu, subset_solve.cu and quadratic_form.cu are held to: the
// definitions as plain loops, in long double where a kernel sums in double. Matrices are row-major with
// strides.
#pragma once

#include <cmath>
#include <vector>

namespace taco4j_reference {

// What a sum came to, and that of the magnitudes, by which its rounding error is bounded.
struct Sum {
  long double value = 0;
  long double magnitude = 0;

  void add(long double product) {
    value += product;
    magnitude += std::fabs(product);
  }
};

// Element (row, col) of op(A) op(B); layouts as in gemm.cu.
template <typename T>
Sum product(const T* a, int lda, bool a_transposed, const T* b, int ldb, bool b_transposed, int k,
            int row, int col) {
  Sum sum;
  for (int p = 0; p < k; p++) {
    const long double x = a_transposed ? a[(long)p * lda + row] : a[(long)row * lda + p];
    const long double y = b_transposed ? b[(long)col * ldb + p] : b[(long)p * ldb + col];
    sum.add(x * y);
  }
  return sum;
}

// A = L L^T in place, [n, n] stride lda, the lower triangle; returns -1 or the first pivot that is not
// positive and finite.
template <typename T>
int cholesky(T* a, int lda, int n) {
  for (int j = 0; j < n; j++) {
    for (int i = j; i < n; i++) {
      long double sum = a[(long)i * lda + j];
      for (int k = 0; k < j; k++) {
        sum -= (long double)a[(long)i * lda + k] * a[(long)j * lda + k];
      }
      if (i > j) {
        a[(long)i * lda + j] = static_cast<T>(sum / a[(long)j * lda + j]);
      } else if (sum > 0 && std::isfinite(sum)) {
        a[(long)j * lda + j] = static_cast<T>(std::sqrt(sum));
      } else {
        return j;
      }
    }
  }
  return -1;
}

// Solves A x = b for one right-hand side, given L: [n, n] stride ldl. x: [n], b in, x out
template <typename T>
void solve(const T* l, int ldl, int n, T* x) {
  for (int i = 0; i < n; i++) {
    long double sum = x[i];
    for (int k = 0; k < i; k++) sum -= (long double)l[(long)i * ldl + k] * x[k];
    x[i] = static_cast<T>(sum / l[(long)i * ldl + i]);
  }
  for (int i = n - 1; i >= 0; i--) {
    long double sum = x[i];
    for (int k = i + 1; k < n; k++) sum -= (long double)l[(long)k * ldl + i] * x[k];
    x[i] = static_cast<T>(sum / l[(long)i * ldl + i]);
  }
}

}  // namespace taco4j_reference
