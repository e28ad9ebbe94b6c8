#include "sparse_qconv.h"

#include <cmath>
#include <cstdlib>
#include <stdexcept>
#include <string>
#include <string_view>

#include "kernels/qu8_spconv_create.h"

namespace taco4j {
namespace {

struct Implementation {
  QConvKernels kernels;
  bool (*runs)();  // whether this processor does, beyond what the instruction set says
};

bool always() { return true; }

// Best first. Kernels stand here where they were compiled.
constexpr Implementation kImplementations[] = {
#if defined(__x86_64__)
    {{"avx512vbmi2", Isa::kAvx512, create_sparse_qconv_avx512vbmi2,
      create_sparse_qproduct_avx512vbmi2},
     [] { return processor_has_dot_products(Isa::kAvx512) && processor_compresses_bytes(); }},
    {{"avx512vnni", Isa::kAvx512, create_sparse_qconv_avx512vnni, create_sparse_qproduct_avx512vnni},
     [] { return processor_has_dot_products(Isa::kAvx512); }},
    {{"avx512", Isa::kAvx512, create_sparse_qconv_avx512, create_sparse_qproduct_avx512}, always},
    {{"avxvnni", Isa::kAvx2, create_sparse_qconv_avxvnni, create_sparse_qproduct_avxvnni},
     [] { return processor_has_dot_products(Isa::kAvx2); }},
    {{"avx2", Isa::kAvx2, create_sparse_qconv_avx2, create_sparse_qproduct_avx2}, always},
#elif defined(__aarch64__)
    {{"neondot", Isa::kNeon, create_sparse_qconv_neondot, create_sparse_qproduct_neondot},
     [] { return processor_has_dot_products(Isa::kNeon); }},
    {{"neon", Isa::kNeon, create_sparse_qconv_neon, create_sparse_qproduct_neon}, always},
#endif
    {{"scalar", Isa::kScalar, create_sparse_qconv_scalar, create_sparse_qproduct_scalar}, always},
};

void check_scale(const char* what, float scale) {
  if (!(std::isfinite(scale) && scale > 0.0f)) {
    throw std::invalid_argument(std::string("the scale of ") + what + " is " +
                                std::to_string(scale) + "; it must be positive and finite");
  }
}

// ratio: of the scales by which sums are multiplied.
void check_weight_scale(float scale, float ratio, std::int64_t output) {
  if (scale >= 0.0f && std::isfinite(ratio)) return;
  throw std::invalid_argument("the weight's scale of output " + std::to_string(output) + " is " +
                              std::to_string(scale) +
                              "; it must not be negative, and finite times the input's by the "
                              "result's");
}

}  // namespace

void check_quantized_conv(const QuantizedConv& conv) {
  check_shape(conv.shape);
  check_scale("the input", conv.input.scale);
  check_scale("the product", conv.product.scale);
  if (conv.adds) {
    check_scale("the residual", conv.residual.scale);
    check_scale("the output", conv.output.scale);
  }
  for (std::int64_t row = 0; row < conv.shape.output_channels; ++row) {
    check_weight_scale(conv.weight_scales[row], requantization_scale(conv, row), row);
  }
}

void check_quantized_product(const QuantizedProduct& product) {
  ConvShape shape;
  shape.input_channels = product.inputs;
  shape.output_channels = product.outputs;
  check_shape(shape);
  check_scale("the input", product.input.scale);
  if (product.result == QuantizedProduct::Result::kBytes) {
    check_scale("the output", product.output.scale);
  }
  for (std::int64_t column = 0; column < product.outputs; ++column) {
    check_weight_scale(product.weight_scales[column], requantization_scale(product, column),
                       column);
  }
}

float requantization_scale(const QuantizedProduct& product, std::int64_t column) {
  const float scale = product.input.scale * product.weight_scales[column];
  return product.result == QuantizedProduct::Result::kBytes ? scale / product.output.scale : scale;
}

std::vector<std::int8_t> transposed_weights(const QuantizedProduct& product) {
  std::vector<std::int8_t> rows(static_cast<std::size_t>(product.inputs * product.outputs));
  for (std::int64_t i = 0; i < product.inputs; ++i) {
    for (std::int64_t o = 0; o < product.outputs; ++o) {
      rows[static_cast<std::size_t>(o * product.inputs + i)] =
          product.weights[i * product.outputs + o];
    }
  }
  return rows;
}

float requantization_scale(const QuantizedConv& conv, std::int64_t row) {
  return conv.input.scale * conv.weight_scales[row] / conv.product.scale;
}

std::vector<std::int32_t> first_sums(const QuantizedConv& conv, std::uint8_t offset) {
  const std::int64_t per_row = conv.shape.weights_per_row();
  std::vector<std::int32_t> first(static_cast<std::size_t>(conv.shape.output_channels));
  const std::uint32_t by = static_cast<std::uint32_t>(conv.input.zero_point) - offset;
  for (std::int64_t row = 0; row < conv.shape.output_channels; ++row) {
    std::uint32_t sum = 0;
    for (std::int64_t i = 0; i < per_row; ++i) {
      sum += static_cast<std::uint32_t>(std::int32_t{conv.weights[row * per_row + i]});
    }
    const std::uint32_t bias =
        conv.bias == nullptr ? 0 : static_cast<std::uint32_t>(conv.bias[row]);
    first[static_cast<std::size_t>(row)] = static_cast<std::int32_t>(bias - by * sum);
  }
  return first;
}

std::vector<QConvKernels> available_qconv_kernels() {
  std::vector<QConvKernels> available;
  for (const Implementation& implementation : kImplementations) {
    if (processor_has(implementation.kernels.isa) && implementation.runs()) {
      available.push_back(implementation.kernels);
    }
  }
  return available;
}

QConvKernels choose_qconv_kernels() {
  const std::vector<QConvKernels> available = available_qconv_kernels();
  const char* forced = std::getenv("TACO4J_ISA");
  if (forced == nullptr || *forced == '\0') return available.front();
  std::string names;
  for (const QConvKernels& kernels : available) {
    if (std::string_view(forced) == kernels.name) return kernels;
    names += names.empty() ? "" : ", ";
    names += kernels.name;
  }
  throw std::invalid_argument("TACO4J_ISA is '" + std::string(forced) +
                              "'; available here: " + names);
}

}  // namespace taco4j
