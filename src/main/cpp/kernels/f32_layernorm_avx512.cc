// Compiled with -mavx512f -mavx512vl -mavx512dq -mavx512bw -mfma.
#define TACO4J_KERNEL_NAMESPACE avx512
#define TACO4J_KERNEL_LANES 16
#include "f32_layernorm_vector.h"

namespace taco4j::f32_layernorm {

void run_avx512(const float* x, const float* scale, const float* bias, float epsilon, float* y,
                std::int64_t rows, std::int64_t size) {
  avx512::run(x, scale, bias, epsilon, y, rows, size);
}

}  // namespace taco4j::f32_layernorm
