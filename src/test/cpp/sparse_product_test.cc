// Products with a matrix against three loops, for each instruction set of this processor, or the one
// that TACO4J_ISA names.
#include "sparse_product.h"

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "sparse_conv.h"

namespace {

using namespace taco4j;

int failures = 0;
std::mt19937 generator(9);

std::vector<float> random_values(std::int64_t count, double density) {
  std::normal_distribution<float> normal;
  std::bernoulli_distribution keep(density);
  std::vector<float> values(static_cast<std::size_t>(count));
  for (float& value : values) value = keep(generator) ? normal(generator) : 0.0f;
  return values;
}

// Tokens on the right: [tokens, inputs] x [inputs, outputs].
void check(Isa isa, std::int64_t tokens, std::int64_t inputs, std::int64_t outputs, bool adds,
           Activation activation) {
  const std::vector<float> weights = random_values(inputs * outputs, 0.2);
  const std::vector<float> bias = random_values(outputs, 1);
  const std::vector<float> residual = random_values(tokens * outputs, 1);
  std::vector<float> input = random_values(tokens * inputs, 1);
  // One token must not reach any other.
  const std::int64_t odd = tokens / 2;
  if (tokens > 2) input[odd * inputs] = std::numeric_limits<float>::quiet_NaN();
  Epilogue epilogue;
  epilogue.activation = activation;
  const SparseProduct product(ConstantSide::kRight, isa, inputs, outputs, weights.data(),
                              bias.data(), epilogue);
  // The residual may be the output itself.
  std::vector<float> actual = residual;
  product.run(input.data(), adds ? actual.data() : nullptr, actual.data(), 1, tokens,
              ParallelFor());
  for (std::int64_t t = 0; t < tokens; ++t) {
    for (std::int64_t o = 0; o < outputs; ++o) {
      double sum = bias[o] + (adds ? residual[t * outputs + o] : 0.0f);
      double magnitude = std::fabs(sum) + 1;
      bool nan = false;
      for (std::int64_t i = 0; i < inputs; ++i) {
        const float weight = weights[i * outputs + o];
        if (weight == 0.0f) continue;
        sum += static_cast<double>(weight) * input[t * inputs + i];
        magnitude += std::fabs(static_cast<double>(weight) * input[t * inputs + i]);
        nan = nan || std::isnan(input[t * inputs + i]);
      }
      const float expected = activate(epilogue, static_cast<float>(sum));
      const float value = actual[t * outputs + o];
      // One rounding for each addition, and that of the activation.
      if (nan ? !std::isnan(value) : !(std::fabs(value - expected) <= 2e-6 * magnitude)) {
        std::fprintf(stderr, "%s: %lld x %lld x %lld, token %lld, output %lld: %g, not %g\n",
                     std::string(isa_name(isa)).c_str(), (long long)tokens, (long long)inputs,
                     (long long)outputs, (long long)t, (long long)o, value, expected);
        ++failures;
        return;
      }
    }
  }
}

}  // namespace

int main() {
  const bool all = std::getenv("TACO4J_ISA") == nullptr;
  for (const Isa isa : available_isas()) {
    if (!(all || isa == choose_isa())) continue;
    for (const std::int64_t tokens : {1, 2, 3, 8, 15, 16, 17, 33, 197}) {
      for (const std::int64_t inputs : {1, 7, 16, 65}) {
        for (const std::int64_t outputs : {1, 5, 16, 31, 64}) {
          for (const bool adds : {false, true}) {
            check(isa, tokens, inputs, outputs, adds, Activation::kNone);
            check(isa, tokens, inputs, outputs, adds, Activation::kGelu);
          }
        }
      }
    }
  }
  if (failures > 0) std::fprintf(stderr, "%d failures\n", failures);
  return failures == 0 ? 0 : 1;
}
