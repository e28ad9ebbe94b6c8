// The vector forms of layer normalization against their scalar twin, for each instruction set of
// this processor, or the one that TACO4J_ISA names.
#include "layer_normalization.h"

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "sparse_conv.h"

namespace {

using namespace taco4j;

int failures = 0;

void fail(Isa isa, std::int64_t rows, std::int64_t size, const char* what) {
  std::fprintf(stderr, "%s: %lld x %lld: %s\n", std::string(isa_name(isa)).c_str(),
               static_cast<long long>(rows), static_cast<long long>(size), what);
  ++failures;
}

void check(Isa isa, std::int64_t rows, std::int64_t size, float offset) {
  std::mt19937 generator(5);
  std::normal_distribution<float> normal;
  std::vector<float> x(static_cast<std::size_t>(rows * size));
  std::vector<float> scale(static_cast<std::size_t>(size)), bias(scale.size());
  for (float& value : x) value = normal(generator) + offset;
  for (float& value : scale) value = normal(generator);
  for (float& value : bias) value = normal(generator);
  // Nothing is read or written outside: guards, and a sanitizer where there is one.
  constexpr std::size_t kGuard = 32;
  std::vector<float> expected(x.size()), actual(x.size() + 2 * kGuard, 12345.0f);
  layer_normalization_scalar(x.data(), scale.data(), bias.data(), 1e-6f, expected.data(), rows,
                             size);
  layer_normalization(isa)(x.data(), scale.data(), bias.data(), 1e-6f, actual.data() + kGuard, rows,
                           size);
  for (std::size_t i = 0; i < kGuard; ++i) {
    if (actual[i] != 12345.0f || actual[actual.size() - 1 - i] != 12345.0f) {
      return fail(isa, rows, size, "written outside");
    }
  }
  // A normalized value is a few units; sums in float round to 1e-7 of the offset, which one
  // deviation is divided by. Of a single value the deviation is zero, and the rounding of its mean
  // is divided by the root of epsilon.
  const float tolerance = 2e-6f * (1.0f + std::fabs(offset));
  for (std::size_t i = 0; i < x.size(); ++i) {
    if (!(std::fabs(actual[kGuard + i] - expected[i]) <= 4 * tolerance)) {
      std::fprintf(stderr, "%zu: %g, not %g\n", i, actual[kGuard + i], expected[i]);
      return fail(isa, rows, size, "differs");
    }
  }
}

// A row with NaN or infinity is NaN throughout, and others are as without it.
void check_not_finite(Isa isa) {
  constexpr std::int64_t kSize = 37;
  for (const float odd : {std::numeric_limits<float>::quiet_NaN(),
                          std::numeric_limits<float>::infinity()}) {
    std::vector<float> x(3 * kSize), scale(kSize, 1.0f), bias(kSize, 0.0f), y(x.size());
    for (std::size_t i = 0; i < x.size(); ++i) x[i] = static_cast<float>(i % 7);
    x[kSize + 36] = odd;
    layer_normalization(isa)(x.data(), scale.data(), bias.data(), 1e-5f, y.data(), 3, kSize);
    for (std::size_t i = 0; i < y.size(); ++i) {
      if (std::isnan(y[i]) != (i / kSize == 1)) {
        return fail(isa, 3, kSize, "NaN goes where it should not, or does not where it should");
      }
    }
  }
}

}  // namespace

int main() {
  const bool all = std::getenv("TACO4J_ISA") == nullptr;
  for (const Isa isa : available_isas()) {
    if (!(all || isa == choose_isa())) continue;
    for (const std::int64_t size : {2, 3, 4, 7, 8, 15, 16, 17, 31, 63, 64, 65, 192, 197, 768, 1021}) {
      for (const std::int64_t rows : {0, 1, 3}) {
        for (const float offset : {0.0f, 10.0f}) check(isa, rows, size, offset);
      }
    }
    check(isa, 3, 1, 0.0f);
    check_not_finite(isa);
  }
  if (failures > 0) std::fprintf(stderr, "%d failures\n", failures);
  return failures == 0 ? 0 : 1;
}
