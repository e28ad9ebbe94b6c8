#include "layer_normalization.h"

#include <cmath>
#include <stdexcept>
#include <string>

#include "kernels/f32_layernorm.h"

namespace taco4j {

void layer_normalization_scalar(const float* x, const float* scale, const float* bias,
                                float epsilon, float* y, std::int64_t rows, std::int64_t size) {
  for (std::int64_t r = 0; r < rows; ++r) {
    const float* from = x + r * size;
    float* to = y + r * size;
    double sum = 0;
    for (std::int64_t i = 0; i < size; ++i) sum += from[i];
    const double mean = sum / static_cast<double>(size);
    double squares = 0;
    for (std::int64_t i = 0; i < size; ++i) squares += (from[i] - mean) * (from[i] - mean);
    const double factor = 1 / std::sqrt(squares / static_cast<double>(size) + epsilon);
    for (std::int64_t i = 0; i < size; ++i) {
      to[i] = static_cast<float>((from[i] - mean) * factor) * scale[i] + bias[i];
    }
  }
}

LayerNormalization layer_normalization(Isa isa) {
  switch (isa) {
#if defined(__x86_64__)
    case Isa::kAvx512:
      return f32_layernorm::run_avx512;
    case Isa::kAvx2:
      return f32_layernorm::run_avx2;
#elif defined(__aarch64__)
    case Isa::kNeon:
      return f32_layernorm::run_neon;
#endif
    case Isa::kScalar:
      return layer_normalization_scalar;
    default:
      throw std::invalid_argument("no kernels for " + std::string(isa_name(isa)));
  }
}

}  // namespace taco4j
