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

// A pool whose thread, while it waits for the tasks of a run, runs the product of other tokens.
struct BusyPool {
  const SparseProduct& product;
  const std::vector<float>& input;
  std::vector<float>& output;
  std::int64_t tokens;
  bool busy = false;

  static void run(void* pool, ParallelFor::Task task, void* context, std::size_t count) {
    BusyPool& self = *static_cast<BusyPool*>(pool);
    for (std::size_t i = 0; i < count; ++i) task(context, i);
    if (self.busy) return;
    self.busy = true;
    self.product.run(self.input.data(), nullptr, self.output.data(), 1, self.tokens,
                     ParallelFor(run, pool));
    self.busy = false;
  }
};

void check_pool_with_other_work(Isa isa) {
  constexpr std::int64_t kTokens = 20, kInputs = 300, kOutputs = 200;
  const std::vector<float> weights = random_values(kInputs * kOutputs, 0.2);
  const SparseProduct product(ConstantSide::kRight, isa, kInputs, kOutputs, weights.data(),
                              nullptr, Epilogue());
  const std::vector<float> input = random_values(kTokens * kInputs, 1);
  const std::vector<float> other_input = random_values(kTokens * kInputs, 1);
  std::vector<float> expected(kTokens * kOutputs), actual(expected), other(expected);
  product.run(input.data(), nullptr, expected.data(), 1, kTokens, ParallelFor());
  BusyPool pool{product, other_input, other, kTokens};
  product.run(input.data(), nullptr, actual.data(), 1, kTokens, ParallelFor(BusyPool::run, &pool));
  if (actual == expected) return;
  std::fprintf(stderr, "%s: a pool with other work gives other floats\n",
               std::string(isa_name(isa)).c_str());
  ++failures;
}

}  // namespace

int main() {
  const bool all = std::getenv("TACO4J_ISA") == nullptr;
  for (const Isa isa : available_isas()) {
    if (!(all || isa == choose_isa())) continue;
    check_pool_with_other_work(isa);
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
