// obc_allocation.cu against a sort of all losses.
#include "obc_allocation.cu"

#include <cstdio>

namespace {

int failures = 0;

struct Loss {
  double value;
  int set;
  int step;
};

void check(int sets, int steps, int k, int set_rows, int kind, const char* order_name) {
  std::mt19937 random(sets * 31 + steps * 7 + kind);
  std::vector<double> losses(sets * steps, -1);  // where nothing was taken, nothing is to be read
  std::vector<int> taken(sets);
  std::vector<int> order(sets * steps);
  std::vector<Loss> all;
  for (int set = 0; set < sets; set++) {
    taken[set] = kind == 0 ? steps : int(random() % (steps + 1));
    std::vector<int> units(steps);
    std::iota(units.begin(), units.end(), 0);
    std::shuffle(units.begin(), units.end(), random);
    std::copy(units.begin(), units.end(), &order[set * steps]);
    for (int step = 0; step < taken[set]; step++) {
      // Of all sizes; or many that are equal, zeros among them; or all zeros; neighbours in double.
      const double uniform = random() / 4294967296.0;
      const double loss = kind == 0   ? std::exp(600 * (uniform - 0.5))
                          : kind == 1 ? double(random() % 3)
                          : kind == 2 ? 0.0
                                      : 1 + double(random() % 1000) * 0x1p-52;
      losses[set * steps + step] = loss;
      all.push_back({loss, set, step});
    }
  }
  std::stable_sort(all.begin(), all.end(),
                   [](const Loss& a, const Loss& b) { return a.value < b.value; });
  const int n = steps * k;
  const int rows = sets * set_rows - (set_rows > 1 ? 1 : 0);
  std::vector<int> columns(n);
  std::iota(columns.begin(), columns.end(), 0);
  std::shuffle(columns.begin(), columns.end(), random);
  const long long count = all.size();
  for (const long long total : {1LL, count / 3, count / 2 + 1, count - 1, count}) {
    if (total < 1 || total > count) continue;
    const dim3 grid(3);
    std::vector<unsigned long long> state = taco4j_shim::poisoned<unsigned long long>(2);
    std::vector<unsigned> histogram(257, 0);
    for (int digit = 0; digit < 8; digit++) {
      taco4j_shim::launch(taco4j_obc_select_digit, grid, dim3(256), 0, losses.data(), taken.data(),
                          sets, steps, total - 1, digit, state.data(), histogram.data());
    }
    double threshold;
    std::memcpy(&threshold, state.data(), sizeof threshold);
    bool good = threshold == all[total - 1].value &&
                std::count(histogram.begin(), histogram.end(), 0u) == 257;
    auto counts = taco4j_shim::poisoned<int>(sets);
    auto equal = taco4j_shim::poisoned<int>(sets);
    taco4j_shim::launch(taco4j_obc_count, grid, dim3(64), 0, losses.data(), taken.data(), sets,
                        steps, &threshold, counts.data(), equal.data());
    taco4j_shim::launch(taco4j_obc_share_ties, dim3(1), dim3(32), 0, total, sets, counts.data(),
                        equal.data());
    std::vector<int> want(sets, 0);
    for (long long i = 0; i < total; i++) want[all[i].set]++;
    good = good && counts == want;
    auto kept = taco4j_shim::poisoned<unsigned char>(rows * n);
    taco4j_shim::launch(taco4j_obc_mask, dim3(2), dim3(96), 0, order.data(), counts.data(), sets,
                        steps, columns.data(), k, rows, set_rows, n, kept.data());
    std::vector<unsigned char> mask(rows * n, 1);
    for (int row = 0; row < rows; row++) {
      for (int step = 0; step < want[row / set_rows]; step++) {
        for (int c = 0; c < k; c++) {
          mask[row * n + columns[order[row / set_rows * steps + step] * k + c]] = 0;
        }
      }
    }
    if (!good || kept != mask) {
      std::printf("%d sets of %d rows, %d steps, blocks of %d, losses %d, %lld of %lld, %s%s\n",
                  sets, set_rows, steps, k, kind, total, count, order_name,
                  good ? ": the mask" : "");
      failures++;
    }
  }
}

}  // namespace

int main() {
  taco4j_shim::for_each_order([](const char* order) {
    for (const int sets : {1, 3, 17, 129}) {
      for (const int steps : {1, 17, 128}) {
        for (int kind = 0; kind < 4; kind++) {
          check(sets, steps, kind == 1 ? 4 : 1, kind == 2 ? 4 : 1, kind, order);
        }
      }
    }
  });
  return failures == 0 ? 0 : 1;
}
