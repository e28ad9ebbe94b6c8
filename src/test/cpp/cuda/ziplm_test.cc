// ziplm.cu against its reference: the same groups in the same order at the same cost, whatever the
// sizes, the steps between two compactions, and the order of threads.
#include "ziplm.cu"

#include <cstdio>
#include <random>
#include <vector>

#include "ziplm_reference.h"

namespace {

using taco4j_shim::launch;
using taco4j_shim::poisoned;

int failures = 0;

struct Problem {
  int rows, cols, group;
  std::vector<double> inverse, weights;  // [cols, cols], [rows, cols]
};

// Correlated inputs, fewer of them than columns where `samples` is small; damped.
Problem problem(int rows, int cols, int group, int samples, unsigned seed) {
  std::mt19937 random(seed);
  std::normal_distribution<double> normal;
  std::vector<double> h(cols * cols);
  std::vector<double> x(cols);
  for (int s = 0; s < samples; s++) {
    const double common = normal(random);
    for (double& value : x) value = std::max(0.0, normal(random) + common);
    for (int i = 0; i < cols; i++) {
      for (int j = 0; j < cols; j++) h[i * cols + j] += 2 * x[i] * x[j] / samples;
    }
  }
  std::vector<double> unit(cols * cols);
  for (int i = 0; i < cols; i++) {
    h[i * cols + i] += 0.02;
    unit[i * cols + i] = 1;
  }
  Problem problem{rows, cols, group, taco4j_reference::solve(h, unit, cols, cols), {}};
  for (int i = 0; i < rows * cols; i++) problem.weights.push_back(normal(random));
  return problem;
}

struct Removal {
  std::vector<int> order;
  std::vector<double> costs;
  bool failed;
};

// What the host does.
Removal remove(const Problem& problem, int count, int capacity, bool in_shared) {
  const int cols = problem.cols;
  const int group = problem.group;
  const int ld = cols;
  const size_t block_bytes = sizeof(double) * group * (group | 1);
  int active = cols;
  std::vector<double> q = problem.inverse;
  std::vector<double> s(cols * cols);
  for (int r = 0; r < problem.rows; r++) {
    for (int i = 0; i < cols; i++) {
      for (int j = 0; j < cols; j++) {
        s[i * cols + j] += problem.weights[r * cols + i] * problem.weights[r * cols + j];
      }
    }
  }
  auto spare = poisoned<double>(cols * cols);
  auto u = poisoned<double>(capacity * cols);
  auto t = poisoned<double>(capacity * cols);
  auto spare_rows = poisoned<double>(capacity * cols);
  auto q_blocks = poisoned<double>(cols * group);
  auto s_blocks = poisoned<double>(cols * group);
  auto l_inverse = poisoned<double>(group * group);
  auto half = poisoned<double>(group * group);
  auto product = poisoned<double>(group * group);
  auto raw_q = poisoned<double>(group * cols);
  auto raw_s = poisoned<double>(group * cols);
  auto scratch = poisoned<double>(in_shared ? 0 : cols * (group | 1));
  auto map = poisoned<int>(cols / group);
  auto cost = poisoned<double>(cols / group);
  std::vector<int> gone(cols / group), group_at(cols / group), order(count), state(2);
  for (int b = 0; b < cols / group; b++) group_at[b] = b;
  Removal removal;
  int pending = 0;
  const unsigned threads = group > 16 ? 128 : 32;
  auto blocks = [&] {
    launch(taco4j_ziplm_blocks_f64, dim3((active * group + 255) / 256), dim3(256), 0, q.data(),
           s.data(), ld, active, group, q_blocks.data(), s_blocks.data());
  };
  auto costs = [&](int first, int rows) {
    launch(taco4j_ziplm_costs_f64, dim3(active / group), dim3(threads),
           in_shared ? block_bytes : 0, u.data(), t.data(), ld, first, rows, group, gone.data(),
           q_blocks.data(), s_blocks.data(), cost.data(), scratch.data(), int{in_shared});
  };
  // to -= rows of a, transposed, times rows of b
  auto subtract = [&](const std::vector<double>& a, const std::vector<double>& b,
                      std::vector<double>& to) {
    for (int k = 0; k < pending; k++) {
      for (int i = 0; i < active; i++) {
        for (int j = 0; j < active; j++) to[i * ld + j] -= a[k * ld + i] * b[k * ld + j];
      }
    }
  };
  blocks();
  costs(0, 0);
  for (int step = 0; step < count; step++) {
    if (pending > 0 && pending + group > capacity) {
      launch(taco4j_ziplm_positions_f64, dim3(1), dim3(64), 0, gone.data(), active / group,
             group_at.data(), cost.data(), map.data());
      active -= pending;
      const dim3 grid((active + 255) / 256, active > 5 ? active - 3 : active);
      for (std::vector<double>* matrix : {&q, &s}) {
        launch(taco4j_ziplm_gather_f64, grid, dim3(256), 0, matrix->data(), ld, map.data(), group,
               active, active, 1, spare.data());
        matrix->swap(spare);
      }
      for (std::vector<double>* matrix : {&u, &t}) {
        launch(taco4j_ziplm_gather_f64, dim3(grid.x, pending), dim3(256), 0, matrix->data(), ld,
               map.data(), group, pending, active, 0, spare_rows.data());
        matrix->swap(spare_rows);
      }
      subtract(u, u, q);
      subtract(u, t, s);
      subtract(t, u, s);
      pending = 0;
      blocks();
    }
    launch(taco4j_ziplm_choose_f64, dim3(1), dim3(64), in_shared ? block_bytes : 0, cost.data(),
           gone.data(), active / group, group, q_blocks.data(), s_blocks.data(), scratch.data(),
           int{in_shared}, l_inverse.data(), half.data(), product.data(), group_at.data(),
           order.data(), step, state.data());
    removal.costs.push_back(cost[state[0]]);
    launch(taco4j_ziplm_append_f64, dim3((active + 31) / 32), dim3(32, 8), 0, q.data(), s.data(),
           ld, active, group, state.data(), l_inverse.data(), half.data(), raw_q.data(),
           raw_s.data(), u.data(), t.data(), pending, gone.data(), q_blocks.data(),
           s_blocks.data(), cost.data());
    if (group > 1) costs(pending, group);
    pending += group;
  }
  removal.order = order;
  removal.failed = state[1] != 0;
  return removal;
}

void check(int rows, int group, int groups, int samples, int capacity, bool in_shared) {
  const int cols = group * groups;
  const Problem given = problem(rows, cols, group, samples, 7 + cols);
  const int count = groups > 1 ? groups - 1 : 1;
  const auto expected =
      taco4j_reference::ziplm(given.inverse, given.weights, rows, cols, group, count);
  Removal first;
  taco4j_shim::for_each_order([&](const char* name) {
    const Removal found = remove(given, count, std::max(capacity, group), in_shared);
    bool same = !found.failed;
    for (int step = 0; step < count && same; step++) {
      // Values of about the first costs times the condition number, some 1e4, in double.
      const double tolerance = 1e-9 * (expected[step].cost + 1);
      same = std::abs(found.costs[step] - expected[step].cost) <= tolerance &&
             (found.order[step] == expected[step].group ||
              expected[step].next - expected[step].cost <= 2 * tolerance);
      if (!same) {
        std::printf("step %d: group %d for %.17g, not %d for %.17g\n", step, found.order[step],
                    found.costs[step], expected[step].group, expected[step].cost);
      }
      if (found.order[step] != expected[step].group) break;  // a tie: the rest differs
    }
    if (first.order.empty()) first = found;
    same = same && first.order == found.order &&
           std::memcmp(first.costs.data(), found.costs.data(), sizeof(double) * count) == 0;
    if (!same) {
      std::printf("%d rows, %d groups of %d, %d samples, capacity %d, shared %d, %s\n", rows,
                  groups, group, samples, capacity, in_shared, name);
      failures++;
    }
  });
}

// Of equals the first goes, whatever block of threads sees it; what costs nothing goes before.
void check_ties() {
  const int cols = 130;
  Problem given{1, cols, 1, std::vector<double>(cols * cols), std::vector<double>(cols, 1)};
  for (int i = 0; i < cols; i++) given.inverse[i * cols + i] = 1;
  given.weights[77] = 0;
  const Removal found = remove(given, cols, 8, true);
  for (int step = 0; step < cols; step++) {
    const int expected = step == 0 ? 77 : step <= 77 ? step - 1 : step;
    if (found.order[step] != expected) {
      std::printf("ties: %d at step %d\n", found.order[step], step);
      failures++;
      return;
    }
  }
}

// Costs that are not finite, and blocks that are not positive definite, are not passed over.
void check_failures() {
  for (const int group : {1, 3}) {
    for (const double poison : {-1.0, 0.0, double(NAN)}) {
      Problem given = problem(2, 12, group, 40, 3);
      given.inverse[5 * 12 + 5] = poison;
      const Removal found = remove(given, 12 / group, 6, true);
      if (!found.failed) {
        std::printf("groups of %d, %g on the diagonal: not noticed\n", group, poison);
        failures++;
      }
      std::vector<bool> seen(12 / group);
      for (const int id : found.order) seen[id] = true;
      for (const bool once : seen) failures += !once;
    }
  }
}

}  // namespace

int main() {
  // rows, group, groups, samples, capacity
  const int shapes[][5] = {{1, 1, 1, 3, 4},     {1, 1, 2, 5, 4},    {3, 1, 3, 9, 1},
                           {3, 1, 17, 9, 4},    {5, 1, 64, 100, 7}, {2, 1, 129, 60, 128},
                           {5, 1, 129, 300, 33}, {7, 3, 21, 50, 8}, {4, 9, 8, 200, 20},
                           {3, 5, 13, 30, 128}, {2, 64, 3, 150, 70}, {2, 33, 2, 20, 128},
                           {1, 129, 2, 400, 1}};
  for (const auto& shape : shapes) {
    for (const bool in_shared : {true, false}) {
      check(shape[0], shape[1], shape[2], shape[3], shape[4], in_shared);
    }
  }
  check_ties();
  check_failures();
  return failures == 0 ? 0 : 1;
}
