// gemm.cu against its definition: all orientations, strides, alignments and triangles. A sum of k
// products differs from the exact one by at most k u times the sum of their magnitudes.
#include "gemm.cu"

#include "linear_algebra_reference.h"
#include "linear_algebra_testing.h"

using testing::Matrix;

template <typename T, typename Kernel>
void check(Kernel kernel, const char* name, int side, int m, int n, int k, int layout, int triangle) {
  const bool a_transposed = layout & 1;
  const bool b_transposed = layout & 2;
  // Aligned, with vectors; or not at all.
  const int margin = layout & 4 ? 3 : 4 - (a_transposed ? m : k) % 4;
  const int offset = layout & 4 ? 1 : 0;
  Matrix<T> a(a_transposed ? k : m, a_transposed ? m : k, margin, offset);
  Matrix<T> b(b_transposed ? n : k, b_transposed ? k : n,
              layout & 4 ? 5 : 4 - (b_transposed ? k : n) % 4, offset);
  a.fill_gaussian();
  b.fill_gaussian();
  Matrix<T> before = Matrix<T>(m, n, layout & 4 ? 1 : 4 - n % 4, offset).fill_gaussian();
  Matrix<T> overwritten(m, n, 2, 0);
  std::vector<T> first;
  taco4j_shim::for_each_order([&](const char* order) {
    const std::string what = testing::text("%s %d x %d x %d layout %d triangle %d %s", name, m, n, k,
                                           layout, triangle, order);
    Matrix<T> c = before;
    int flag = -1;
    const dim3 grid(taco4j::ceil_div(n, side), taco4j::ceil_div(m, side));
    taco4j_shim::launch(kernel, grid, dim3(256), 0, m, n, k, T(0.5), a.data(), a.ld,
                        int(a_transposed), b.data(), b.ld, int(b_transposed), T(-2), c.data(), c.ld,
                        triangle, &flag);
    if (!first.empty()) {
      if (!testing::same(first, c.memory)) testing::fail(what + ": other bytes");
      return;
    }
    first = c.memory;
    taco4j_shim::launch(kernel, grid, dim3(256), 0, m, n, k, T(1), a.data(), a.ld, int(a_transposed),
                        b.data(), b.ld, int(b_transposed), T(0), overwritten.data(), overwritten.ld,
                        triangle, static_cast<const int*>(nullptr));
    for (int i = 0; i < m; i++) {
      for (int j = 0; j < n; j++) {
        const bool inside = triangle == 0 || (triangle == 1 ? j <= i : i <= j);
        if (!inside) {
          if (c.at(i, j) != before.at(i, j) || !std::isnan(overwritten.at(i, j))) {
            testing::fail(what + testing::text(": [%d, %d] is touched", i, j));
          }
          continue;
        }
        const auto sum = taco4j_reference::product<T>(a.data(), a.ld, a_transposed, b.data(), b.ld,
                                                      b_transposed, k, i, j);
        const double old = before.at(i, j);
        const double bound =
            (k + 2) * testing::unit<T>() * (double(sum.magnitude) + 2 * std::fabs(old));
        if (!(std::fabs(double(sum.value) / 2 - 2 * old - c.at(i, j)) <= bound) ||
            !(std::fabs(double(sum.value) - overwritten.at(i, j)) <= bound)) {
          testing::fail(what + testing::text(": [%d, %d] is %g, not %g", i, j, double(c.at(i, j)),
                                             double(sum.value) / 2 - 2 * old));
        }
        c.at(i, j) = before.at(i, j);
      }
    }
    if (!testing::same(c.memory, before.memory)) testing::fail(what + ": memory around C");
    flag = 0;
    taco4j_shim::launch(kernel, grid, dim3(256), 0, m, n, k, T(1), a.data(), a.ld, int(a_transposed),
                        b.data(), b.ld, int(b_transposed), T(0), c.data(), c.ld, triangle, &flag);
    if (!testing::same(c.memory, before.memory)) testing::fail(what + ": went on after a failure");
  });
}

template <typename T, typename Kernel>
void check_all(Kernel kernel, const char* name, int side) {
  const int shapes[][3] = {{1, 1, 1},    {3, 17, 127},  {127, 129, 17}, {129, 64, 8}, {65, 63, 64},
                           {1, 300, 7},  {4, 4, 0},     {2, 2, 1021},   {8, 200, 9},  {128, 128, 16}};
  for (const auto& shape : shapes) {
    for (int layout = 0; layout < 8; layout++) {
      check<T>(kernel, name, side, shape[0], shape[1], shape[2], layout, 0);
    }
  }
  for (const int n : {1, 17, 64, 129, 200}) {
    for (const int triangle : {1, 2}) check<T>(kernel, name, side, n, n, 33, triangle, triangle);
  }
}

int main() {
  check_all<float>(taco4j_gemm_f32, "f32", 128);
  check_all<float>(taco4j_gemm_small_f32, "small f32", 64);
  check_all<double>(taco4j_gemm_f64, "f64", 64);
  return testing::failures == 0 ? 0 : 1;
}
