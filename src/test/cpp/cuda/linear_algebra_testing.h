// What the tests of linear algebra share: random matrices amid other memory, and failures.
#pragma once

#include <cstdio>
#include <cstring>
#include <limits>
#include <random>
#include <string>
#include <vector>

namespace testing {

inline int failures = 0;

inline void fail(const std::string& what) {
  if (failures++ < 20) std::printf("%s\n", what.c_str());
}

template <typename... Values>
std::string text(const char* format, Values... values) {
  char line[400];
  std::snprintf(line, sizeof line, format, values...);
  return line;
}

// The unit of rounding: 2^-24, 2^-53.
template <typename T>
constexpr double unit() {
  return std::numeric_limits<T>::epsilon() / 2;
}

inline std::mt19937& generator() {
  static std::mt19937 generator(1);
  return generator;
}

inline double gaussian() {
  static std::normal_distribution<double> normal;
  return normal(generator());
}

// [rows, cols] stride ld, `offset` elements into memory that is NaN elsewhere.
template <typename T>
struct Matrix {
  int rows, cols, ld, offset;
  std::vector<T> memory;

  Matrix(int rows, int cols, int margin, int offset)
      : rows(rows), cols(cols), ld(cols + margin), offset(offset),
        memory(offset + (size_t)rows * (cols + margin), std::numeric_limits<T>::quiet_NaN()) {}

  T* data() { return memory.data() + offset; }
  T& at(int i, int j) { return memory[offset + (size_t)i * ld + j]; }

  Matrix& fill_gaussian() {
    for (int i = 0; i < rows; i++) {
      for (int j = 0; j < cols; j++) at(i, j) = static_cast<T>(gaussian());
    }
    return *this;
  }
};

// The bytes, of which NaN are some.
template <typename T>
bool same(const std::vector<T>& a, const std::vector<T>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(T)) == 0;
}

// 2/N X^T X of correlated, positive inputs, damped: of condition 1e4 or so. h: [n, n] stride n
template <typename T>
std::vector<T> hessian(int n, int samples, double damping) {
  std::vector<double> x((size_t)samples * n);
  for (int s = 0; s < samples; s++) {
    const double common = gaussian();
    for (int i = 0; i < n; i++) x[(size_t)s * n + i] = std::max(0.0, gaussian() + common);
  }
  std::vector<double> h((size_t)n * n);
  double trace = 0;
  for (int s = 0; s < samples; s++) {
    for (int i = 0; i < n; i++) {
      for (int j = 0; j < n; j++) {
        h[(size_t)i * n + j] += 2.0 / samples * x[(size_t)s * n + i] * x[(size_t)s * n + j];
      }
    }
  }
  for (int i = 0; i < n; i++) trace += h[(size_t)i * n + i];
  for (int i = 0; i < n; i++) h[(size_t)i * n + i] += damping * std::max(1.0, trace) / n;
  return std::vector<T>(h.begin(), h.end());
}

}  // namespace testing
