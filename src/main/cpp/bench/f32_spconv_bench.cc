// Times sparse convolutions on the layers of known networks, one thread, in CPU time:
//
//   f32_spconv_bench [network=resnet50] [isa=avx512] [mask=unstructured|rows4] [batch=1]
//                    [sparsity=0.8] [passes=20] [dense=233] [skip_check=1] [only=layer]
//
// All layers of the network run one after another, pass after pass, so that each finds caches and
// branch predictors as another layer left them. They share their buffers, as ONNX Runtime's arena
// makes them do: inputs come from the cache to which the layer before would have written them.
// Printed are the median over the passes, the GFLOP/s of kept weights (real) and of all weights
// (dense-equivalent), the GB/s of input and output together, and the ratio to a dense convolution
// of `dense` GFLOP/s, which depthwise ones do not reach. Each result is
// compared with the scalar form first.
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
#include "sparse_conv.h"

namespace {

using namespace taco4j;
using namespace taco4j::bench;

struct Job {
  Layer layer;
  ConvShape shape;
  std::vector<float> weights;
  std::unique_ptr<SparseConv> conv;
  std::int64_t batch = 1;
  double kept = 0;  // share of weights
  std::vector<double> seconds;

  std::size_t input_size() const {
    return static_cast<std::size_t>(batch * layer.in * layer.size * layer.size);
  }
  std::size_t output_size() const {
    return static_cast<std::size_t>(batch * layer.out * shape.output_height(layer.size) *
                                    shape.output_width(layer.size));
  }
  void run(const SparseConv& with, const std::vector<float>& input,
           std::vector<float>& output) const {
    with.run(input.data(), nullptr, output.data(), batch, layer.size, layer.size, ParallelFor());
  }
  double dense_flops() const {
    return 2.0 * static_cast<double>(weights.size()) *
           static_cast<double>(batch * shape.output_height(layer.size) *
                               shape.output_width(layer.size));
  }
};

Job make_job(const Layer& layer, Isa isa, bool rows4, std::int64_t batch, double sparsity) {
  Job job;
  job.layer = layer;
  job.batch = batch;
  job.shape.input_channels = layer.in;
  job.shape.output_channels = layer.out;
  job.shape.groups = layer.groups;
  job.shape.kernel_height = job.shape.kernel_width = layer.kernel;
  job.shape.stride_height = job.shape.stride_width = layer.stride;
  const std::int64_t pad = layer.kernel / 2;
  job.shape.pad_top = job.shape.pad_left = job.shape.pad_bottom = job.shape.pad_right = pad;

  std::mt19937 generator(1);
  std::normal_distribution<float> normal;
  const std::int64_t per_row = job.shape.weights_per_row();
  job.weights.resize(static_cast<std::size_t>(layer.out * per_row));
  for (float& weight : job.weights) weight = normal(generator);
  // By magnitude; blocks by that of their first row, which is as random.
  const auto key = [&](std::int64_t row, std::int64_t i) {
    const std::int64_t from = rows4 ? row / 4 * 4 : row;
    return std::fabs(job.weights[static_cast<std::size_t>(from * per_row + i)]);
  };
  std::vector<float> magnitudes;
  for (std::int64_t row = 0; row < layer.out; row += rows4 ? 4 : 1) {
    for (std::int64_t i = 0; i < per_row; ++i) magnitudes.push_back(key(row, i));
  }
  const double count = static_cast<double>(magnitudes.size()) * sparsity;
  const auto removed = magnitudes.begin() + static_cast<std::ptrdiff_t>(count);
  std::nth_element(magnitudes.begin(), removed, magnitudes.end());
  const float threshold = *removed;
  std::int64_t kept = 0;
  for (std::int64_t row = layer.out - 1; row >= 0; --row) {
    for (std::int64_t i = 0; i < per_row; ++i) {
      if (key(row, i) < threshold) {
        job.weights[static_cast<std::size_t>(row * per_row + i)] = 0.0f;
      } else {
        ++kept;
      }
    }
  }
  job.kept = static_cast<double>(kept) / static_cast<double>(job.weights.size());
  Epilogue relu;
  relu.activation = Activation::kRelu;
  job.conv = create_sparse_conv(isa, job.shape, job.weights.data(), nullptr, relu);
  return job;
}

// The largest difference from the scalar form, in units of the largest value.
double difference(const Job& job, const std::vector<float>& input) {
  std::vector<float> expected(job.output_size()), actual(job.output_size());
  Epilogue relu;
  relu.activation = Activation::kRelu;
  job.run(*create_sparse_conv_scalar(job.shape, job.weights.data(), nullptr, relu), input,
          expected);
  job.run(*job.conv, input, actual);
  float most = 0, scale = 0;
  for (std::size_t i = 0; i < expected.size(); ++i) {
    most = std::max(most, std::fabs(expected[i] - actual[i]));
    scale = std::max(scale, expected[i]);
  }
  return most / scale;
}

}  // namespace

int main(int argc, char** argv) {
  std::map<std::string, std::string> options{
      {"network", "resnet50"}, {"isa", std::string(isa_name(choose_isa()))},
      {"mask", "unstructured"}, {"batch", "1"}, {"sparsity", "0.8"},
      {"passes", "20"}, {"dense", "233"}, {"skip_check", "0"}, {"only", "-1"}};
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
  const std::optional<Isa> isa = isa_of_name(options["isa"]);
  if (network == kNetworks.end() || !isa) {
    std::fprintf(stderr, "no such network or instruction set\n");
    return 2;
  }
  const double sparsity = std::atof(options["sparsity"].c_str());
  const double dense = std::atof(options["dense"].c_str()) * 1e9;

  std::vector<Job> jobs;
  std::size_t largest_input = 0, largest_output = 0;
  const int only = std::atoi(options["only"].c_str());  // counted from 0; -1 for all
  for (const Layer& layer : network->second) {
    if (only >= 0 && only != &layer - network->second.data()) continue;
    jobs.push_back(make_job(layer, *isa, options["mask"] == "rows4",
                            std::atoll(options["batch"].c_str()), sparsity));
    largest_input = std::max(largest_input, jobs.back().input_size());
    largest_output = std::max(largest_output, jobs.back().output_size());
  }
  std::vector<float> input(largest_input), output(largest_output);
  std::mt19937 generator(2);
  std::normal_distribution<float> normal;
  for (float& x : input) x = normal(generator);
  if (options["skip_check"] != "1") {
    for (const Job& job : jobs) {
      const double off = difference(job, input);
      if (!(off <= 1e-5)) {
        std::fprintf(stderr, "%lld -> %lld: differs from the scalar form by %g\n",
                     static_cast<long long>(job.layer.in), static_cast<long long>(job.layer.out),
                     off);
        return 1;
      }
    }
  }
  const int passes = std::atoi(options["passes"].c_str());
  for (int pass = -2; pass < passes; ++pass) {
    for (Job& job : jobs) {
      const double start = seconds();
      job.run(*job.conv, input, output);
      if (pass >= 0) job.seconds.push_back(seconds() - start);
    }
  }

  std::printf("%s %s %s, batch %s, %.0f %% zeros\n", options["network"].c_str(),
              options["isa"].c_str(), options["mask"].c_str(), options["batch"].c_str(),
              100 * sparsity);
  std::printf("%22s %3s %9s %9s %8s %8s %6s %7s\n", "layer", "x", "median ms", "least ms",
              "real", "dense-eq", "GB/s", "ratio");
  double total = 0, least_total = 0, dense_total = 0;
  for (Job& job : jobs) {
    std::sort(job.seconds.begin(), job.seconds.end());
    const double median = job.seconds[job.seconds.size() / 2];
    char name[64];
    std::snprintf(name, sizeof name, "%lld->%lld k%lld s%lld @%lld",
                  static_cast<long long>(job.layer.in), static_cast<long long>(job.layer.out),
                  static_cast<long long>(job.layer.kernel),
                  static_cast<long long>(job.layer.stride),
                  static_cast<long long>(job.layer.size));
    std::printf("%22s %3d %9.4f %9.4f %8.1f %8.1f %6.1f %6.2fx\n", name, job.layer.times, median * 1e3,
                job.seconds.front() * 1e3, job.dense_flops() * job.kept / median / 1e9,
                job.dense_flops() / median / 1e9,
                4e-9 * static_cast<double>(job.input_size() + job.output_size()) / median,
                job.dense_flops() / dense / median);
    total += median * job.layer.times;
    least_total += job.seconds.front() * job.layer.times;
    dense_total += job.dense_flops() * job.layer.times;
  }
  std::printf("%22s %3s %9.4f %9.4f %8s %8.1f %6s %6.2fx\n", "all", "", total * 1e3,
              least_total * 1e3, "", dense_total / total / 1e9, "", dense_total / dense / total);
  return 0;
}
