// The vector kernels against their scalar twin over awkward sizes, for each instruction set of this
// processor, or the one that TACO4J_ISA names. With an argument, the seed of the random shapes.
#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "sparse_conv.h"

namespace {

using namespace taco4j;

int failures = 0;
std::mt19937 generator(20);

std::int64_t any_of(std::initializer_list<std::int64_t> values) {
  return values.begin()[generator() % values.size()];
}

float uniform() { return std::uniform_real_distribution<float>(-1.0f, 1.0f)(generator); }

enum class Mask { kUnstructured, kRows4, kEmpty, kDense, kEmptyRows };

struct Case {
  ConvShape shape;
  Epilogue epilogue;
  Mask mask = Mask::kUnstructured;
  double density = 0.2;
  std::int64_t batch = 1, height = 1, width = 1;
  bool residual = false;

  std::string name() const {
    char text[256];
    std::snprintf(text, sizeof text,
                  "%lld -> %lld, groups %lld, kernel %lldx%lld, stride %lld,%lld, "
                  "dilation %lld,%lld, pads %lld,%lld,%lld,%lld, image %lld x %lldx%lld, "
                  "mask %d, density %.2f, activation %d, residual %d",
                  (long long)shape.input_channels, (long long)shape.output_channels,
                  (long long)shape.groups, (long long)shape.kernel_height,
                  (long long)shape.kernel_width, (long long)shape.stride_height,
                  (long long)shape.stride_width, (long long)shape.dilation_height,
                  (long long)shape.dilation_width, (long long)shape.pad_top,
                  (long long)shape.pad_left, (long long)shape.pad_bottom,
                  (long long)shape.pad_right, (long long)batch, (long long)height,
                  (long long)width, static_cast<int>(mask), density,
                  static_cast<int>(epilogue.activation), residual);
    return text;
  }
};

std::vector<float> random_weights(const Case& c) {
  const std::int64_t per_row = c.shape.weights_per_row();
  std::vector<float> weights(static_cast<std::size_t>(c.shape.output_channels * per_row));
  std::bernoulli_distribution keep(c.density);
  for (std::int64_t row = 0; row < c.shape.output_channels; ++row) {
    for (std::int64_t i = 0; i < per_row; ++i) {
      float& weight = weights[static_cast<std::size_t>(row * per_row + i)];
      switch (c.mask) {
        case Mask::kUnstructured:
          weight = keep(generator) ? uniform() : 0.0f;
          break;
        case Mask::kRows4:
          weight = row % 4 == 0 ? (keep(generator) ? uniform() : 0.0f)
                   : weights[static_cast<std::size_t>((row - row % 4) * per_row + i)] != 0.0f
                       ? uniform()
                       : 0.0f;
          break;
        case Mask::kEmpty:
          break;
        case Mask::kDense:
          weight = uniform();
          break;
        case Mask::kEmptyRows:
          weight = row % 3 != 1 && keep(generator) ? uniform() : 0.0f;
          break;
      }
    }
  }
  return weights;
}

std::vector<float> random_values(std::int64_t count) {
  std::vector<float> values(static_cast<std::size_t>(count));
  for (float& value : values) value = uniform();
  return values;
}

std::vector<float> absolute(std::vector<float> values) {
  for (float& value : values) value = std::fabs(value);
  return values;
}

// Runs tasks on three threads, whichever is free.
void three_threads(void*, ParallelFor::Task task, void* context, std::size_t count) {
  std::atomic<std::size_t> next{0};
  const auto work = [&] {
    for (std::size_t i; (i = next++) < count;) task(context, i);
  };
  std::thread first(work), second(work);
  work();
  first.join();
  second.join();
}

bool same_bits(const std::vector<float>& a, const std::vector<float>& b) {
  return std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

void check(const Case& c, Isa isa) {
  const std::vector<float> weights = random_weights(c);
  const std::vector<float> bias = random_values(c.shape.output_channels);
  const std::int64_t input_size = c.shape.input_channels * c.height * c.width;
  const std::int64_t output_size = c.shape.output_channels * c.shape.output_height(c.height) *
                                   c.shape.output_width(c.width);
  const std::vector<float> input = random_values(c.batch * input_size);
  const std::vector<float> residual = random_values(c.batch * output_size);
  const float* with = c.residual ? residual.data() : nullptr;
  std::vector<float> expected(static_cast<std::size_t>(c.batch * output_size));
  create_sparse_conv_scalar(c.shape, weights.data(), bias.data(), c.epilogue)
      ->run(input.data(), with, expected.data(), c.batch, c.height, c.width, ParallelFor());

  // Rounding is bounded by the sum of the magnitudes of all terms: one unit in the last place,
  // 6e-8, for each addition of some 100 gives less than 1e-5.
  std::vector<float> magnitude(expected.size());
  create_sparse_conv_scalar(c.shape, absolute(weights).data(), absolute(bias).data(), Epilogue())
      ->run(absolute(input).data(), c.residual ? absolute(residual).data() : nullptr,
            magnitude.data(), c.batch, c.height, c.width, ParallelFor());

  const auto fail = [&](const char* what) {
    std::fprintf(stderr, "%s: %s: %s\n", std::string(isa_name(isa)).c_str(), c.name().c_str(),
                 what);
    ++failures;
  };
  const auto conv = create_sparse_conv(isa, c.shape, weights.data(), bias.data(), c.epilogue);
  // Guards show what is written outside.
  constexpr std::size_t kGuard = 64;
  std::vector<float> guarded(expected.size() + 2 * kGuard, 12345.0f);
  conv->run(input.data(), with, guarded.data() + kGuard, c.batch, c.height, c.width,
            ParallelFor());
  const std::vector<float> actual(guarded.begin() + kGuard, guarded.end() - kGuard);
  for (std::size_t i = 0; i < kGuard; ++i) {
    if (guarded[i] != 12345.0f || guarded[guarded.size() - 1 - i] != 12345.0f) {
      fail("written outside of the output");
      break;
    }
  }
  for (std::size_t i = 0; i < expected.size(); ++i) {
    if (!(std::fabs(actual[i] - expected[i]) <= 1e-5f * (magnitude[i] + 1e-3f))) {
      char text[128];
      std::snprintf(text, sizeof text, "output %zu of %zu is %.9g, not %.9g", i, expected.size(),
                    actual[i], expected[i]);
      fail(text);
      break;
    }
  }

  std::vector<float> again = c.residual ? residual : std::vector<float>(expected.size());
  conv->run(input.data(), c.residual ? again.data() : nullptr, again.data(), c.batch, c.height,
            c.width, ParallelFor(three_threads, nullptr));
  if (!same_bits(actual, again)) fail("three threads, into the residual, give other bits");
  const std::int64_t image = c.batch - 1;
  std::vector<float> single(static_cast<std::size_t>(output_size));
  conv->run(input.data() + image * input_size,
            with == nullptr ? nullptr : with + image * output_size, single.data(), 1, c.height,
            c.width, ParallelFor());
  if (std::memcmp(single.data(), actual.data() + image * output_size,
                  single.size() * sizeof(float)) != 0) {
    fail("the last image alone gives other bits");
  }
}

// The shapes of real networks, all sizes of image that their layers see, and hard corners.
std::vector<Case> chosen_cases() {
  std::vector<Case> cases;
  const auto add = [&](std::int64_t in, std::int64_t out, std::int64_t kernel, std::int64_t stride,
                       std::int64_t size, double density, Mask mask = Mask::kUnstructured) {
    Case c;
    c.shape.input_channels = in;
    c.shape.output_channels = out;
    c.shape.kernel_height = c.shape.kernel_width = kernel;
    c.shape.stride_height = c.shape.stride_width = stride;
    c.shape.pad_top = c.shape.pad_left = c.shape.pad_bottom = c.shape.pad_right = kernel / 2;
    c.density = density;
    c.mask = mask;
    c.height = c.width = size;
    c.epilogue.activation = Activation::kRelu;
    c.residual = kernel == 1;
    cases.push_back(c);
  };
  for (const Mask mask : {Mask::kUnstructured, Mask::kRows4}) {
    for (const std::int64_t size : {7, 14, 28, 56}) {
      add(1792 / size, 24, 1, 1, size, 0.1, mask);
      add(896 / size, 20, 3, 1, size, 0.1, mask);
      add(896 / size, 12, 3, 2, 2 * size, 0.1, mask);
      add(896 / size, 12, 1, 2, 2 * size, 0.1, mask);
    }
    for (const std::int64_t size : {8, 16, 32}) add(16, 16, 3, 1, size, 0.2, mask);
    add(3, 16, 7, 2, 96, 0.5, mask);
    add(700, 8, 1, 1, 1, 0.2, mask);
    add(600, 9, 3, 1, 5, 0.05, mask);
    add(4, 4, 3, 1, 224, 0.3, mask);
    add(4, 4, 3, 1, 112, 0.3, mask);
    // Rows of half a vector and more, whose results are stored as whole ones, and too short for it.
    for (const std::int64_t size : {9, 10, 12, 25}) add(60, 8, 3, 1, size, 0.2, mask);
    // Few rows of which each has its own number of entries.
    add(64, 64, 3, 1, 7, 0.05, mask);
  }
  for (const Mask mask : {Mask::kEmpty, Mask::kDense, Mask::kEmptyRows}) {
    add(300, 17, 1, 1, 14, 0.05, mask);
    add(30, 17, 3, 1, 14, 0.05, mask);
  }
  return cases;
}

Case random_case() {
  Case c;
  ConvShape& s = c.shape;
  s.groups = any_of({1, 1, 1, 2, 3});
  s.input_channels = s.groups * any_of({1, 2, 3, 17, 31, 129});
  s.output_channels = s.groups * any_of({1, 3, 4, 8, 17});
  s.kernel_height = any_of({1, 1, 3, 3, 2, 5, 7});
  s.kernel_width = any_of({s.kernel_height, s.kernel_height, 1, 3, 4});
  s.stride_height = any_of({1, 1, 2, 3});
  s.stride_width = any_of({s.stride_height, s.stride_height, 1, 2, 5});
  s.dilation_height = any_of({1, 1, 2});
  s.dilation_width = any_of({s.dilation_height, 1, 3, 20});
  s.pad_top = any_of({0, 1, s.kernel_height / 2, 4});
  s.pad_left = any_of({0, 1, s.kernel_width / 2, 5});
  s.pad_bottom = any_of({s.pad_top, 0, 2});
  s.pad_right = any_of({s.pad_left, 0, 3, 25});
  do {
    c.height = any_of({1, 2, 3, 7, 8, 13, 14, 17, 33});
    c.width = any_of({c.height, 1, 3, 7, 15, 16, 17, 57, 129});
    if (s.output_height(c.height) < 1) s.pad_bottom += s.kernel_height * s.dilation_height;
    if (s.output_width(c.width) < 1) s.pad_right += s.kernel_width * s.dilation_width;
  } while (s.output_height(c.height) < 1 || s.output_width(c.width) < 1);
  c.batch = any_of({1, 1, 2, 3, 9});
  c.mask = static_cast<Mask>(any_of({0, 0, 0, 1, 1, 2, 3, 4}));
  c.density = std::vector<double>{0.02, 0.1, 0.3}[generator() % 3];
  c.residual = generator() % 2 == 0;
  c.epilogue.activation = static_cast<Activation>(generator() % 6);
  if (c.epilogue.activation == Activation::kClip) {
    c.epilogue.minimum = -0.25f;
    c.epilogue.maximum = 0.5f;
  }
  return c;
}

// Depthwise shapes, which have kernels of their own.
std::vector<Case> chosen_depthwise_cases() {
  std::vector<Case> cases;
  for (const std::int64_t kernel : {3, 5, 7}) {
    for (const std::int64_t stride : {1, 2}) {
      for (const std::int64_t size : {1, 2, 7, 8, 14, 15, 16, 17, 28, 56, 112, 131}) {
        Case c;
        c.shape.input_channels = c.shape.output_channels = c.shape.groups = size < 56 ? 37 : 3;
        c.shape.kernel_height = c.shape.kernel_width = kernel;
        c.shape.stride_height = c.shape.stride_width = stride;
        c.shape.pad_top = c.shape.pad_left = c.shape.pad_bottom = c.shape.pad_right = kernel / 2;
        c.mask = size % 3 == 1 ? Mask::kUnstructured : Mask::kDense;
        c.density = 0.9;
        c.height = c.width = size;
        c.residual = size % 2 == 0;
        c.epilogue.activation = static_cast<Activation>(size % 6);
        cases.push_back(c);
      }
    }
  }
  return cases;
}

Case random_depthwise_case() {
  Case c = random_case();
  ConvShape& s = c.shape;
  s.groups = s.input_channels = any_of({2, 3, 16, 33});
  s.output_channels = s.groups * any_of({1, 1, 1, 2, 3});
  if (generator() % 3 == 0) {
    s.kernel_width = s.kernel_height = any_of({3, 5, 7});
    s.dilation_width = s.dilation_height = 1;
    s.stride_width = s.stride_height = any_of({1, 1, 2});
    s.pad_left = s.pad_right = s.kernel_width / 2;
  }
  if (s.output_height(c.height) < 1) s.pad_bottom += s.kernel_height * s.dilation_height;
  if (s.output_width(c.width) < 1) s.pad_right += s.kernel_width * s.dilation_width;
  c.mask = generator() % 2 == 0 ? Mask::kDense : Mask::kUnstructured;
  c.density = std::vector<double>{0.1, 0.5, 0.98}[generator() % 3];
  return c;
}

// NaN and infinities reach the outputs whose kept weights read them, and no others.
void check_not_finite(Isa isa, std::int64_t groups) {
  for (int i = 0; i < 24; ++i) {
    const std::int64_t kernel = i % 2 == 0 && groups == 1 ? 1 : 3;
    const std::int64_t size = i < 12 ? 14 : 7;
    Case c;
    c.shape.input_channels = 40;
    c.shape.output_channels = groups == 1 ? 32 : 40;
    c.shape.groups = groups;
    c.density = groups == 1 ? 0.2 : 0.9;
    c.shape.kernel_height = c.shape.kernel_width = kernel;
    c.shape.pad_top = c.shape.pad_left = c.shape.pad_bottom = c.shape.pad_right = kernel / 2;
    c.height = c.width = size;
    c.epilogue.activation = static_cast<Activation>(i % 12 / 2);
    const std::vector<float> weights = random_weights(c);
    std::vector<float> input = random_values(40 * size * size);
    input[500] = std::numeric_limits<float>::quiet_NaN();
    input[1201] = std::numeric_limits<float>::infinity();
    input.back() = -std::numeric_limits<float>::infinity();
    std::vector<float> expected(static_cast<std::size_t>(c.shape.output_channels * size * size));
    std::vector<float> actual(expected.size());
    create_sparse_conv_scalar(c.shape, weights.data(), nullptr, c.epilogue)
        ->run(input.data(), nullptr, expected.data(), 1, size, size, ParallelFor());
    create_sparse_conv(isa, c.shape, weights.data(), nullptr, c.epilogue)
        ->run(input.data(), nullptr, actual.data(), 1, size, size, ParallelFor());
    int wrong = 0, seen = 0;
    for (std::size_t i = 0; i < expected.size(); ++i) {
      const bool finite = std::isfinite(expected[i]);
      seen += !finite;
      wrong += finite ? !std::isfinite(actual[i])
                      : std::isnan(expected[i]) != std::isnan(actual[i]) ||
                            (!std::isnan(expected[i]) && expected[i] != actual[i]);
    }
    if (wrong > 0 || seen == 0) {
      std::fprintf(stderr,
                   "%s: kernel %lld, activation %d: %d values with NaN or infinity differ, %d seen\n",
                   std::string(isa_name(isa)).c_str(), static_cast<long long>(kernel), i % 12 / 2, wrong,
                   seen);
      ++failures;
    }
  }
}

}  // namespace

int main(int argc, char** argv) {
  constexpr int kRandomCases = 250;
  if (argc > 1) generator.seed(static_cast<unsigned>(std::atoi(argv[1])));
  const bool all = std::getenv("TACO4J_ISA") == nullptr;
  for (const Isa isa : available_isas()) {
    if (isa == Isa::kScalar || !(all || isa == choose_isa())) continue;
    int count = 0;
    for (const Case& c : chosen_cases()) {
      check(c, isa);
      ++count;
    }
    for (const Case& c : chosen_depthwise_cases()) {
      check(c, isa);
      ++count;
    }
    for (int i = 0; i < kRandomCases; ++i) {
      check(random_case(), isa);
      check(random_depthwise_case(), isa);
      count += 2;
    }
    for (const std::int64_t groups : {1, 40}) check_not_finite(isa, groups);
    std::printf("%s: %d shapes\n", std::string(isa_name(isa)).c_str(), count);
  }
  if (failures > 0) std::fprintf(stderr, "%d failures\n", failures);
  return failures == 0 ? 0 : 1;
}
