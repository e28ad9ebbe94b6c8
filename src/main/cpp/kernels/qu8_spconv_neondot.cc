// For AArch64, compiled with -march=armv8.2-a+dotprod.
#define TACO4J_KERNEL_NAMESPACE neondot
#define TACO4J_KERNEL_LANES 4
#include "qu8_spconv_vector.h"

namespace taco4j::qu8_spconv {

// 32 registers.
const Kernels kNeonDotKernels = neondot::kernels<24>(128);

}  // namespace taco4j::qu8_spconv
