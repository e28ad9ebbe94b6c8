// obs_sweep.cu against its reference.
#include "obs_sweep.cu"

#include <cstdio>
#include <utility>

#include "obs_sweep_reference.h"
#include "sweep_problem.h"

namespace {

int failures = 0;

void fail(const char* what, const SweepProblem& problem, int group, const char* order) {
  std::printf("%s: %d columns, %d rows, groups of %d, %s\n", what, problem.columns, problem.rows,
              group, order);
  failures++;
}

// Compares rows in which both removed the same; returns how many did not.
int compare(const SweepProblem& problem, const std::vector<double>& expected,
            const std::vector<unsigned char>& expected_removed, const std::vector<float>& actual,
            const std::vector<float>& change, const std::vector<unsigned char>& removed, int group,
            const char* order) {
  const int rows = problem.rows;
  int flipped = 0;
  for (int row = 0; row < rows; row++) {
    bool same = true;
    double scale = 1;
    for (int j = 0; j < problem.columns; j++) {
      same = same && expected_removed[j * rows + row] == removed[j * problem.ld + row];
      scale = std::max(scale, std::fabs(expected[j * rows + row]));
    }
    flipped += same ? 0 : 1;
    for (int j = 0; j < problem.columns; j++) {
      const float w = actual[j * problem.ld + row];
      if (removed[j * problem.ld + row] != 0 && (w != 0 || std::signbit(w))) {
        fail("+0 where removed", problem, group, order);
        return flipped;
      }
      // As many roundings as columns, each of the size of the row's largest values.
      if (same &&
          !(std::fabs(w - expected[j * rows + row]) <= 16 * (problem.columns + 2) * 0x1p-24 * scale)) {
        fail("weights", problem, group, order);
        return flipped;
      }
      if (change[j * problem.ld + row] != problem.weights[j * rows + row] - w) {
        fail("change", problem, group, order);
        return flipped;
      }
    }
  }
  return flipped;
}

// kept = 0: the marks are given.
void check(const SweepProblem& problem, const std::vector<unsigned char>& given, int kept, int group,
           bool exact) {
  std::vector<double> expected(problem.weights.begin(), problem.weights.end());
  std::vector<unsigned char> expected_removed = given;
  if (kept == 0) {
    taco4j_reference::obs_sweep(problem.inverse, problem.columns, expected, problem.rows, given);
  } else {
    taco4j_reference::obs_sweep_groups(problem.inverse, problem.columns, expected, problem.rows,
                                       expected_removed, kept, group);
  }
  const SweepLaunch launch(problem.columns, problem.rows, group);
  std::vector<float> first;
  std::vector<unsigned char> first_removed;
  taco4j_shim::for_each_order([&](const char* order) {
    auto w = problem.padded(problem.weights, 7.0f);
    auto change = w;
    auto removed = problem.padded<unsigned char>(given, 2);
    if (kept == 0) {
      taco4j_shim::launch(taco4j_obs_sweep_f32, launch.grid, launch.block, launch.shared,
                          problem.inverse.data(), problem.columns, w.data(), problem.ld,
                          change.data(), problem.ld, removed.data(), problem.ld, problem.columns,
                          problem.rows);
    } else {
      taco4j_shim::launch(taco4j_obs_sweep_groups_f32, launch.grid, launch.block, launch.shared,
                          problem.inverse.data(), problem.columns, w.data(), problem.ld,
                          change.data(), problem.ld, removed.data(), problem.ld, problem.columns,
                          problem.rows, kept, group);
    }
    if (first.empty()) {
      first = w;
      first_removed = removed;
    }
    if (w != first || removed != first_removed) fail("order of threads", problem, group, order);
    if (!problem.untouched_beyond(w, 7.0f) || !problem.untouched_beyond(change, 7.0f) ||
        !problem.untouched_beyond<unsigned char>(removed, 2)) {
      fail("beyond the rows", problem, group, order);
    }
    const int flipped =
        compare(problem, expected, expected_removed, w, change, removed, group, order);
    // Near ties may go either way.
    if (flipped > (exact ? 0 : 1 + problem.rows / 50)) fail("marks", problem, group, order);
  });
}

}  // namespace

int main() {
  std::mt19937 random(1);
  for (const int columns : {1, 2, 3, 15, 16, 17, 33, 64, 127, 128}) {
    for (const int rows : {1, 3, 31, 33, 129}) {
      const SweepProblem problem(columns, rows, random);
      std::vector<unsigned char> removed(columns * rows);
      for (auto& mark : removed) mark = random() & 1;
      check(problem, removed, 0, 1, true);
    }
  }
  const SweepProblem tall(128, 1021, random);
  for (const int every : {0, 1}) {
    check(tall, std::vector<unsigned char>(128 * 1021, every), 0, 1, true);
  }
  // Groups that fill a span or several, that leave slots free, and of which one is the block.
  const std::pair<int, int> patterns[] = {{1, 2},   {2, 4},   {4, 8},  {8, 16},  {16, 32}, {32, 64},
                                          {3, 7},   {1, 1},   {4, 4},  {2, 9},   {5, 17},  {20, 33},
                                          {30, 65}, {64, 127}, {9, 128}};
  for (const auto& [kept, group] : patterns) {
    for (const int rows : {1, 3, 31, 33, 129}) {
      SweepProblem problem(128 / group * group, rows, random);
      // Zeros are ties, and must not be counted twice.
      for (int row = 0; row < rows; row++) problem.weights[row] = 0;
      check(problem, std::vector<unsigned char>(problem.weights.size()), kept, group, false);
    }
    // One group only, and whole numbers that stay such: every tie is one.
    for (const int columns : {group, 128 / group * group}) {
      SweepProblem problem(columns, 65, random);
      for (int j = 0; j < columns; j++) {
        for (int c = 0; c <= j; c++) problem.inverse[j * columns + c] = j == c ? 1 : 0;
      }
      for (float& w : problem.weights) w = static_cast<int>(random() % 7) - 3;
      check(problem, std::vector<unsigned char>(problem.weights.size()), kept, group, true);
    }
  }
  check(tall, std::vector<unsigned char>(128 * 1021), 2, 4, false);
  return failures == 0 ? 0 : 1;
}
