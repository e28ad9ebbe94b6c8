// For AArch64, where these instructions are part of the base architecture.
#define TACO4J_KERNEL_NAMESPACE neon
#define TACO4J_KERNEL_LANES 4
#include "f32_dwconv_vector.h"

namespace taco4j::f32_dwconv {

const Kernels kNeonKernels = {4, neon::strip};

}  // namespace taco4j::f32_dwconv
