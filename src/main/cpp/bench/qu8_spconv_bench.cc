// Times sparse convolutions of bytes on the layers of known networks, one thread, in CPU time:
//
//   qu8_spconv_bench [network=resnet50] [kernels=avx512vnni] [batch=1] [sparsity=0.8]
//                    [passes=20] [dense=247] [skip_check=1] [layer=4] [adds=0]
//
// Weights are blocks of four input channels that are zero together or not, at random. As in
// f32_spconv_bench the layers run one after another, pass after pass; each reads the bytes that the one
// before has written, so that they come from the cache that they would come from in a network. The
// third convolution of each block of a ResNet adds a residual, unless adds=0. `layer` is the number of
// one that is to be run alone, from 1 on. Printed are the median over the
// passes, the billions of operations a second of kept weights (real; a multiplication and an addition
// are two) and of all weights (dense-equivalent), and the ratio to a dense convolution of `dense`
// such operations: by default that of ONNX Runtime in float32 on a Zen 5. Each result is compared
// with the scalar form first.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "bench/networks.h"
#include "sparse_qconv.h"

namespace {

using namespace taco4j;
using namespace taco4j::bench;

using Bytes = std::vector<std::uint8_t>;

struct Job {
  Layer layer;
  QuantizedConv conv;
  std::vector<std::int8_t> weights;
  std::vector<float> scales;
  std::unique_ptr<SparseQConv> packed;
  std::int64_t batch = 1;
  double kept = 0;  // share of weights
  std::vector<double> seconds;

  std::size_t input_size() const {
    return static_cast<std::size_t>(batch * layer.in * layer.size * layer.size);
  }
  std::size_t output_size() const {
    return static_cast<std::size_t>(batch * layer.out * conv.shape.output_height(layer.size) *
                                    conv.shape.output_width(layer.size));
  }
  void run(const SparseQConv& with, const Bytes& input, const Bytes& residual,
           Bytes& output) const {
    with.run(input.data(), conv.adds ? residual.data() : nullptr, output.data(), batch, layer.size,
             layer.size, ParallelFor());
  }
  double dense_operations() const {
    return 2.0 * static_cast<double>(weights.size()) *
           static_cast<double>(batch * conv.shape.output_height(layer.size) *
                               conv.shape.output_width(layer.size));
  }
};

std::unique_ptr<Job> make_job(const Layer& layer, const QConvKernels& kernels, std::int64_t batch,
                              double sparsity, bool adds) {
  auto job = std::make_unique<Job>();
  job->layer = layer;
  job->batch = batch;
  ConvShape& shape = job->conv.shape;
  shape.input_channels = layer.in;
  shape.output_channels = layer.out;
  shape.kernel_height = shape.kernel_width = layer.kernel;
  shape.stride_height = shape.stride_width = layer.stride;
  shape.pad_top = shape.pad_left = shape.pad_bottom = shape.pad_right = layer.kernel / 2;

  std::mt19937 generator(1);
  const std::int64_t taps = layer.kernel * layer.kernel;
  job->weights.resize(static_cast<std::size_t>(layer.out * layer.in * taps));
  const std::int64_t quads = (layer.in + 3) / 4;
  std::vector<char> keep(static_cast<std::size_t>(layer.out * quads * taps));
  std::fill_n(keep.begin(), static_cast<std::size_t>(static_cast<double>(keep.size()) *
                                                     (1 - sparsity)), 1);
  std::shuffle(keep.begin(), keep.end(), generator);
  std::int64_t kept = 0;
  for (std::int64_t row = 0; row < layer.out; ++row) {
    for (std::int64_t channel = 0; channel < layer.in; ++channel) {
      for (std::int64_t tap = 0; tap < taps; ++tap) {
        if (!keep[static_cast<std::size_t>((row * quads + channel / 4) * taps + tap)]) continue;
        job->weights[static_cast<std::size_t>((row * layer.in + channel) * taps + tap)] =
            static_cast<std::int8_t>(generator() % 255 - 127);
        ++kept;
      }
    }
  }
  job->kept = static_cast<double>(kept) / static_cast<double>(job->weights.size());
  const double terms = static_cast<double>(layer.in * taps) * (1 - sparsity);
  job->scales.assign(static_cast<std::size_t>(layer.out),
                     static_cast<float>(1.0 / (200.0 * std::sqrt(terms + 1))));
  job->conv.weights = job->weights.data();
  job->conv.weight_scales = job->scales.data();
  job->conv.input.zero_point = 0;  // after Relu
  job->conv.adds = adds;
  job->conv.product = {1.0f, static_cast<std::uint8_t>(adds ? 128 : 0)};
  job->conv.residual = {0.9f, 0};
  job->conv.output = {1.1f, 0};
  check_quantized_conv(job->conv);
  job->packed = kernels.create(job->conv);
  return job;
}

bool agrees(const Job& job, const Bytes& input, const Bytes& residual) {
  Bytes expected(job.output_size()), actual(job.output_size());
  job.run(*create_sparse_qconv_scalar(job.conv), input, residual, expected);
  job.run(*job.packed, input, residual, actual);
  return expected == actual;
}

}  // namespace

int main(int argc, char** argv) {
  std::map<std::string, std::string> options{
      {"network", "resnet50"}, {"kernels", available_qconv_kernels().front().name},
      {"batch", "1"}, {"sparsity", "0.8"}, {"passes", "20"}, {"dense", "247"},
      {"skip_check", "0"}, {"layer", "0"}, {"adds", "1"}};
  for (int i = 1; i < argc; ++i) {
    const std::string argument = argv[i];
    const std::size_t equals = argument.find('=');
    if (equals == std::string::npos || options.count(argument.substr(0, equals)) == 0) {
      std::fprintf(stderr, "what is '%s'? See the top of the source.\n", argv[i]);
      return 2;
    }
    options[argument.substr(0, equals)] = argument.substr(equals + 1);
  }
  const auto network = kNetworks.find(options["network"]);
  const std::vector<QConvKernels> available = available_qconv_kernels();
  const auto kernels = std::find_if(available.begin(), available.end(), [&](const auto& k) {
    return options["kernels"] == k.name;
  });
  if (network == kNetworks.end() || kernels == available.end()) {
    std::fprintf(stderr, "no such network or kernels\n");
    return 2;
  }
  const double sparsity = std::atof(options["sparsity"].c_str());
  const double dense = std::atof(options["dense"].c_str()) * 1e9;

  std::vector<std::unique_ptr<Job>> jobs;
  std::size_t largest_input = 0, largest_output = 0;
  int index = 0;
  const int only = std::atoi(options["layer"].c_str());
  for (const Layer& layer : network->second) {
    if (only > 0 && ++index != only) continue;
    // Of the layers that are alike, one stands for all; those that widen come with a shortcut.
    const bool adds = options["adds"] == "1" && network->first == "resnet50" && layer.kernel == 1 && layer.stride == 1 &&
                      layer.out == 4 * layer.in;
    jobs.push_back(
        make_job(layer, *kernels, std::atoll(options["batch"].c_str()), sparsity, adds));
    largest_input = std::max(largest_input, jobs.back()->input_size());
    largest_output = std::max(largest_output, jobs.back()->output_size());
  }
  Bytes input(std::max(largest_input, largest_output)), residual(largest_output);
  Bytes output(input.size());
  std::mt19937 generator(2);
  for (std::uint8_t& x : input) x = static_cast<std::uint8_t>(generator());
  for (std::uint8_t& x : residual) x = static_cast<std::uint8_t>(generator());
  if (options["skip_check"] != "1") {
    for (const auto& job : jobs) {
      if (!agrees(*job, input, residual)) {
        std::fprintf(stderr, "%lld -> %lld: differs from the scalar form\n",
                     static_cast<long long>(job->layer.in),
                     static_cast<long long>(job->layer.out));
        return 1;
      }
    }
  }
  const int passes = std::atoi(options["passes"].c_str());
  for (int pass = -2; pass < passes; ++pass) {
    for (auto& job : jobs) {
      const double start = seconds();
      job->run(*job->packed, input, residual, output);
      if (pass >= 0) job->seconds.push_back(seconds() - start);
      std::swap(input, output);
    }
  }

  std::printf("%s %s, batch %s, %.0f %% zeros\n", options["network"].c_str(), kernels->name,
              options["batch"].c_str(), 100 * sparsity);
  std::printf("%24s %3s %9s %9s %8s %8s %7s\n", "layer", "x", "median ms", "least ms", "real",
              "dense-eq", "ratio");
  double total = 0, least_total = 0, dense_total = 0;
  for (auto& job : jobs) {
    std::sort(job->seconds.begin(), job->seconds.end());
    const double median = job->seconds[job->seconds.size() / 2];
    char name[64];
    std::snprintf(name, sizeof name, "%lld->%lld k%lld s%lld @%lld%s",
                  static_cast<long long>(job->layer.in), static_cast<long long>(job->layer.out),
                  static_cast<long long>(job->layer.kernel),
                  static_cast<long long>(job->layer.stride),
                  static_cast<long long>(job->layer.size), job->conv.adds ? " +" : "");
    std::printf("%24s %3d %9.4f %9.4f %8.1f %8.1f %6.2fx\n", name, job->layer.times, median * 1e3,
                job->seconds.front() * 1e3, job->dense_operations() * job->kept / median / 1e9,
                job->dense_operations() / median / 1e9, job->dense_operations() / dense / median);
    total += median * job->layer.times;
    least_total += job->seconds.front() * job->layer.times;
    dense_total += job->dense_operations() * job->layer.times;
  }
  std::printf("%24s %3s %9.4f %9.4f %8s %8.1f %6.2fx\n", "all", "", total * 1e3,
              least_total * 1e3, "", dense_total / total / 1e9, dense_total / dense / total);
  return 0;
}
