// Compiled with -mavx512f -mavx512vl -mavx512dq -mavx512bw -mfma.
#define TACO4J_KERNEL_NAMESPACE avx512
#define TACO4J_KERNEL_LANES 16
#include "f32_transpose_vector.h"

namespace taco4j::f32_transpose {

void run_avx512(const Args& args) { avx512::run(args); }

}  // namespace taco4j::f32_transpose
