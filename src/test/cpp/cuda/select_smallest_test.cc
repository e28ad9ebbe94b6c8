// select_smallest.cu against its reference: exactly k, and which of equals.
#include "select_smallest.cu"

#include <cmath>
#include <cstdio>
#include <random>

#include "select_smallest_reference.h"

namespace {

int failures = 0;

// Marks of the k smallest, by all four kernels; scores are written, too.
void check(const std::vector<float>& weights, const std::vector<float>& factor, int units, int unit,
           int rows, int k, int blocks) {
  const int columns = units * unit;
  const std::vector<double> expected =
      taco4j_reference::unit_scores(weights, factor, units, unit, rows);
  taco4j_shim::for_each_order([&](const char* order) {
    auto fail = [&](const char* what) {
      std::printf("%s: %d units of %d, %d rows, k = %d, %d blocks, %s\n", what, units, unit, rows, k,
                  blocks, order);
      failures++;
    };
    auto scores = taco4j_shim::poisoned<float>(units * rows);
    std::vector<int> histograms(3 * 2048, 0);
    std::vector<int> state(4, 0);
    const int ld = rows + 1;
    std::vector<unsigned char> removed(columns * ld, 9);
    const dim3 block(256);
    taco4j_shim::launch(taco4j_unit_scores_f32, dim3(blocks), block, 0, weights.data(), rows,
                        factor.data(), columns, units, unit, rows, scores.data(), histograms.data());
    for (int pass = 1; pass <= 2; pass++) {
      taco4j_shim::launch(taco4j_select_histogram_f32, dim3(blocks), block, 0, scores.data(),
                          units * rows, k, pass, histograms.data(), state.data());
    }
    taco4j_shim::launch(taco4j_select_mark_f32, dim3(units), block, 0, scores.data(), units, unit,
                        rows, k, histograms.data(), state.data(), removed.data(), ld);
    // Sums of `unit` products, rounded each, and squared.
    for (size_t i = 0; i < scores.size(); i++) {
      if (!(std::fabs(scores[i] - expected[i]) <= 8 * (unit + 2) * 0x1p-24 * (expected[i] + unit))) {
        fail("scores");
        break;
      }
    }
    const auto marks = taco4j_reference::smallest(scores, units, rows, k);
    for (int j = 0; j < columns; j++) {
      for (int row = 0; row < rows; row++) {
        if (removed[j * ld + row] != marks[j / unit * rows + row]) {
          fail("marks");
          return;
        }
      }
      if (removed[j * ld + rows] != 9) {
        fail("beyond the rows");
        return;
      }
    }
  });
}

}  // namespace

int main() {
  std::mt19937 random(1);
  std::normal_distribution<float> normal;
  const int shapes[][3] = {{1, 1, 1},   {1, 1, 33},   {3, 1, 31},   {17, 1, 257}, {128, 1, 3},
                           {127, 1, 65}, {32, 4, 129}, {5, 25, 17}, {1, 128, 7},  {128, 1, 301}};
  for (const auto& [units, unit, rows] : shapes) {
    const int columns = units * unit;
    const int count = units * rows;
    std::vector<float> factor(columns * columns, NAN);
    for (int j = 0; j < columns; j++) {
      for (int c = 0; c < j; c++) factor[j * columns + c] = 0.1f * normal(random);
      factor[j * columns + j] = 0.5f + 0.001f * (random() % 1000);
    }
    std::vector<float> weights(columns * rows);
    for (float& w : weights) w = normal(random);
    for (const int k : {0, 1, count / 3, count / 2, count - 1, count}) {
      check(weights, factor, units, unit, rows, k, 1 + k % 3);
    }
    // Ties: a few whole numbers, zeros among them, and a factor that keeps them whole.
    for (int j = 0; j < columns; j++) {
      for (int c = 0; c <= j; c++) factor[j * columns + c] = j == c ? 1 : 0;
    }
    for (float& w : weights) w = static_cast<int>(random() % 5) - 2;
    for (const int k : {1, count / 5, count / 2, count / 2 + 1, count - 1}) {
      check(weights, factor, units, unit, rows, k, 2);
    }
    // Nothing but ties, and numbers as far apart as floats are.
    std::fill(weights.begin(), weights.end(), 0.0f);
    check(weights, factor, units, unit, rows, count / 2, 2);
    for (float& w : weights) w = std::ldexp(1.0f, static_cast<int>(random() % 120) - 60);
    check(weights, factor, units, unit, rows, count / 2, 2);
  }
  return failures == 0 ? 0 : 1;
}
