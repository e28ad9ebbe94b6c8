// For AArch64, where these instructions are part of the base architecture.
#define TACO4J_KERNEL_NAMESPACE neon
#define TACO4J_KERNEL_LANES 4
#include "f32_layernorm_vector.h"

namespace taco4j::f32_layernorm {

void run_neon(const float* x, const float* scale, const float* bias, float epsilon, float* y,
              std::int64_t rows, std::int64_t size) {
  neon::run(x, scale, bias, epsilon, y, rows, size);
}

}  // namespace taco4j::f32_layernorm
