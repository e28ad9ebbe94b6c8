// The vector forms of layer normalization, as layer_normalization.h has it.
#pragma once

#include <cstdint>

namespace taco4j::f32_layernorm {

void run_avx512(const float* x, const float* scale, const float* bias, float epsilon, float* y,
                std::int64_t rows, std::int64_t size);
void run_avx2(const float* x, const float* scale, const float* bias, float epsilon, float* y,
              std::int64_t rows, std::int64_t size);
void run_neon(const float* x, const float* scale, const float* bias, float epsilon, float* y,
              std::int64_t rows, std::int64_t size);

}  // namespace taco4j::f32_layernorm
