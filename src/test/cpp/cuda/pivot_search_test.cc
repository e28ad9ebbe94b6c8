// pivot_search.cu against its reference: supports of the same size and pattern, errors that are
// those of the supports, no swap left that helps, and no worse than the reference's descent.
#include "pivot_search.cu"

#include <algorithm>
#include <cstdio>
#include <random>
#include <string>
#include <vector>

#include "pivot_search_reference.h"

namespace {

using taco4j_reference::SearchedRows;
using taco4j_shim::launch;
using taco4j_shim::poisoned;

constexpr double kTolerance = 1e-5;

int failures = 0;

struct Layer {
  int cols, total_rows, set_rows;
  int group_size = 0;  // of N:M
  std::vector<double> h;          // [cols, cols]
  std::vector<double> targets;    // [total_rows, cols]
  std::vector<double> energies;   // [sets]
  std::vector<int> group_columns, group_of;
  std::vector<std::vector<int>> supports;  // [sets]
  // What rounding makes of errors, by energy: some hundred terms, and the condition number of H_SS.
  double rounding = 1e-10;

  int sets() const { return static_cast<int>(supports.size()); }

  SearchedRows rows_of(int set) const {
    SearchedRows rows{cols, std::min(set_rows, total_rows - set * set_rows), h, {}, energies[set],
                      group_of};
    rows.targets.assign(targets.begin() + set * set_rows * cols,
                        targets.begin() + (set * set_rows + rows.rows) * cols);
    return rows;
  }
};

// Correlated inputs; `kept` of each row set, at random, or of each group of N:M.
Layer layer(int cols, int total_rows, int set_rows, int samples, double damping, unsigned seed) {
  std::mt19937 random(seed);
  std::normal_distribution<double> normal;
  Layer layer{cols, total_rows, set_rows, 0, std::vector<double>(cols * cols), {}, {}, {}, {}, {}};
  std::vector<double> x(cols);
  for (int s = 0; s < samples; s++) {
    const double common = normal(random);
    for (double& value : x) value = std::max(0.0, normal(random) + common);
    for (int i = 0; i < cols; i++) {
      for (int j = 0; j < cols; j++) layer.h[i * cols + j] += 2 * x[i] * x[j] / samples;
    }
  }
  for (int i = 0; i < cols; i++) layer.h[i * cols + i] += damping;
  for (int first = 0; first < total_rows; first += set_rows) {
    double energy = 0;
    for (int r = first; r < std::min(first + set_rows, total_rows); r++) {
      std::vector<double> weights(cols);
      for (double& weight : weights) weight = normal(random);
      for (int i = 0; i < cols; i++) {
        double target = 0;
        for (int j = 0; j < cols; j++) target += layer.h[i * cols + j] * weights[j];
        layer.targets.push_back(target);
        energy += target * weights[i];
      }
    }
    layer.energies.push_back(energy);
  }
  return layer;
}

void keep_at_random(Layer& layer, const std::vector<int>& kept, unsigned seed) {
  std::mt19937 random(seed);
  for (size_t set = 0; set < layer.energies.size(); set++) {
    std::vector<int> columns(layer.cols);
    for (int j = 0; j < layer.cols; j++) columns[j] = j;
    std::shuffle(columns.begin(), columns.end(), random);
    columns.resize(kept[set % kept.size()]);
    layer.supports.push_back(columns);
  }
}

// Groups of columns that do not lie side by side.
void keep_of_groups(Layer& layer, int kept, int size) {
  layer.group_size = size;
  layer.group_of.resize(layer.cols);
  for (int i = 0; i < layer.cols; i++) {
    const int column = (i * 5 + 3) % layer.cols;
    layer.group_columns.push_back(column);
    layer.group_of[column] = i / size;
  }
  for (size_t set = 0; set < layer.energies.size(); set++) {
    std::vector<int> support;
    for (int i = 0; i < layer.cols; i++) {
      if (i % size < kept) support.push_back(layer.group_columns[i]);
    }
    layer.supports.push_back(support);
  }
}

struct Found {
  std::vector<int> supports, status;
  std::vector<double> results;
  int launches;
};

// What the host does.
Found search(const Layer& layer, int slots, int most) {
  const int sets = layer.sets();
  std::vector<int> starts{0};
  Found found{{}, std::vector<int>(sets), poisoned<double>(sets * kResults), 0};
  int capacity = 1;
  for (const auto& support : layer.supports) {
    found.supports.insert(found.supports.end(), support.begin(), support.end());
    starts.push_back(static_cast<int>(found.supports.size()));
    capacity = std::max(capacity, static_cast<int>(support.size()));
  }
  int sizes[2];
  launch(taco4j_pivot_search_sizes, dim3(1), dim3(1), 0, layer.cols, layer.set_rows, capacity,
         sizes);
  auto doubles = poisoned<double>(static_cast<size_t>(slots) * sizes[0]);
  auto ints = poisoned<int>(static_cast<size_t>(slots) * sizes[1]);
  std::vector<int> slot_sets(slots, -1);
  int next = 0;
  for (;;) {
    bool busy = false;
    for (int& set : slot_sets) {
      if (set >= 0 && found.status[set] > kRunning) set = -1;
      if (set < 0 && next < sets) set = next++;
      busy |= set >= 0;
    }
    if (!busy) return found;
    launch(taco4j_pivot_search_f64, dim3(slots), dim3(kThreads), 0, layer.h.data(), layer.cols,
           layer.targets.data(), layer.total_rows, layer.set_rows, layer.energies.data(),
           starts.data(), found.supports.data(), layer.group_columns.data(),
           layer.group_of.data(), layer.group_size, slot_sets.data(), found.status.data(),
           found.results.data(), capacity, doubles.data(), sizes[0], ints.data(), sizes[1],
           kTolerance, most);
    found.launches++;
  }
}

void fail(const std::string& what, int set, const char* why, double value, double limit) {
  std::printf("%s, set %d: %s: %.17g, %.17g\n", what.c_str(), set, why, value, limit);
  failures++;
}

void check(const Layer& layer, const std::string& what, int slots = 3, int most = 16) {
  Found first;
  taco4j_shim::for_each_order([&](const char* order) {
    Found found = search(layer, slots, most);
    if (first.status.empty()) first = found;
    if (found.supports != first.supports || found.status != first.status ||
        std::memcmp(found.results.data(), first.results.data(),
                    found.results.size() * sizeof(double)) != 0) {
      fail(what + ", " + order, -1, "other bytes", 0, 0);
    }
  });
  const int* at = first.supports.data();
  double total = 0;
  double total_reference = 0;
  for (int set = 0; set < layer.sets(); set++) {
    const int size = static_cast<int>(layer.supports[set].size());
    const std::vector<int> support(at, at + size);
    at += size;
    if (first.status[set] != kConverged) {
      fail(what, set, "status", first.status[set], kConverged);
      continue;
    }
    std::vector<int> sorted = support;
    std::sort(sorted.begin(), sorted.end());
    if (std::adjacent_find(sorted.begin(), sorted.end()) != sorted.end() ||
        (size > 0 && (sorted.front() < 0 || sorted.back() >= layer.cols))) {
      fail(what, set, "not a support of so many columns", size, 0);
      continue;
    }
    if (layer.group_size > 0) {
      std::vector<int> counts(layer.cols / layer.group_size);
      for (const int column : support) counts[layer.group_of[column]]++;
      for (const int count : counts) {
        const int kept = size / static_cast<int>(counts.size());
        if (count != kept) fail(what, set, "in a group", count, kept);
      }
    }
    const SearchedRows rows = layer.rows_of(set);
    const auto fit = taco4j_reference::fit(rows, support);
    const double* result = &first.results[set * kResults];
    const double rounding = layer.rounding * (rows.energy + 1e-300);
    if (!(std::abs(result[0] - fit.error) <= rounding)) {
      fail(what, set, "error", result[0], fit.error);
    }
    const double before = taco4j_reference::fit(rows, layer.supports[set]).error;
    if (!(fit.error <= before + rounding)) fail(what, set, "error rose", fit.error, before);
    std::vector<double> gains;
    const auto swap = taco4j_reference::best_swap(rows, support, fit, &gains);
    // Where all removed columns are candidates, no swap at all helps; else swaps of those with the
    // largest gains do not, and others seldom.
    const double left = layer.cols - size <= kCandidates ? 1.001 * kTolerance : 0.05;
    if (size > 0 && fit.error > rounding && swap.improvement > left * fit.error + rounding) {
      fail(what, set, "a swap helps", swap.improvement, fit.error);
    }
    std::vector<int> reference = layer.supports[set];
    const double descended = taco4j_reference::descend(rows, reference, kTolerance);
    if (layer.cols - size <= kCandidates && !(fit.error <= (1 + 1e-6) * descended + rounding)) {
      fail(what, set, "worse than the reference", fit.error, descended);
    }
    total += fit.error;
    total_reference += descended;
    std::vector<double> costs;
    for (int p = 0; p < size; p++) {
      double squares = 0;
      for (int r = 0; r < rows.rows; r++) {
        squares += fit.weights[r * size + p] * fit.weights[r * size + p];
      }
      costs.push_back(squares / fit.inverse[p * size + p]);
    }
    std::sort(costs.begin(), costs.end());
    std::sort(gains.rbegin(), gains.rend());
    costs.resize(std::max(size, kReported), INFINITY);
    gains.resize(std::max(layer.cols, kReported));
    for (int k = 0; k < kReported; k++) {
      const double gain = result[3 + k];
      const double cost = result[3 + kReported + k];
      if (!(std::abs(gain - gains[k]) <= 1e-7 * gains[k] + 10 * rounding)) {
        fail(what, set, "gain", gain, gains[k]);
      }
      if (!(cost == costs[k] || std::abs(cost - costs[k]) <= 1e-7 * costs[k] + 10 * rounding)) {
        fail(what, set, "cost", cost, costs[k]);
      }
    }
  }
  // Two descents that see other candidates end in other optima, now better, now worse.
  if (!(total <= 1.03 * total_reference + layer.rounding)) {
    fail(what, -1, "worse than the reference", total, total_reference);
  }
}

std::string text(const char* pattern, int cols) { return pattern + std::to_string(cols); }

}  // namespace

int main() {
  for (const int cols : {1, 2, 8, 17, 64, 129}) {
    // From empty to full.
    Layer rows = layer(cols, 5, 1, 2 * cols, 0.02, cols);
    keep_at_random(rows, {0, cols, (cols + 1) / 2, cols / 4, cols - cols / 5}, 1);
    check(rows, text("rows of ", cols));
    // Rows that share their mask; the last set has fewer.
    Layer shared = layer(cols, 9, 4, 2 * cols, 0.02, cols + 1);
    keep_at_random(shared, {cols / 2, cols / 3}, 2);
    check(shared, text("rows4 of ", cols), 2, 8);
  }
  // More rows than one product takes.
  Layer many = layer(40, 23, 23, 80, 0.02, 3);
  keep_at_random(many, {15}, 3);
  check(many, "rows23");
  // Far fewer samples than columns, hardly damped: columns depend on each other, with a condition
  // number of 1e6 and of 1e8. In the second the reference itself is off by more than errors differ.
  for (const double damping : {1e-4, 1e-6}) {
    Layer deficient = layer(64, 4, 1, 20, damping, 4);
    deficient.rounding = damping < 1e-5 ? 1e-7 : 1e-10;
    keep_at_random(deficient, {32, 10, 50, 20}, 4);
    check(deficient, "rank deficient");
  }
  for (const int kept : {0, 1, 2, 4}) {
    Layer groups = layer(64, 2, 1, 100, 0.02, 5);
    keep_of_groups(groups, kept, 4);
    check(groups, text("of 4: ", kept), 1, 8);
  }
  Layer wide_groups = layer(128, 6, 1, 100, 0.02, 6);
  keep_of_groups(wide_groups, 16, 64);
  check(wide_groups, "16:64");
  // Rows of nothing: no error to lower.
  Layer zeros = layer(20, 2, 1, 50, 0.02, 7);
  std::fill(zeros.targets.begin(), zeros.targets.end(), 0.0);
  std::fill(zeros.energies.begin(), zeros.energies.end(), 0.0);
  keep_at_random(zeros, {7}, 7);
  check(zeros, "zeros");
  // Many swaps: the inverse is computed anew on the way.
  Layer large = layer(260, 1, 1, 600, 0.02, 8);
  keep_at_random(large, {150}, 8);
  check(large, "large", 1, 64);
  // Not positive definite: said, and not searched.
  Layer indefinite = layer(10, 3, 1, 30, 0.02, 9);
  indefinite.h[3 * 10 + 3] = -1;
  indefinite.supports = {{1, 2, 3}, {1, 2, 4}, {9, 8, 3, 0}};
  const Found found = search(indefinite, 2, 8);
  if (found.status != std::vector<int>{kSingular, kConverged, kSingular}) {
    fail("indefinite", -1, "status", found.status[0], found.status[1]);
  }
  return failures == 0 ? 0 : 1;
}
