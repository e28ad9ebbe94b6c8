// refit.cu and quadratic_form.cu against their definitions.
#include "quadratic_form.cu"
#include "refit.cu"

#include "linear_algebra_reference.h"
#include "linear_algebra_testing.h"

using testing::Matrix;

namespace {

void check_refit(int count) {
  Matrix<float> weights = Matrix<float>(1, count, 0, 0).fill_gaussian();
  Matrix<double> changes = Matrix<double>(1, count, 0, 0).fill_gaussian();
  std::vector<unsigned char> kept(count);
  for (auto& one : kept) one = testing::generator()() % 2;
  taco4j_shim::for_each_order([&](const char* order) {
    auto removed = taco4j_shim::poisoned<double>(count);
    taco4j_shim::launch(taco4j_refit_removed_f64, dim3(3), dim3(128), 0, weights.data(), kept.data(),
                        removed.data(), (long long)count);
    Matrix<float> refitted = weights;
    taco4j_shim::launch(taco4j_refit_apply_f32, dim3(3), dim3(128), 0, refitted.data(), kept.data(),
                        changes.data(), (long long)count);
    for (int i = 0; i < count; i++) {
      const double weight = weights.at(0, i);
      const float expected = kept[i] ? float(weight + changes.at(0, i)) : 0.0f;
      if (removed[i] != (kept[i] ? 0 : weight) || refitted.at(0, i) != expected ||
          std::signbit(refitted.at(0, i)) != std::signbit(expected)) {
        testing::fail(testing::text("refit: %d of %d, %s", i, count, order));
      }
    }
  });
}

void check_form(int rows, int cols) {
  Matrix<float> w = Matrix<float>(rows, cols, 3, 1).fill_gaussian();
  Matrix<double> q = Matrix<double>(rows, cols, 0, 0).fill_gaussian();
  std::vector<double> first(rows);
  taco4j_shim::for_each_order([&](const char* order) {
    auto wide = taco4j_shim::poisoned<double>((size_t)rows * cols);
    auto sums = taco4j_shim::poisoned<double>(rows);
    taco4j_shim::launch(taco4j_widen_f64, dim3(taco4j::ceil_div(cols, 256), 2), dim3(256), 0,
                        w.data(), w.ld, rows, cols, wide.data());
    taco4j_shim::launch(taco4j_row_products_f64, dim3(rows), dim3(256), 0, q.data(), wide.data(), cols,
                        sums.data());
    for (int i = 0; i < rows; i++) {
      taco4j_reference::Sum sum;
      for (int j = 0; j < cols; j++) sum.add((long double)q.at(i, j) * w.at(i, j));
      const bool again = std::string(order) != "forward";
      if (!(std::fabs(double(sum.value) - sums[i]) <=
            (cols + 2) * testing::unit<double>() * double(sum.magnitude)) ||
          (again && sums[i] != first[i])) {
        testing::fail(testing::text("form: row %d of %d x %d, %s", i, rows, cols, order));
      }
      first[i] = sums[i];
    }
  });
}

}  // namespace

int main() {
  for (const int count : {1, 3, 127, 1021}) check_refit(count);
  for (const int cols : {1, 3, 17, 255, 256, 257, 1021}) check_form(5, cols);
  return testing::failures == 0 ? 0 : 1;
}
