// For AArch64, where these instructions are part of the base architecture.
#define TACO4J_KERNEL_NAMESPACE neon
#define TACO4J_KERNEL_LANES 4
#include "f32_transpose_vector.h"

namespace taco4j::f32_transpose {

void run_neon(const Args& args) { neon::run(args); }

}  // namespace taco4j::f32_transpose
