// Compiled with -mavx2 -mfma.
#define TACO4J_KERNEL_NAMESPACE avx2
#define TACO4J_KERNEL_LANES 8
#include "f32_transpose_vector.h"

namespace taco4j::f32_transpose {

void run_avx2(const Args& args) { avx2::run(args); }

}  // namespace taco4j::f32_transpose
