// Compiled with -mavx2 -mfma.
#define TACO4J_KERNEL_NAMESPACE avx2
#define TACO4J_KERNEL_LANES 8
#include "f32_layernorm_vector.h"

namespace taco4j::f32_layernorm {

void run_avx2(const float* x, const float* scale, const float* bias, float epsilon, float* y,
              std::int64_t rows, std::int64_t size) {
  avx2::run(x, scale, bias, epsilon, y, rows, size);
}

}  // namespace taco4j::f32_layernorm
