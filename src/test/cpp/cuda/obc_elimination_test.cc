// obc_elimination.cu against the textbook's updates in double: all kinds of units, U in shared
// memory, in global memory and in both, losses at which to stop, and inverses that are none.
#include "obc_elimination.cu"

#include <cstdio>
#include <map>
#include <string>

#include "obc_elimination_reference.h"

namespace {

int failures = 0;

// Steps of a set that is not asked for.
constexpr int kNotRun = -12345;

void fail(const std::string& what, const std::string& why) {
  std::printf("%s: %s\n", what.c_str(), why.c_str());
  failures++;
}

struct Case {
  int n, rows, set_rows, k, group_size, group_budget;

  int sets() const { return ceil_div(rows, set_rows); }

  int removable() const { return n / k / group_size * group_budget; }

  std::string text() const {
    return std::to_string(n) + " columns, " + std::to_string(rows) + " rows by " +
           std::to_string(set_rows) + ", blocks of " + std::to_string(k) + ", " +
           std::to_string(group_budget) + " of " + std::to_string(group_size);
  }
};

// Where a set's vectors and U are, and how a launch is cut.
struct Place {
  const char* name;
  int threads;
  int grid;
  bool shared_vectors;
  int shared_rows;  // of U, at all columns; -1: as many as there can be steps, never compacted
  bool global;
  bool all_orders;
};

struct Outcome {
  std::vector<int> order;
  std::vector<double> losses;
  std::vector<int> taken;

  bool operator==(const Outcome&) const = default;
};

// H⁻¹ of H = X Xᵀ / samples + damping, and half of 1 / H_pp.
struct Layer {
  std::vector<double> inverse;
  std::vector<double> least;
  std::vector<float> weights;
};

std::vector<double> inverted(std::vector<double> a, int n) {
  // Gauss and Jordan, without pivots: positive definite.
  std::vector<double> b(n * n, 0);
  for (int i = 0; i < n; i++) b[i * n + i] = 1;
  for (int p = 0; p < n; p++) {
    const double scale = 1 / a[p * n + p];
    for (int j = 0; j < n; j++) {
      a[p * n + j] *= scale;
      b[p * n + j] *= scale;
    }
    for (int i = 0; i < n; i++) {
      const double factor = a[i * n + p];
      if (i == p || factor == 0) continue;
      for (int j = 0; j < n; j++) {
        a[i * n + j] -= factor * a[p * n + j];
        b[i * n + j] -= factor * b[p * n + j];
      }
    }
  }
  for (int i = 0; i < n; i++) {
    for (int j = 0; j < i; j++) b[i * n + j] = b[j * n + i];
  }
  return b;
}

Layer random_layer(int n, int rows, unsigned seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> gaussian;
  const int samples = 2 * n;
  std::vector<float> x(samples * n);
  for (float& value : x) value = gaussian(random);
  std::vector<double> h(n * n, 0);
  for (int s = 0; s < samples; s++) {
    for (int i = 0; i < n; i++) {
      for (int j = 0; j < n; j++) h[i * n + j] += x[s * n + i] * x[s * n + j] / samples;
    }
  }
  Layer layer;
  for (int i = 0; i < n; i++) {
    h[i * n + i] += 0.01;
    layer.least.push_back(0.5 / h[i * n + i]);
  }
  layer.inverse = inverted(h, n);
  layer.weights.resize(rows * n);
  for (float& value : layer.weights) value = gaussian(random);
  return layer;
}

int vector_elements(const Case& c, size_t element_bytes) {
  const auto up = [](long long value, int to) { return int((value + to - 1) / to * to); };
  const int columns = up(c.n, 64);
  const int blocks = columns / c.k;
  const int entries = c.k * (c.k + 1) / 2;
  const int ints = 2 * columns + c.n / c.group_size;
  return up(c.set_rows * columns, 4) + up(entries * blocks, 4) +
         (c.k == 1 || c.k == 4 ? 0 : up((entries + c.k) * blocks, 4)) + up(entries, 4) +
         up(c.set_rows * c.k, 4) + up((long long)ceil_div(ints * 4, element_bytes), 4);
}

template <typename T>
Outcome run(const Case& c, const Place& place, const Layer& layer, const std::vector<int>& sets,
            int steps, double stop) {
  const int n = c.n;
  const int panels = ceil_div(n, 64);
  const int columns = 64 * panels;
  const int count = sets.size();
  std::vector<T> inverse(layer.inverse.begin(), layer.inverse.end());
  std::vector<T> least(layer.least.begin(), layer.least.end());
  const int elements = 64 * 64 * panels * (panels + 1) / 2;
  auto packed = taco4j_shim::poisoned<T>(elements);
  if constexpr (sizeof(T) == 4) {
    taco4j_shim::launch(taco4j_obc_pack_f32, dim3(panels), dim3(256), 0, inverse.data(), n, n,
                        packed.data());
    auto narrowed = taco4j_shim::poisoned<float>(elements);
    taco4j_shim::launch(taco4j_obc_pack_f64_f32, dim3(panels), dim3(256), 0, layer.inverse.data(),
                        n, n, narrowed.data());
    if (std::memcmp(narrowed.data(), packed.data(), elements * sizeof(float)) != 0) {
      fail(c.text(), "double is packed into other floats");
    }
  } else {
    taco4j_shim::launch(taco4j_obc_pack_f64, dim3(panels), dim3(256), 0, inverse.data(), n, n,
                        packed.data());
  }
  const int vectors = vector_elements(c, sizeof(T));
  const int shared_u = place.shared_rows < 0 ? (n + 3) / 4 * 4 * steps * c.k
                                             : columns * std::max(place.shared_rows, place.global ? 0 : c.k);
  const int global_u = place.global ? columns * std::max(64, c.k) : 0;
  const long long stride = (place.shared_vectors ? 0 : vectors) + global_u + elements;
  auto scratch = taco4j_shim::poisoned<T>(stride * place.grid);
  int next = 0;
  Outcome out;
  const int all = c.sets();
  out.order.assign(all * steps, -1);
  out.losses.assign(all * steps, -1);
  out.taken.assign(all, kNotRun);
  const auto kernel = [] {
    if constexpr (sizeof(T) == 4) {
      return std::pair(&taco4j_obc_columns_f32, &taco4j_obc_blocks_f32);
    } else {
      return std::pair(&taco4j_obc_columns_f64, &taco4j_obc_blocks_f64);
    }
  }();
  const size_t bytes = sizeof(T) * ((place.shared_vectors ? vectors : 0) + shared_u);
  taco4j_shim::launch(c.k == 1 ? kernel.first : kernel.second, dim3(place.grid),
                      dim3(place.threads), bytes, packed.data(), least.data(),
                      layer.weights.data(), n, c.rows, c.set_rows, sets.data(), count, c.k,
                      c.group_size, c.group_budget, steps, T(stop), &next, scratch.data(), stride,
                      vectors, global_u, int(place.shared_vectors), shared_u, out.order.data(),
                      out.losses.data(), out.taken.data());
  return out;
}

Outcome expected(const Case& c, const Layer& layer, const std::vector<int>& sets, int steps,
                 double stop) {
  Outcome out;
  out.order.assign(c.sets() * steps, -1);
  out.losses.assign(c.sets() * steps, -1);
  out.taken.assign(c.sets(), kNotRun);
  for (const int set : sets) {
    const int first = set * c.set_rows;
    out.taken[set] = taco4j_reference::obc_eliminate(
        layer.inverse, layer.least, &layer.weights[first * c.n], c.n,
        std::min(c.set_rows, c.rows - first), c.k, c.group_size, c.group_budget, steps, stop,
        &out.order[set * steps], &out.losses[set * steps]);
  }
  return out;
}

// Runs in all orders; all must give the same bytes.
template <typename T>
Outcome in_all_orders(const Case& c, const Place& place, const Layer& layer,
                      const std::vector<int>& sets, int steps, double stop) {
  Outcome first;
  bool is_first = true;
  taco4j_shim::for_each_order([&](const char* order) {
    const Outcome outcome = run<T>(c, place, layer, sets, steps, stop);
    if (is_first) {
      first = outcome;
      is_first = false;
    } else if (!(outcome == first)) {
      fail(c.text() + ", " + place.name, std::string("other bytes ") + order);
    }
  });
  return first;
}

// How many sets differ in order; losses must agree in double.
template <typename T>
int compare(const std::string& what, const Outcome& want, const Outcome& got, int steps) {
  int other = 0;
  for (size_t i = 0; i < want.taken.size(); i++) {
    bool same = want.taken[i] == got.taken[i];
    double most = 0;
    for (int s = 0; s < steps; s++) {
      same = same && want.order[i * steps + s] == got.order[i * steps + s];
      most = std::max(most, want.losses[i * steps + s]);
    }
    other += !same;
    for (int s = 0; same && s < steps; s++) {
      const double loss = want.losses[i * steps + s];
      // Condition numbers of about 1e3; losses of almost nothing are differences of the rest.
      const double bound = (sizeof(T) == 8 ? 1e-10 : 1e-3) * (std::abs(loss) + most / 10);
      if (!(std::abs(loss - got.losses[i * steps + s]) <= bound)) {
        fail(what, "loss " + std::to_string(got.losses[i * steps + s]) + " of step " +
                       std::to_string(s) + ", expected " + std::to_string(loss));
        break;
      }
    }
  }
  return other;
}

const Place kPlaces[] = {
    {"one warp, all steps in shared memory", 32, 2, true, -1, false, true},
    {"24 rows of U in shared memory", 256, 2, true, 24, false, true},
    {"7 rows of U in shared memory", 256, 1, true, 7, false, false},
    {"all in global memory", 256, 3, false, 0, true, true},
    {"U in shared memory when it fits", 256, 1, true, 18, true, false},
};

void agrees_with_reference() {
  const Case cases[] = {
      {1, 1, 1, 1, 1, 1},    {3, 2, 1, 1, 1, 1},    {17, 9, 1, 1, 1, 1},   {64, 2, 1, 1, 1, 1},
      {65, 3, 1, 1, 1, 1},   {127, 2, 1, 1, 1, 1},  {129, 2, 1, 1, 1, 1},  {200, 2, 1, 1, 1, 1},
      {17, 9, 4, 1, 1, 1},   {129, 5, 4, 1, 1, 1},  {8, 3, 1, 1, 4, 2},    {200, 2, 1, 1, 4, 2},
      {128, 2, 1, 1, 64, 32}, {130, 3, 2, 1, 10, 3}, {4, 3, 1, 4, 1, 1},    {132, 2, 1, 4, 1, 1},
      {200, 3, 2, 4, 1, 1},  {66, 2, 1, 3, 1, 1},   {130, 2, 2, 2, 1, 1},  {69, 1, 1, 69, 1, 1},
      {160, 1, 1, 16, 1, 1}, {138, 1, 1, 69, 1, 1}, {12, 2, 1, 1, 4, 4},
  };
  int sets_in_float = 0;
  int others_in_float = 0;
  for (const Case& c : cases) {
    const Layer layer = random_layer(c.n, c.rows, 7 + c.n + c.rows);
    const int steps = c.removable();
    // Not all sets, and not in order.
    std::vector<int> sets;
    for (int set = c.sets() - 1; set >= 0; set--) {
      if (set != 1) sets.push_back(set);
    }
    const Outcome want = expected(c, layer, sets, steps, INFINITY);
    for (const Place& place : kPlaces) {
      if (place.shared_rows < 0 && c.n > 130) continue;  // more than there is
      const std::string what = c.text() + ", " + place.name;
      // What can go wrong in other orders does so in fewer columns, too.
      const Outcome wide = c.n <= 132 && place.all_orders
                               ? in_all_orders<double>(c, place, layer, sets, steps, INFINITY)
                               : run<double>(c, place, layer, sets, steps, INFINITY);
      if (compare<double>(what + ", f64", want, wide, steps) > 0) fail(what, "another order");
      const Outcome narrow = run<float>(c, place, layer, sets, steps, INFINITY);
      others_in_float += compare<float>(what + ", f32", want, narrow, steps);
      sets_in_float += sets.size();
    }
    if (steps > 2) {
      const double stop = want.losses[sets[0] * steps + steps / 2] * (1 + 1e-6);  // not on the edge
      const Outcome stopped = expected(c, layer, sets, steps, stop);
      const Outcome wide = run<double>(c, kPlaces[1], layer, sets, steps, stop);
      if (compare<double>(c.text() + ", stopped", stopped, wide, steps) > 0) {
        fail(c.text(), "stops elsewhere");
      }
      const Outcome half = expected(c, layer, sets, steps / 2, INFINITY);
      const Outcome wide_half = run<double>(c, kPlaces[3], layer, sets, steps / 2, INFINITY);
      if (compare<double>(c.text() + ", half", half, wide_half, steps / 2) > 0) {
        fail(c.text(), "another order of half of the steps");
      }
    }
  }
  // Near ties may go the other way in float.
  if (others_in_float > 2 + sets_in_float / 50) {
    fail("f32", std::to_string(others_in_float) + " of " + std::to_string(sets_in_float) +
                    " sets in another order");
  }
}

// Of equal losses the lowest unit goes first.
template <typename T>
void breaks_ties_by_the_lowest() {
  for (const int k : {1, 4}) {
    const Case c{100, 1, 1, k, 1, 1};
    Layer layer;
    layer.inverse.assign(100 * 100, 0);
    for (int i = 0; i < 100; i++) layer.inverse[i * 101] = 1;
    layer.least.assign(100, 0.5);
    layer.weights.assign(100, -2);
    for (const Place& place : kPlaces) {
      const Outcome out = run<T>(c, place, layer, {0}, 100 / k, 1e9);
      for (int i = 0; i < 100 / k; i++) {
        if (out.order[i] != i || out.losses[i] != 2 * k) {
          fail(place.name, "ties of blocks of " + std::to_string(k));
          break;
        }
      }
    }
  }
}

// Inverses that are none, in one pair of columns: what the pivots show, and when.
template <typename T>
void notices_what_is_no_inverse() {
  for (const int k : {1, 2, 4}) {
    for (const double off : {1.0, 1.5, double(NAN), double(INFINITY), 1e-3}) {
      const int n = 132;
      const Case c{n, 2, 1, k, 1, 1};
      Layer layer;
      layer.inverse.assign(n * n, 0);
      for (int i = 0; i < n; i++) layer.inverse[i * (n + 1)] = 1;
      layer.least.assign(n, 0.5);
      layer.weights.resize(2 * n);
      for (int i = 0; i < 2 * n; i++) layer.weights[i] = 1 + i * 7 % 31;
      const int pair[] = {96, 97};
      layer.inverse[pair[0] * n + pair[1]] = layer.inverse[pair[1] * n + pair[0]] = off;
      const int steps = n / k;
      const Outcome want = expected(c, layer, {0, 1}, steps, INFINITY);
      for (const Place& place : kPlaces) {
        const std::string what = "blocks of " + std::to_string(k) + ", " + std::to_string(off) +
                                 " beside ones, " + place.name;
        const Outcome got = run<T>(c, place, layer, {0, 1}, steps, INFINITY);
        for (int i = 0; i < 2; i++) {
          if (want.taken[i] != got.taken[i]) {
            fail(what, std::to_string(got.taken[i]) + " steps, expected " +
                           std::to_string(want.taken[i]));
          }
        }
      }
      if (off != 1e-3 && want.taken[0] >= 0) fail("the reference", "finds nothing wrong");
    }
  }
}

}  // namespace

int main() {
  agrees_with_reference();
  breaks_ties_by_the_lowest<float>();
  breaks_ties_by_the_lowest<double>();
  notices_what_is_no_inverse<float>();
  notices_what_is_no_inverse<double>();
  if (failures > 0) std::printf("%d failures\n", failures);
  return failures == 0 ? 0 : 1;
}
