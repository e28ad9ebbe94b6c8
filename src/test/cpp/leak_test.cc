// Layers that are made, run and freed ten thousand times leave no memory behind.
#include <malloc.h>

#include <cstdint>
#include <cstdio>
#include <functional>
#include <vector>

#include "sparse_conv.h"
#include "sparse_product.h"
#include "sparse_qconv.h"

namespace {

using namespace taco4j;

constexpr int kTimes = 10000;
int failures = 0;

std::size_t bytes_in_use() {
  const struct mallinfo2 info = mallinfo2();
  return info.uordblks + info.hblkhd;
}

void check(const char* what, const std::function<void()>& once) {
  // Scratch memory of this thread, which is kept, and what the C++ library allocates at first use.
  for (int i = 0; i < 20; ++i) once();
  const std::size_t before = bytes_in_use();
  for (int i = 0; i < kTimes; ++i) once();
  const std::size_t after = bytes_in_use();
  // A leak is a byte each time at least.
  if (after < before + kTimes) return;
  std::fprintf(stderr, "%s: %.1f bytes more in use after each of %d times\n", what,
               static_cast<double>(after - before) / kTimes, kTimes);
  ++failures;
}

template <typename T>
std::vector<T> every_third(std::int64_t count) {
  std::vector<T> values(static_cast<std::size_t>(count));
  for (std::size_t i = 0; i < values.size(); i += 3) values[i] = static_cast<T>(i % 7 + 1);
  return values;
}

}  // namespace

int main() {
  constexpr std::int64_t kChannels = 8, kSize = 5, kTokens = 3;
  ConvShape shape;
  shape.input_channels = shape.output_channels = kChannels;
  shape.kernel_height = shape.kernel_width = 3;
  shape.pad_top = shape.pad_left = shape.pad_bottom = shape.pad_right = 1;
  ConvShape depthwise = shape;
  depthwise.groups = kChannels;
  const std::vector<float> weights = every_third<float>(kChannels * kChannels * 9);
  const std::vector<float> bias(kChannels, 0.5f), scales(kChannels, 0.01f);
  const std::vector<float> input(kChannels * kSize * kSize, 1.0f);
  std::vector<float> output(input.size());
  const std::vector<std::int8_t> byte_weights = every_third<std::int8_t>(kChannels * kChannels * 9);
  const std::vector<std::uint8_t> bytes(input.size(), 9);
  std::vector<std::uint8_t> byte_output(input.size());
  const Isa isa = choose_isa();

  for (const ConvShape& s : {shape, depthwise}) {
    check(s.groups == 1 ? "convolution" : "depthwise convolution", [&] {
      create_sparse_conv(isa, s, weights.data(), bias.data(), Epilogue())
          ->run(input.data(), nullptr, output.data(), 1, kSize, kSize, ParallelFor());
    });
  }
  // Without a residual: what is tried for one when a layer is made takes long, and no memory.
  QuantizedConv conv;
  conv.shape = shape;
  conv.weights = byte_weights.data();
  conv.weight_scales = scales.data();
  check("convolution of bytes", [&] {
    choose_qconv_kernels().create(conv)
        ->run(bytes.data(), nullptr, byte_output.data(), 1, kSize, kSize, ParallelFor());
  });
  for (const ConstantSide side : {ConstantSide::kLeft, ConstantSide::kRight}) {
    check(side == ConstantSide::kLeft ? "product, weights on the left" : "product", [&] {
      SparseProduct(side, isa, kChannels, kChannels, weights.data(), bias.data(), Epilogue())
          .run(input.data(), nullptr, output.data(), 1, kTokens, ParallelFor());
    });
  }
  QuantizedProduct product;
  product.inputs = product.outputs = kChannels;
  product.weights = byte_weights.data();
  product.weight_scales = scales.data();
  check("product of bytes", [&] {
    choose_qconv_kernels().create_product(product)
        ->run(bytes.data(), nullptr, byte_output.data(), kTokens, ParallelFor());
  });
  return failures == 0 ? 0 : 1;
}
