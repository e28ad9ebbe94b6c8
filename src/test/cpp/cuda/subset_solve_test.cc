// subset_solve.cu against Cholesky and substitution of each problem on its own.
//
// The residual of a solution by Cholesky is within a multiple of k u |A| |x| (Higham 2002, theorem 10.3);
// the panels' inverses cost the condition of a diagonal block, about 1e2 here.
#include "subset_solve.cu"

#include "linear_algebra_reference.h"
#include "linear_algebra_testing.h"

using testing::Matrix;

namespace {

struct Case {
  int size;
  int source;
  int count;
};

void check(int n, const std::vector<Case>& cases, int spoilt) {
  std::vector<double> matrices[2] = {testing::hessian<double>(n, n / 2 + 1, 0.01),
                                     testing::hessian<double>(n, 2 * n, 0.01)};
  int rows = 0;
  std::vector<int> lists;
  std::vector<int> table;
  long long stride = 0;
  for (const Case& one : cases) {
    std::vector<int> all(n);
    for (int i = 0; i < n; i++) all[i] = i;
    std::shuffle(all.begin(), all.end(), testing::generator());
    std::sort(all.begin(), all.begin() + one.size);
    table.insert(table.end(), {int(lists.size()), one.size, one.source, rows, one.count});
    lists.insert(lists.end(), all.begin(), all.begin() + one.size);
    stride = std::max(stride, (long long)(one.size + one.count) * (one.size + one.size % 2) +
                                  taco4j::ceil_div(one.size, 64) * 4096);
    rows += one.count;
  }
  if (spoilt >= 0) {
    for (auto& matrix : matrices) matrix[(size_t)spoilt * n + spoilt] = -1;
  }
  Matrix<double> right[2] = {Matrix<double>(rows, n, 0, 0).fill_gaussian(),
                             Matrix<double>(rows, n, 0, 0).fill_gaussian()};
  std::vector<double> first[2];
  taco4j_shim::for_each_order([&](const char* order) {
    Matrix<double> solution[2] = {Matrix<double>(rows, n, 0, 0), Matrix<double>(rows, n, 0, 0)};
    const int blocks = 2;
    auto scratch = taco4j_shim::poisoned<double>(blocks * stride + 1);
    auto flags = taco4j_shim::poisoned<int>(cases.size());
    int next = 0;
    taco4j_shim::launch(taco4j_subset_solve_f64, dim3(blocks), dim3(256), 0,
                        matrices[0].data(), matrices[1].data(), n, right[0].data(), right[1].data(),
                        solution[0].data(), solution[1].data(), lists.data(), table.data(),
                        int(cases.size()), &next, scratch.data(), stride, flags.data());
    long long beyond;
    std::memcpy(&beyond, &scratch[blocks * stride], sizeof beyond);
    if (beyond != -1) testing::fail("wrote behind the scratch");
    if (!first[0].empty()) {
      if (!testing::same(first[0], solution[0].memory) || !testing::same(first[1], solution[1].memory)) {
        testing::fail(testing::text("n = %d, %s: other bytes", n, order));
      }
      return;
    }
    for (int which = 0; which < 2; which++) first[which] = solution[which].memory;
    for (size_t c = 0; c < cases.size(); c++) {
      const int k = cases[c].size;
      const int* list = lists.data() + table[5 * c];
      const int source = cases[c].source;
      const std::string what = testing::text("n = %d, k = %d, %d right-hand sides, %s", n, k,
                                             cases[c].count, order);
      std::vector<double> l((size_t)k * k);
      for (int i = 0; i < k; i++) {
        for (int j = 0; j < k; j++) l[(size_t)i * k + j] = matrices[source][(size_t)list[i] * n + list[j]];
      }
      const std::vector<double> a = l;
      const int expected = taco4j_reference::cholesky(l.data(), k, k);
      if (flags[c] != expected) {
        testing::fail(what + testing::text(": pivot %d, not %d", flags[c], expected));
      }
      for (int r = 0; r < cases[c].count; r++) {
        const int row = table[5 * c + 3] + r;
        std::vector<double> x(k);
        int written = 0;
        for (int i = 0; i < n; i++) {
          written += !std::isnan(solution[source].at(row, i));
          if (!std::isnan(solution[1 - source].at(row, i))) testing::fail(what + ": the other one");
        }
        if (written != (expected < 0 ? k : 0)) {
          testing::fail(what + testing::text(": %d written", written));
        }
        if (expected >= 0) continue;
        for (int i = 0; i < k; i++) x[i] = right[source].at(row, list[i]);
        taco4j_reference::solve(l.data(), k, k, x.data());
        for (int i = 0; i < k; i++) {
          taco4j_reference::Sum sum;
          for (int j = 0; j < k; j++) {
            sum.add((long double)a[(size_t)i * k + j] * solution[source].at(row, list[j]));
          }
          const double b = right[source].at(row, list[i]);
          const double bound = 100 * (k + 2) * testing::unit<double>() * (double(sum.magnitude) + std::fabs(b));
          if (!(std::fabs(double(sum.value) - b) <= bound)) {
            testing::fail(what + testing::text(": residual %g at %d", double(sum.value) - b, i));
          }
          // Of condition 1e6 at most.
          double largest = 0;
          for (const double value : x) largest = std::max(largest, std::fabs(value));
          if (!(std::fabs(x[i] - solution[source].at(row, list[i])) <=
                1e6 * (k + 2) * testing::unit<double>() * largest)) {
            testing::fail(what + testing::text(": x[%d]", i));
          }
        }
      }
    }
  });
}

}  // namespace

int main() {
  check(1, {{1, 0, 1}, {0, 1, 1}, {1, 1, 9}}, -1);
  check(17, {{3, 0, 1}, {17, 1, 4}, {0, 0, 2}, {16, 0, 5}}, -1);
  check(150, {{63, 0, 1}, {64, 1, 1}, {65, 0, 1}, {127, 0, 4}, {128, 1, 70}, {129, 1, 1}, {150, 0, 3}}, -1);
  check(300, {{300, 0, 1}, {200, 1, 2}}, -1);
  // Whatever fails, the others are solved.
  check(150, {{63, 0, 1}, {150, 1, 1}, {0, 0, 1}, {150, 0, 2}, {20, 1, 4}}, 77);
  return testing::failures == 0 ? 0 : 1;
}
