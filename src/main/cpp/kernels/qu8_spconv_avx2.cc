// Compiled with -mavx2.
#define TACO4J_KERNEL_NAMESPACE avx2
#define TACO4J_KERNEL_LANES 8
#include "qu8_spconv_vector.h"

namespace taco4j::qu8_spconv {

// 16 registers, of which the products need some.
const Kernels kAvx2Kernels = avx2::kernels<8>();

}  // namespace taco4j::qu8_spconv
