// quant_sweep.cu against its reference.
#include "quant_sweep.cu"

#include <cstdio>
#include <cstring>

#include "quant_sweep_reference.h"
#include "sweep_problem.h"

namespace {

int failures = 0;

void fail(const char* what, const SweepProblem& problem, const char* order) {
  std::printf("%s: %d columns, %d rows, %s\n", what, problem.columns, problem.rows, order);
  failures++;
}

// marks: null for none
void check(const SweepProblem& problem, const std::vector<unsigned char>* marks,
           const std::vector<float>& scale, const std::vector<float>& lowest,
           const std::vector<float>& highest, bool exact) {
  const int rows = problem.rows;
  std::vector<float> expected = problem.weights;
  const std::vector<unsigned char> nothing(problem.weights.size(), 0);
  const std::vector<unsigned char>& given = marks == nullptr ? nothing : *marks;
  taco4j_reference::quant_sweep(problem.inverse, problem.columns, expected, rows, given, scale,
                                lowest, highest);
  const SweepLaunch launch(problem.columns, rows, 1);
  std::vector<float> first;
  taco4j_shim::for_each_order([&](const char* order) {
    auto w = problem.padded(problem.weights, 7.0f);
    auto change = w;
    auto removed = problem.padded<unsigned char>(given, 2);
    taco4j_shim::launch(taco4j_quant_sweep_f32, launch.grid, launch.block, launch.shared,
                        problem.inverse.data(), problem.columns, w.data(), problem.ld,
                        change.data(), problem.ld, marks == nullptr ? nullptr : removed.data(),
                        problem.ld, scale.data(), lowest.data(), highest.data(), problem.columns,
                        rows);
    if (first.empty()) first = w;
    if (w != first) fail("order of threads", problem, order);
    if (!problem.untouched_beyond(w, 7.0f)) fail("beyond the rows", problem, order);
    int flipped = 0;
    for (int row = 0; row < rows; row++) {
      bool same = true;
      for (int j = 0; j < problem.columns; j++) {
        const float point = w[j * problem.ld + row];
        const float code = std::nearbyint(point / scale[row]);
        const float again = scale[row] * code + 0.0f;
        if (std::memcmp(&again, &point, sizeof point) != 0) fail("off the grid", problem, order);
        if (point != 0 && (code < lowest[row] || code > highest[row])) {
          fail("beyond the grid", problem, order);
        }
        if (given[j * rows + row] && point != 0) fail("removed", problem, order);
        if (change[j * problem.ld + row] != problem.weights[j * rows + row] - point) {
          fail("change", problem, order);
        }
        same = same && point == expected[j * rows + row];
      }
      flipped += same ? 0 : 1;
    }
    // A weight within rounding of the middle between two points may go either way, and take the
    // rest of its row with it: 1e-6 * 128 columns of 1e-1 steps, a row in a thousand.
    if (flipped > (exact ? 0 : 1 + rows / 100)) fail("points", problem, order);
  });
}

}  // namespace

int main() {
  std::mt19937 random(1);
  for (const int columns : {1, 2, 3, 17, 64, 127, 128}) {
    for (const int rows : {1, 3, 31, 33, 1021}) {
      if (rows > 100 && columns != 3 && columns != 128) continue;
      const SweepProblem problem(columns, rows, random);
      std::vector<float> scale(rows), lowest(rows), highest(rows);
      for (int row = 0; row < rows; row++) {
        scale[row] = 0.05f + 0.001f * (random() % 1000);
        lowest[row] = -static_cast<int>(random() % 6);
        highest[row] = lowest[row] + 1 + random() % 20;
      }
      std::vector<unsigned char> removed(columns * rows);
      for (auto& mark : removed) mark = random() % 3 == 0;
      check(problem, &removed, scale, lowest, highest, false);
      if (rows < 100) check(problem, nullptr, scale, lowest, highest, false);
    }
  }
  // Half to even, the ends of the grid, zeros that are +0.
  const float values[] = {0.5f, 1.5f, 2.5f, -0.5f, -1.5f, -2.5f, 9, -9, -0.2f, 3.49f, 1e30f, -1e30f};
  SweepProblem problem(1, 12, random);
  problem.inverse[0] = 1;
  problem.weights.assign(values, values + 12);
  check(problem, nullptr, std::vector<float>(12, 1), std::vector<float>(12, -8),
        std::vector<float>(12, 7), true);
  return failures == 0 ? 0 : 1;
}
