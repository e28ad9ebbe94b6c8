// cholesky.cu and triangular.cu, driven as DeviceLinearAlgebra drives them, against L L^T = A, M L = 1
// and A A^-1 = 1.
//
// Bounds: a sum of n products costs n u times the sum of their magnitudes; panels that are multiplied by
// an inverse instead of divided cost the condition of a diagonal block, about 1e2 here.
#include "cholesky.cu"
#include "gemm.cu"
#include "triangular.cu"

#include "linear_algebra_reference.h"
#include "linear_algebra_testing.h"

using taco4j::ceil_div;
using testing::Matrix;

namespace {

void gemm(int m, int k, const float* a, int lda, float* c, int ldc, const int* flag) {
  taco4j_shim::launch(taco4j_gemm_small_f32, dim3(ceil_div(m, 64), ceil_div(m, 64)), dim3(256), 0, m,
                      m, k, -1.0f, a, lda, 0, a, lda, 1, 1.0f, c, ldc, 1, flag);
}

void gemm(int m, int k, const double* a, int lda, double* c, int ldc, const int* flag) {
  taco4j_shim::launch(taco4j_gemm_f64, dim3(ceil_div(m, 64), ceil_div(m, 64)), dim3(256), 0, m, m, k,
                      -1.0, a, lda, 0, a, lda, 1, 1.0, c, ldc, 1, flag);
}

void diagonal(float* a, int lda, int first, int size, float* inverse, int* flag) {
  taco4j_shim::launch(taco4j_cholesky_diagonal_f32, dim3(1), dim3(256), 0, a, lda, first, size,
                      inverse, flag);
}

void diagonal(double* a, int lda, int first, int size, double* inverse, int* flag) {
  taco4j_shim::launch(taco4j_cholesky_diagonal_f64, dim3(1), dim3(256), 0, a, lda, first, size,
                      inverse, flag);
}

template <typename T>
int cholesky(Matrix<T>& a) {
  const int n = a.rows;
  auto inverse = taco4j_shim::poisoned<T>(64 * 64);
  int flag = 12345;
  for (int first = 0; first < n; first += 64) {
    const int size = std::min(64, n - first);
    const int rest = n - first - size;
    diagonal(a.data(), a.ld, first, size, inverse.data(), &flag);
    if (rest == 0) break;
    T* panel = &a.at(first + size, first);
    const dim3 grid(ceil_div(rest, 64));
    if constexpr (sizeof(T) == 4) {
      taco4j_shim::launch(taco4j_cholesky_panel_f32, grid, dim3(256), 0, a.data(), a.ld, n, first,
                          size, inverse.data(), &flag);
    } else {
      taco4j_shim::launch(taco4j_cholesky_panel_f64, grid, dim3(256), 0, a.data(), a.ld, n, first,
                          size, inverse.data(), &flag);
    }
    gemm(rest, size, panel, a.ld, &a.at(first + size, first + size), a.ld, &flag);
  }
  return flag;
}

template <typename T>
void invert_lower(Matrix<T>& l, bool clear) {
  const int n = l.rows;
  constexpr bool kFloat = sizeof(T) == 4;
  const auto launch = [&](auto of_float, auto of_double, dim3 grid, dim3 block, auto... rest) {
    if constexpr (kFloat) {
      taco4j_shim::launch(of_float, grid, block, 0, l.data(), l.ld, n, rest...);
    } else {
      taco4j_shim::launch(of_double, grid, block, 0, l.data(), l.ld, n, rest...);
    }
  };
  launch(taco4j_invert_lower_blocks_f32, taco4j_invert_lower_blocks_f64, dim3(ceil_div(n, 64)),
         dim3(256));
  for (int half = 64; half < n; half *= 2) {
    const dim3 grid(half / 64, half / 64, ceil_div(n - half, 2 * half));
    launch(taco4j_invert_lower_couple_f32, taco4j_invert_lower_couple_f64, grid, dim3(256), half);
    launch(taco4j_invert_lower_join_f32, taco4j_invert_lower_join_f64, grid, dim3(256), half);
  }
  if (clear) {
    launch(taco4j_clear_upper_f32, taco4j_clear_upper_f64, dim3(ceil_div(n, 32), ceil_div(n, 8)),
           dim3(32, 8));
  }
}

// Elements that are not the matrix's own, and, of it, those above the diagonal, are NaN.
template <typename T>
Matrix<T> lower(const std::vector<T>& from, int n, int margin, int offset) {
  Matrix<T> matrix(n, n, margin, offset);
  for (int i = 0; i < n; i++) {
    for (int j = 0; j <= i; j++) matrix.at(i, j) = from[(size_t)i * n + j];
  }
  return matrix;
}

template <typename T>
void check_factor(int n) {
  // Few samples: without damping the rank would be n / 2.
  const std::vector<T> h = testing::hessian<T>(n, std::max(1, n / 2), 0.01);
  std::vector<T> first;
  std::vector<T> first_inverse;
  taco4j_shim::for_each_order([&](const char* order) {
    const std::string what = testing::text("%d bytes, n = %d, %s", int(sizeof(T)), n, order);
    Matrix<T> l = lower(h, n, 3, 1);
    const int flag = cholesky(l);
    if (flag != -1) testing::fail(what + testing::text(": pivot %d", flag));
    Matrix<T> inverse = l;
    invert_lower(inverse, true);
    if (!first.empty()) {
      if (!testing::same(first, l.memory) || !testing::same(first_inverse, inverse.memory)) {
        testing::fail(what + ": other bytes");
      }
      return;
    }
    first = l.memory;
    first_inverse = inverse.memory;
    for (int i = 0; i < n; i++) {
      for (int j = 0; j < n; j++) {
        taco4j_reference::Sum factored;
        taco4j_reference::Sum inverted;
        for (int k = 0; k <= std::min(i, j); k++) factored.add((long double)l.at(i, k) * l.at(j, k));
        for (int k = j; k <= i; k++) inverted.add((long double)inverse.at(i, k) * l.at(k, j));
        if (j <= i && !(std::fabs(double(factored.value - h[(size_t)i * n + j])) <=
                        100 * (n + 2) * testing::unit<T>() * double(factored.magnitude))) {
          testing::fail(what + testing::text(": L L^T [%d, %d]", i, j));
        }
        if (j > i && !(std::isnan(l.at(i, j)) && inverse.at(i, j) == 0)) {
          testing::fail(what + testing::text(": above the diagonal, [%d, %d]", i, j));
        }
        if (!(std::fabs(double(inverted.value) - (i == j)) <=
              10 * (n + 2) * testing::unit<T>() * double(inverted.magnitude))) {
          testing::fail(what + testing::text(": M L [%d, %d] %g", i, j, double(inverted.value)));
        }
      }
    }
  });
}

void check_inverse(int n) {
  const std::vector<double> h = testing::hessian<double>(n, std::max(1, n / 2), 0.01);
  std::vector<double> first;
  taco4j_shim::for_each_order([&](const char* order) {
    const std::string what = testing::text("inverse, n = %d, %s", n, order);
    Matrix<double> m = lower(h, n, 3, 1);
    int flag = cholesky(m);
    invert_lower(m, false);
    Matrix<double> inverse(n, n, 2, 0);
    taco4j_shim::launch(taco4j_lower_gram_f64, dim3(ceil_div(n, 64), ceil_div(n, 64)), dim3(256), 0,
                        m.data(), m.ld, n, inverse.data(), inverse.ld, &flag);
    Matrix<double> copy(n, n, 0, 0);
    taco4j_shim::launch(taco4j_symmetric_f64, dim3(ceil_div(n, 32), ceil_div(n, 32)), dim3(32, 8), 0,
                        inverse.data(), inverse.ld, n, copy.data(), copy.ld, &flag);
    if (!first.empty()) {
      if (!testing::same(first, inverse.memory)) testing::fail(what + ": other bytes");
      return;
    }
    first = inverse.memory;
    for (int i = 0; i < n; i++) {
      for (int j = 0; j < n; j++) {
        const auto sum = taco4j_reference::product<double>(inverse.data(), inverse.ld, false, h.data(),
                                                           n, false, n, i, j);
        // n u times the condition number of about 1e4 in the inverse.
        const double bound = 1e4 * n * testing::unit<double>() * std::max(1.0, double(sum.magnitude));
        if (!(std::fabs(double(sum.value) - (i == j)) <= bound)) {
          testing::fail(what + testing::text(": [%d, %d]", i, j));
        }
        if (inverse.at(i, j) != inverse.at(j, i) || inverse.at(i, j) != copy.at(i, j)) {
          testing::fail(what + testing::text(": not symmetric at [%d, %d]", i, j));
        }
      }
    }
    flag = 3;
    taco4j_shim::launch(taco4j_lower_gram_f64, dim3(ceil_div(n, 64), ceil_div(n, 64)), dim3(256), 0,
                        m.data(), m.ld, n, inverse.data(), inverse.ld, &flag);
    if (!testing::same(first, inverse.memory)) testing::fail(what + ": went on after a failure");
  });
}

void check_flags() {
  for (const int n : {1, 17, 300}) {
    for (const int info : {0, 1, n}) {
      for (const int bad : {-1, 0, n / 2, n - 1}) {
        Matrix<float> l(n, n, 1, 0);
        for (int i = 0; i < n; i++) l.at(i, i) = i == bad ? std::numeric_limits<float>::infinity() : 1.0f;
        int flag = info;
        taco4j_shim::launch(taco4j_cholesky_flag_f32, dim3(1), dim3(256), 0, l.data(), l.ld, n, &flag);
        int expected = info - 1;
        if (bad >= 0 && (info == 0 || bad < info)) expected = bad;
        if (flag != expected) {
          testing::fail(testing::text("n = %d, info %d, bad %d: %d", n, info, bad, flag));
        }
      }
    }
  }
}

template <typename T>
void check_failures() {
  const T nan = std::numeric_limits<T>::quiet_NaN();
  const T infinite = std::numeric_limits<T>::infinity();
  for (const int n : {1, 17, 64, 65, 129, 200}) {
    for (const int bad : {0, n / 2, n - 1}) {
      for (const T value : {T(-1), T(0), nan, infinite}) {
        Matrix<T> a(n, n, 1, 0);
        for (int i = 0; i < n; i++) {
          for (int j = 0; j <= i; j++) a.at(i, j) = i == j ? (i == bad ? value : T(2)) : T(0);
        }
        const int pivot = cholesky(a);
        if (pivot != bad) {
          testing::fail(testing::text("%d bytes, n = %d: %g at %d gave %d", int(sizeof(T)), n,
                                      double(value), bad, pivot));
        }
      }
      // Beside the diagonal NaN comes to light in the pivot of its row, or before.
      if (bad > 0) {
        Matrix<T> a(n, n, 1, 0);
        for (int i = 0; i < n; i++) {
          for (int j = 0; j <= i; j++) a.at(i, j) = i == j ? T(2) : T(0);
        }
        a.at(bad, 0) = nan;
        if (cholesky(a) != bad) testing::fail(testing::text("n = %d: NaN in row %d", n, bad));
      }
    }
  }
  // Extreme, but positive definite: factors exactly.
  for (const double value : {double(std::numeric_limits<T>::min()), double(std::numeric_limits<T>::max())}) {
    Matrix<T> a(65, 65, 0, 0);
    for (int i = 0; i < 65; i++) {
      for (int j = 0; j <= i; j++) a.at(i, j) = i == j ? T(value) : T(0);
    }
    if (cholesky(a) != -1 || a.at(64, 64) != std::sqrt(T(value))) {
      testing::fail(testing::text("%d bytes: %g", int(sizeof(T)), value));
    }
  }
}

}  // namespace

int main() {
  for (const int n : {1, 3, 17, 63, 64, 65, 127, 128, 129, 200, 300}) {
    check_factor<float>(n);
    check_factor<double>(n);
    check_inverse(n);
  }
  check_flags();
  check_failures<float>();
  check_failures<double>();
  return testing::failures == 0 ? 0 : 1;
}
