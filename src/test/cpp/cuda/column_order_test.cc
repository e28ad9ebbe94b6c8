// column_order.cu against what it says that it does.
#include "column_order.cu"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <limits>
#include <numeric>
#include <random>

namespace {

int failures = 0;

void expect(bool is_so, const char* what, int rows, int cols, const char* order) {
  if (is_so) return;
  std::printf("%s: %d rows, %d columns, %s\n", what, rows, cols, order);
  failures++;
}

struct Layer {
  int rows, cols;
  std::vector<int> column;
  std::vector<unsigned char> dead;
  std::vector<float> weights;
  std::vector<double> h;

  Layer(int rows, int cols, std::mt19937& random)
      : rows(rows), cols(cols), column(cols), dead(cols), weights(rows * cols), h(cols * cols) {
    std::normal_distribution<double> normal;
    std::iota(column.begin(), column.end(), 0);
    std::shuffle(column.begin(), column.end(), random);
    for (int p = 0; p < cols; p++) dead[p] = random() % 5 == 0;
    for (float& w : weights) w = static_cast<float>(normal(random));
    for (int i = 0; i < cols; i++) {
      for (int j = 0; j <= i; j++) h[i * cols + j] = h[j * cols + i] = normal(random);
    }
  }
};

void check_hessian(const Layer& layer, double shift, bool is_finite, const char* order) {
  const int cols = layer.cols;
  const int ld = cols + 2;
  auto lower = taco4j_shim::poisoned<float>(cols * ld);
  auto diagonal = taco4j_shim::poisoned<float>(cols);
  std::vector<int> flags(2, 0);
  taco4j_shim::launch(taco4j_order_hessian_f32, dim3((cols + 255) / 256, std::min(cols, 7)),
                      dim3(256), 0, layer.h.data(), cols, layer.column.data(), layer.dead.data(),
                      shift, lower.data(), ld, diagonal.data(), flags.data());
  expect((flags[0] == 0) == is_finite && flags[1] == 0, "finite", 0, cols, order);
  bool same = true;
  for (int p = 0; p < cols; p++) {
    for (int q = 0; q < cols; q++) {
      double value = q > p ? 0 : layer.h[layer.column[p] * cols + layer.column[q]];
      if (q == p) value = (layer.dead[p] ? 1 : value) + shift;
      same = same && (lower[p * ld + q] == static_cast<float>(value) || !is_finite);
    }
    same = same && (diagonal[p] == lower[p * ld + p] || !is_finite);
  }
  expect(same, "hessian", 0, cols, order);

  // Every third pivot is rounding error, one of them NaN.
  int lost = 0;
  for (int p = 0; p < cols; p++) {
    diagonal[p] = 4;
    lower[p * ld + p] = p % 3 == 1 ? 1e-4f : 2;
    if (p == 4) lower[p * ld + p] = NAN;
    lost += p % 3 == 1;
  }
  taco4j_shim::launch(taco4j_count_lost_pivots_f32, dim3((cols + 255) / 256), dim3(256), 0,
                      lower.data(), ld, diagonal.data(), cols,
                      std::numeric_limits<float>::epsilon(), flags.data());
  expect(flags[1] == lost, "lost pivots", 0, cols, order);
}

void check_weights(const Layer& layer, const char* order) {
  const int rows = layer.rows;
  const int cols = layer.cols;
  const dim3 grid((cols + 31) / 32, (rows + 31) / 32);
  const dim3 block(32, 8);
  auto swept = taco4j_shim::poisoned<float>(rows * cols);
  auto change = taco4j_shim::poisoned<float>(rows * cols);
  taco4j_shim::launch(taco4j_gather_weights_f32, grid, block, 0, layer.weights.data(), rows, cols,
                      layer.column.data(), layer.dead.data(), swept.data(), change.data());
  bool same = swept == change;
  std::vector<unsigned char> mask(rows * cols);
  for (int i = 0; i < rows * cols; i++) mask[i] = i % 3 == 0;
  auto removed = taco4j_shim::poisoned<unsigned char>(rows * cols);
  taco4j_shim::launch(taco4j_gather_removed_u8, grid, block, 0, mask.data(), rows, cols,
                      layer.column.data(), removed.data());
  for (int p = 0; p < cols; p++) {
    for (int row = 0; row < rows; row++) {
      const int at = row * cols + layer.column[p];
      same = same && swept[p * rows + row] == (layer.dead[p] ? 0 : layer.weights[at]);
      same = same && removed[p * rows + row] == 1 - mask[at];
    }
  }
  expect(same, "gathered", rows, cols, order);

  auto weights = taco4j_shim::poisoned<float>(rows * cols);
  auto kept = taco4j_shim::poisoned<unsigned char>(rows * cols);
  taco4j_shim::launch(taco4j_scatter_weights_f32, grid, block, 0, swept.data(), removed.data(), rows,
                      cols, layer.column.data(), weights.data(), kept.data());
  same = kept == mask;
  for (int p = 0; p < cols; p++) {
    for (int row = 0; row < rows; row++) {
      const int at = row * cols + layer.column[p];
      same = same && weights[at] == swept[p * rows + row];
    }
  }
  auto again = taco4j_shim::poisoned<float>(rows * cols);
  taco4j_shim::launch(taco4j_scatter_weights_f32, grid, block, 0, swept.data(), nullptr, rows, cols,
                      layer.column.data(), again.data(), nullptr);
  expect(same && again == weights, "scattered", rows, cols, order);
}

}  // namespace

int main() {
  std::mt19937 random(1);
  for (const int cols : {1, 3, 17, 33, 127, 300}) {
    for (const int rows : {1, 3, 31, 33, 129}) {
      Layer layer(rows, cols, random);
      taco4j_shim::for_each_order([&](const char* order) {
        check_weights(layer, order);
        if (rows == 1) check_hessian(layer, 0.25, true, order);
      });
    }
    for (const double value : {std::nan(""), std::numeric_limits<double>::infinity(), -HUGE_VAL}) {
      Layer layer(1, cols, random);
      std::fill(layer.dead.begin(), layer.dead.end(), 0);
      layer.h[cols * cols - 1] = value;
      check_hessian(layer, 0.25, false, "forward");
    }
  }
  return failures == 0 ? 0 : 1;
}
