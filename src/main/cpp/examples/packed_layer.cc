// One sparse convolution without ONNX Runtime: packs a layer of ResNet-50 in which 90 % of the
// weights are zero, runs it on two threads, and says how long that takes.
//
//   g++ -std=c++20 packed_layer.cc -I.. -L. -ltaco4j_ops -pthread
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <thread>
#include <vector>

#include "taco4j.h"

namespace {

void check(taco4j_status status) {
  if (status == TACO4J_OK) return;
  std::fprintf(stderr, "taco4j: %s\n", taco4j_error_message());
  std::exit(1);
}

// The simplest pool there is: two threads for each call, every second task each. A program with a
// pool of its own calls that one here.
void two_threads(void*, taco4j_task task, void* context, size_t count) {
  const auto every_second = [&](size_t first) {
    for (size_t i = first; i < count; i += 2) task(context, i);
  };
  std::thread other(every_second, 1);
  every_second(0);
  other.join();
}

}  // namespace

int main() {
  constexpr int64_t kChannels = 256, kOutputs = 256, kSize = 14;
  std::mt19937 random(1);
  std::normal_distribution<float> normal;
  std::bernoulli_distribution kept(0.1);
  std::vector<float> weights(kOutputs * kChannels * 3 * 3);
  for (float& weight : weights) weight = kept(random) ? normal(random) : 0.0f;
  std::vector<float> bias(kOutputs, 0.1f);
  std::vector<float> input(kChannels * kSize * kSize);
  for (float& value : input) value = normal(random);

  taco4j_conv_options options;
  taco4j_conv_options_init(&options);
  options.input_channels = kChannels;
  options.output_channels = kOutputs;
  options.kernel_height = options.kernel_width = 3;
  options.pad_top = options.pad_left = options.pad_bottom = options.pad_right = 1;
  options.activation = TACO4J_RELU;
  taco4j_conv* conv = nullptr;
  check(taco4j_conv_create(&options, weights.data(), bias.data(), &conv));

  int64_t height = 0, width = 0;
  check(taco4j_conv_output_size(conv, kSize, kSize, &height, &width));
  std::vector<float> output(kOutputs * height * width);
  const auto run = [&] {
    check(taco4j_conv_run(conv, input.data(), nullptr, output.data(), 1, kSize, kSize, two_threads,
                          nullptr));
  };
  run();  // the first run for a size of image lays its work out
  const auto start = std::chrono::steady_clock::now();
  run();
  const std::chrono::duration<double, std::milli> time = std::chrono::steady_clock::now() - start;
  std::printf("%lld x %lld x %lld outputs in %.2f ms; instruction sets: %s\n",
              static_cast<long long>(kOutputs), static_cast<long long>(height),
              static_cast<long long>(width), time.count(), taco4j_available_isas());
  taco4j_conv_free(conv);
}
