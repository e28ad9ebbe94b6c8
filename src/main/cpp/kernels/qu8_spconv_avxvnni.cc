// Compiled with -mavx2 -mavxvnni.
#define TACO4J_KERNEL_NAMESPACE avxvnni
#define TACO4J_KERNEL_LANES 8
#include "qu8_spconv_vector.h"

namespace taco4j::qu8_spconv {

// 16 registers.
const Kernels kAvxVnniKernels = avxvnni::kernels<12>();

}  // namespace taco4j::qu8_spconv
