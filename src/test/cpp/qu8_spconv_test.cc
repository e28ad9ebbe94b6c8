// The vector kernels for bytes against their scalar twin, to the bit, over awkward sizes: all kernels
// that this processor runs, or those of the instruction set that TACO4J_ISA names. With an argument,
// the seed of the random shapes.
#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <limits>
#include <memory>
#include <random>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "sparse_qconv.h"

namespace {

using namespace taco4j;

int failures = 0;
std::mt19937 generator(20);

std::int64_t any_of(std::initializer_list<std::int64_t> values) {
  return values.begin()[generator() % values.size()];
}

float uniform(float least, float most) {
  return std::uniform_real_distribution<float>(least, most)(generator);
}

// Of weights: single ones, or fours of input channels that are all zero or not.
enum class Mask { kUnstructured, kBlock4, kEmpty, kDense, kEmptyRows, kExtreme };

struct Case {
  ConvShape shape;
  Mask mask = Mask::kBlock4;
  double density = 0.2;
  std::int64_t batch = 1, height = 1, width = 1;
  bool adds = false;
  bool extreme = false;  // bytes and scales
  Quantization input{0.02f, 3}, product{0.05f, 0}, residual{0.03f, 128}, output{0.07f, 0};

  std::string name() const {
    char text[320];
    std::snprintf(text, sizeof text,
                  "%lld -> %lld, groups %lld, kernel %lldx%lld, stride %lld,%lld, "
                  "dilation %lld,%lld, pads %lld,%lld,%lld,%lld, image %lld x %lldx%lld, "
                  "mask %d, density %.2f, adds %d, extreme %d, zero points %d %d",
                  (long long)shape.input_channels, (long long)shape.output_channels,
                  (long long)shape.groups, (long long)shape.kernel_height,
                  (long long)shape.kernel_width, (long long)shape.stride_height,
                  (long long)shape.stride_width, (long long)shape.dilation_height,
                  (long long)shape.dilation_width, (long long)shape.pad_top,
                  (long long)shape.pad_left, (long long)shape.pad_bottom,
                  (long long)shape.pad_right, (long long)batch, (long long)height,
                  (long long)width, static_cast<int>(mask), density, adds, extreme,
                  input.zero_point, product.zero_point);
    return text;
  }
};

std::vector<std::int8_t> random_weights(const Case& c) {
  const std::int64_t taps = c.shape.kernel_height * c.shape.kernel_width;
  const std::int64_t channels = c.shape.input_channels_per_group();
  std::vector<std::int8_t> weights(
      static_cast<std::size_t>(c.shape.output_channels * channels * taps));
  std::bernoulli_distribution keep(c.density);
  for (std::int64_t row = 0; row < c.shape.output_channels; ++row) {
    for (std::int64_t tap = 0; tap < taps; ++tap) {
      bool kept = false;
      for (std::int64_t channel = 0; channel < channels; ++channel) {
        if (c.mask == Mask::kUnstructured || channel % 4 == 0) kept = keep(generator);
        auto weight = static_cast<std::int8_t>(static_cast<int>(generator() % 256) - 128);
        if (c.mask == Mask::kExtreme) weight = generator() % 2 == 0 ? 127 : -128;
        if (c.mask == Mask::kEmpty || (c.mask == Mask::kEmptyRows && row % 3 == 1) ||
            (c.mask != Mask::kDense && c.mask != Mask::kExtreme && !kept)) {
          weight = 0;
        }
        weights[static_cast<std::size_t>((row * channels + channel) * taps + tap)] = weight;
      }
    }
  }
  return weights;
}

std::vector<std::uint8_t> random_bytes(std::int64_t count, bool extreme) {
  std::vector<std::uint8_t> bytes(static_cast<std::size_t>(count));
  for (std::uint8_t& byte : bytes) {
    byte = static_cast<std::uint8_t>(extreme ? (generator() % 2) * 255 : generator());
  }
  return bytes;
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

void check(const Case& c, const QConvKernels& kernels) {
  const std::vector<std::int8_t> weights = random_weights(c);
  std::vector<float> scales;
  std::vector<std::int32_t> bias;
  // Such that results are spread over the bytes.
  const double terms = static_cast<double>(c.shape.weights_per_row()) *
                       (c.mask == Mask::kDense || c.mask == Mask::kExtreme ? 1 : c.density);
  const float spread = c.product.scale / (c.input.scale * 100.0f *
                                          static_cast<float>(std::sqrt(terms + 1)));
  for (std::int64_t row = 0; row < c.shape.output_channels; ++row) {
    scales.push_back(c.extreme && row % 4 == 1 ? 0.0f
                     : c.extreme && row % 4 == 2
                         ? 1e30f * c.product.scale
                         : spread * uniform(0.5f, 2.0f));
    bias.push_back(c.extreme && row % 3 == 1
                       ? std::numeric_limits<std::int32_t>::max()
                       : static_cast<std::int32_t>(generator() % 20001) - 10000);
  }
  QuantizedConv conv;
  conv.shape = c.shape;
  conv.weights = weights.data();
  conv.weight_scales = scales.data();
  conv.bias = bias.data();
  conv.input = c.input;
  conv.product = c.product;
  conv.adds = c.adds;
  conv.residual = c.residual;
  conv.output = c.output;
  check_quantized_conv(conv);

  const std::int64_t input_size = c.shape.input_channels * c.height * c.width;
  const std::int64_t output_size = c.shape.output_channels * c.shape.output_height(c.height) *
                                   c.shape.output_width(c.width);
  const std::vector<std::uint8_t> input = random_bytes(c.batch * input_size, c.extreme);
  const std::vector<std::uint8_t> residual = random_bytes(c.batch * output_size, c.extreme);
  const std::uint8_t* with = c.adds ? residual.data() : nullptr;
  std::vector<std::uint8_t> expected(static_cast<std::size_t>(c.batch * output_size));
  create_sparse_qconv_scalar(conv)->run(input.data(), with, expected.data(), c.batch, c.height,
                                        c.width, ParallelFor());

  const auto fail = [&](const char* what) {
    std::fprintf(stderr, "%s: %s: %s\n", kernels.name, c.name().c_str(), what);
    ++failures;
  };
  const auto packed = kernels.create(conv);
  // Guards show what is written outside.
  constexpr std::size_t kGuard = 128;
  std::vector<std::uint8_t> guarded(expected.size() + 2 * kGuard, 201);
  packed->run(input.data(), with, guarded.data() + kGuard, c.batch, c.height, c.width,
              ParallelFor());
  const std::vector<std::uint8_t> actual(guarded.begin() + kGuard, guarded.end() - kGuard);
  for (std::size_t i = 0; i < kGuard; ++i) {
    if (guarded[i] != 201 || guarded[guarded.size() - 1 - i] != 201) {
      fail("written outside of the output");
      break;
    }
  }
  for (std::size_t i = 0; i < expected.size(); ++i) {
    if (actual[i] != expected[i]) {
      char text[128];
      std::snprintf(text, sizeof text, "output %zu of %zu is %d, not %d", i, expected.size(),
                    actual[i], expected[i]);
      fail(text);
      break;
    }
  }

  std::vector<std::uint8_t> again =
      c.adds ? residual : std::vector<std::uint8_t>(expected.size());
  packed->run(input.data(), c.adds ? again.data() : nullptr, again.data(), c.batch, c.height,
              c.width, ParallelFor(three_threads, nullptr));
  if (again != actual) fail("three threads, into the residual, give other bytes");
  const std::int64_t image = c.batch - 1;
  std::vector<std::uint8_t> single(static_cast<std::size_t>(output_size));
  packed->run(input.data() + image * input_size,
              with == nullptr ? nullptr : with + image * output_size, single.data(), 1, c.height,
              c.width, ParallelFor());
  if (!std::equal(single.begin(), single.end(), actual.begin() + image * output_size)) {
    fail("the last image alone gives other bytes");
  }
}

// The shapes of real networks, all sizes of image that their layers see, and hard corners.
std::vector<Case> chosen_cases() {
  std::vector<Case> cases;
  const auto add = [&](std::int64_t in, std::int64_t out, std::int64_t kernel, std::int64_t stride,
                       std::int64_t size, double density, Mask mask = Mask::kBlock4) {
    Case c;
    c.shape.input_channels = in;
    c.shape.output_channels = out;
    c.shape.kernel_height = c.shape.kernel_width = kernel;
    c.shape.stride_height = c.shape.stride_width = stride;
    c.shape.pad_top = c.shape.pad_left = c.shape.pad_bottom = c.shape.pad_right = kernel / 2;
    c.density = density;
    c.mask = mask;
    c.height = c.width = size;
    c.adds = kernel == 1;
    cases.push_back(c);
  };
  for (const Mask mask : {Mask::kUnstructured, Mask::kBlock4}) {
    for (const std::int64_t size : {7, 14, 28, 56}) {
      add(1792 / size, 24, 1, 1, size, 0.1, mask);
      add(896 / size, 20, 3, 1, size, 0.1, mask);
      add(896 / size, 12, 3, 2, 2 * size, 0.1, mask);
      add(896 / size, 12, 1, 2, 2 * size, 0.1, mask);
    }
    // Of four pixels a row, two rows and the padding between them lie in one vector.
    for (const std::int64_t size : {4, 5, 6, 8, 16, 32}) add(16, 16, 3, 1, size, 0.2, mask);
    add(3, 16, 7, 2, 96, 0.5, mask);
    add(2000, 8, 1, 1, 1, 0.2, mask);
    add(1600, 9, 3, 1, 5, 0.05, mask);
    add(4, 4, 3, 1, 224, 0.3, mask);
    add(4, 4, 3, 1, 112, 0.3, mask);
  }
  for (const Mask mask : {Mask::kEmpty, Mask::kDense, Mask::kEmptyRows, Mask::kExtreme}) {
    add(300, 17, 1, 1, 14, 0.05, mask);
    add(30, 17, 3, 1, 14, 0.05, mask);
  }
  return cases;
}

Case random_case() {
  Case c;
  ConvShape& s = c.shape;
  s.groups = any_of({1, 1, 1, 2, 3});
  s.input_channels = s.groups * any_of({1, 2, 3, 4, 17, 31, 129});
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
    c.width = any_of({c.height, 1, 3, 4, 4, 5, 6, 7, 15, 16, 17, 57, 129});
    if (s.output_height(c.height) < 1) s.pad_bottom += s.kernel_height * s.dilation_height;
    if (s.output_width(c.width) < 1) s.pad_right += s.kernel_width * s.dilation_width;
  } while (s.output_height(c.height) < 1 || s.output_width(c.width) < 1);
  c.batch = any_of({1, 1, 2, 3, 9});
  c.mask = static_cast<Mask>(any_of({0, 0, 1, 1, 1, 2, 3, 4, 5}));
  c.density = std::vector<double>{0.02, 0.1, 0.3}[generator() % 3];
  c.adds = generator() % 2 == 0;
  c.extreme = generator() % 4 == 0;
  const auto zero_point = [] { return static_cast<std::uint8_t>(any_of({0, 1, 100, 128, 255})); };
  c.input = {uniform(0.001f, 0.1f), zero_point()};
  c.product = {uniform(0.001f, 0.1f), zero_point()};
  c.residual = {uniform(0.001f, 0.1f), zero_point()};
  // Powers of two make halves, which are rounded to the even neighbour.
  c.output = {generator() % 2 == 0 ? c.product.scale * 2 : uniform(0.001f, 0.1f), zero_point()};
  return c;
}

// All pairs of a product's and a residual's bytes, whose sum is rounded to a third grid.
void check_sums(const QConvKernels& kernels, Quantization product, Quantization residual,
                Quantization output) {
  // The product's bytes are those of the input.
  const std::int8_t weight = 1;
  const float weight_scale = 1.0f;
  QuantizedConv conv;
  conv.shape.input_channels = conv.shape.output_channels = 1;
  conv.weights = &weight;
  conv.weight_scales = &weight_scale;
  conv.input = conv.product = product;
  conv.adds = true;
  conv.residual = residual;
  conv.output = output;
  std::vector<std::uint8_t> input(65536), operand(65536), expected(65536), actual(65536);
  for (std::size_t i = 0; i < input.size(); ++i) {
    input[i] = static_cast<std::uint8_t>(i / 256);
    operand[i] = static_cast<std::uint8_t>(i % 256);
  }
  create_sparse_qconv_scalar(conv)->run(input.data(), operand.data(), expected.data(), 1, 256, 256,
                                        ParallelFor());
  kernels.create(conv)->run(input.data(), operand.data(), actual.data(), 1, 256, 256,
                            ParallelFor());
  for (std::size_t i = 0; i < input.size(); ++i) {
    if (actual[i] == expected[i]) continue;
    std::fprintf(stderr,
                 "%s: %d of (%.9g, %d) + %d of (%.9g, %d) is %d of (%.9g, %d), and not %d\n",
                 kernels.name, input[i], product.scale, product.zero_point, operand[i],
                 residual.scale, residual.zero_point, expected[i], output.scale, output.zero_point,
                 actual[i]);
    ++failures;
    return;
  }
}

int check_sums(const QConvKernels& kernels) {
  // Grids so much finer than those of what is added that large terms take one another away.
  check_sums(kernels, {1.95093834f, 21}, {1.87745011f, 228}, {0.022790771f, 112});
  constexpr int kRandomGrids = 60;
  const auto zero_point = [] { return static_cast<std::uint8_t>(generator()); };
  for (int i = 0; i < kRandomGrids; ++i) {
    const float output = uniform(0.001f, 0.1f);
    const float most = i % 3 == 0 ? 2.0f : i % 3 == 1 ? 100.0f : 1000.0f;
    const float ratio = uniform(0.01f * most, most);
    check_sums(kernels, {output * ratio, zero_point()},
               {output * ratio * uniform(0.5f, 2.0f), zero_point()}, {output, zero_point()});
  }
  return kRandomGrids + 1;
}

struct ProductCase {
  std::int64_t tokens, inputs, outputs;
  double density;
  bool residual;
  Activation activation;
  bool extreme;
};

void check(const ProductCase& c, const QConvKernels& kernels) {
  std::vector<std::int8_t> weights(static_cast<std::size_t>(c.inputs * c.outputs));
  std::bernoulli_distribution keep(c.density);
  for (std::int64_t o = 0; o < c.outputs; ++o) {
    bool kept = false;
    for (std::int64_t i = 0; i < c.inputs; ++i) {
      if (i % 4 == 0) kept = o % 5 != 4 && keep(generator);
      weights[static_cast<std::size_t>(i * c.outputs + o)] =
          static_cast<std::int8_t>(kept ? static_cast<int>(generator() % 256) - 128 : 0);
    }
  }
  QuantizedProduct product;
  product.inputs = c.inputs;
  product.outputs = c.outputs;
  product.weights = weights.data();
  product.input = {0.03f, static_cast<std::uint8_t>(any_of({0, 128, 255}))};
  product.output = {0.05f, static_cast<std::uint8_t>(any_of({0, 128, 255}))};
  std::vector<float> scales, float_bias;
  std::vector<std::int32_t> bias;
  const double terms = static_cast<double>(c.inputs) * c.density;
  for (std::int64_t o = 0; o < c.outputs; ++o) {
    scales.push_back(c.extreme && o % 3 == 1 ? 1e30f
                                             : uniform(0.5f, 2.0f) / static_cast<float>(
                                                   100.0 * std::sqrt(terms + 1)));
    bias.push_back(static_cast<std::int32_t>(generator() % 20001) - 10000);
    float_bias.push_back(uniform(-1.0f, 1.0f));
  }
  product.weight_scales = scales.data();
  const std::vector<std::uint8_t> input = random_bytes(c.tokens * c.inputs, c.extreme);
  const auto fail = [&](const char* what) {
    std::fprintf(stderr, "%s: %lld x %lld -> %lld, density %.2f, extreme %d: %s\n", kernels.name,
                 (long long)c.tokens, (long long)c.inputs, (long long)c.outputs, c.density,
                 c.extreme, what);
    ++failures;
  };
  const auto count = static_cast<std::size_t>(c.tokens * c.outputs);

  product.bias = bias.data();
  check_quantized_product(product);
  std::vector<std::uint8_t> expected(count), actual(count), again(count);
  create_sparse_qproduct_scalar(product)->run(input.data(), nullptr, expected.data(), c.tokens,
                                              ParallelFor());
  const auto packed = kernels.create_product(product);
  packed->run(input.data(), nullptr, actual.data(), c.tokens, ParallelFor());
  if (actual != expected) fail("bytes differ");
  packed->run(input.data(), nullptr, again.data(), c.tokens, ParallelFor(three_threads, nullptr));
  if (again != actual) fail("three threads give other bytes");

  if (c.extreme) return;
  product.bias = nullptr;
  product.result = QuantizedProduct::Result::kFloats;
  product.float_bias = float_bias.data();
  product.epilogue.activation = c.activation;
  product.epilogue.minimum = -0.25f;
  product.epilogue.maximum = 0.5f;
  std::vector<float> residual(count), expected_floats(count), actual_floats(count);
  for (float& x : residual) x = uniform(-1.0f, 1.0f);
  const float* with = c.residual ? residual.data() : nullptr;
  create_sparse_qproduct_scalar(product)->run(input.data(), with, expected_floats.data(),
                                              c.tokens, ParallelFor());
  const auto packed_floats = kernels.create_product(product);
  packed_floats->run(input.data(), with, actual_floats.data(), c.tokens, ParallelFor());
  for (std::size_t i = 0; i < count; ++i) {
    // Sums are exact; what follows is a few roundings of values around 1, and activations by
    // polynomials that are within 1.5e-7.
    if (!(std::fabs(actual_floats[i] - expected_floats[i]) <=
          2e-6f * (1 + std::fabs(expected_floats[i])))) {
      fail("floats differ");
      break;
    }
  }
  packed_floats->run(input.data(), c.residual ? residual.data() : nullptr, residual.data(),
                     c.tokens, ParallelFor(three_threads, nullptr));
  if (residual != actual_floats) fail("three threads, into the residual, give other floats");
}

int check_products(const QConvKernels& kernels) {
  int count = 0;
  for (const std::int64_t tokens : {1, 2, 7, 15, 16, 17, 50, 197, 400, 2500}) {
    for (const std::int64_t inputs : {1, 4, 33, 192}) {
      for (const std::int64_t outputs : {1, 21, 64, 200}) {
        check({tokens, inputs, outputs, 0.3, count % 2 == 0,
               static_cast<Activation>(count % 6), count % 5 == 0},
              kernels);
        ++count;
      }
    }
  }
  // Long enough for several panels.
  check({50, 3072, 40, 0.1, true, Activation::kGelu, false}, kernels);
  check({197, 1537, 500, 0.1, true, Activation::kNone, false}, kernels);
  check({33, 64, 100, 0.0, true, Activation::kRelu, false}, kernels);
  check({33, 64, 100, 1.0, true, Activation::kRelu, false}, kernels);
  return count + 4;
}

// A pool whose thread, while it waits for the tasks of a run, runs another product.
struct BusyPool {
  std::function<void()> other;
  bool busy = false;

  static void run(void* pool, ParallelFor::Task task, void* context, std::size_t count) {
    BusyPool& self = *static_cast<BusyPool*>(pool);
    for (std::size_t i = 0; i < count; ++i) task(context, i);
    if (self.busy) return;
    self.busy = true;
    self.other();
    self.busy = false;
  }
};

// Few tokens, which are packed for all tasks before products begin.
void check_pool_with_other_work(const QConvKernels& kernels) {
  constexpr std::int64_t kTokens = 20, kInputs = 512, kOutputs = 512;
  std::vector<std::int8_t> weights(kInputs * kOutputs);
  for (std::int8_t& weight : weights) {
    if (generator() % 4 == 0) weight = static_cast<std::int8_t>(generator());
  }
  const std::vector<float> scales(kOutputs, 0.003f);
  QuantizedProduct product;
  product.inputs = kInputs;
  product.outputs = kOutputs;
  product.weights = weights.data();
  product.weight_scales = scales.data();
  product.input = {0.03f, 100};
  product.output = {0.05f, 128};
  const auto packed = kernels.create_product(product);
  const std::vector<std::uint8_t> input = random_bytes(kTokens * kInputs, false);
  const std::vector<std::uint8_t> other_input = random_bytes(kTokens * kInputs, false);
  std::vector<std::uint8_t> expected(kTokens * kOutputs), actual(expected), other(expected);
  packed->run(input.data(), nullptr, expected.data(), kTokens, ParallelFor());
  BusyPool pool;
  const ParallelFor busy(BusyPool::run, &pool);
  pool.other = [&] { packed->run(other_input.data(), nullptr, other.data(), kTokens, busy); };
  packed->run(input.data(), nullptr, actual.data(), kTokens, busy);
  if (actual != expected) {
    std::fprintf(stderr, "%s: a pool with other work gives other bytes\n", kernels.name);
    ++failures;
  }
}

// Whether what is wrong is said, and nothing else happens.
void check_errors() {
  const std::vector<std::int8_t> weights(4, 1);
  QuantizedConv good;
  good.shape.input_channels = 4;
  good.shape.output_channels = 1;
  good.weights = weights.data();
  const float one = 1.0f;
  good.weight_scales = &one;
  check_quantized_conv(good);
  const float infinite = std::numeric_limits<float>::infinity();
  const float not_a_number = std::numeric_limits<float>::quiet_NaN();
  const float negative = -1.0f;
  const std::vector<std::function<void(QuantizedConv&)>> mistakes{
      [](QuantizedConv& c) { c.shape.groups = 3; },
      [](QuantizedConv& c) { c.input.scale = 0.0f; },
      [&](QuantizedConv& c) { c.input.scale = not_a_number; },
      [&](QuantizedConv& c) { c.product.scale = infinite; },
      [](QuantizedConv& c) { c.product.scale = -1.0f; },
      [](QuantizedConv& c) { c.input.scale = 1e38f, c.product.scale = 1e-38f; },
      [&](QuantizedConv& c) { c.weight_scales = &infinite; },
      [&](QuantizedConv& c) { c.weight_scales = &not_a_number; },
      [&](QuantizedConv& c) { c.weight_scales = &negative; },
      [](QuantizedConv& c) { c.adds = true, c.residual.scale = 0.0f; },
      [](QuantizedConv& c) { c.adds = true, c.output.scale = 0.0f; },
  };
  for (std::size_t i = 0; i < mistakes.size(); ++i) {
    QuantizedConv bad = good;
    mistakes[i](bad);
    try {
      check_quantized_conv(bad);
      std::fprintf(stderr, "mistake %zu is not seen\n", i);
      ++failures;
    } catch (const std::invalid_argument&) {
    }
  }
}

}  // namespace

int main(int argc, char** argv) {
  constexpr int kRandomCases = 250;
  if (argc > 1) generator.seed(static_cast<unsigned>(std::atoi(argv[1])));
  const bool all = std::getenv("TACO4J_ISA") == nullptr;
  check_errors();
  for (const QConvKernels& kernels : available_qconv_kernels()) {
    if (kernels.isa == Isa::kScalar || !(all || kernels.isa == choose_isa())) continue;
    int count = 0;
    for (const Case& c : chosen_cases()) {
      check(c, kernels);
      ++count;
    }
    for (int i = 0; i < kRandomCases; ++i) check(random_case(), kernels);
    const int products = check_products(kernels);
    const int sums = check_sums(kernels);
    check_pool_with_other_work(kernels);
    std::printf("%s: %d shapes, %d products, %d sums\n", kernels.name, count + kRandomCases,
                products, sums);
  }
  if (failures > 0) std::fprintf(stderr, "%d failures\n", failures);
  return failures == 0 ? 0 : 1;
}
