// For AArch64, where these instructions are part of the base architecture.
#define TACO4J_KERNEL_NAMESPACE neon
#define TACO4J_KERNEL_LANES 4
#include "qu8_spconv_vector.h"

namespace taco4j::qu8_spconv {

// 32 registers.
const Kernels kNeonKernels = neon::kernels<16>(128);

}  // namespace taco4j::qu8_spconv
