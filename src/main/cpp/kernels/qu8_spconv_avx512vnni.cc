// Compiled with the flags of avx512 and -mavx512vnni: Cascade Lake.
#define TACO4J_KERNEL_NAMESPACE avx512vnni
#define TACO4J_KERNEL_LANES 16
#include "qu8_spconv_vector.h"

namespace taco4j::qu8_spconv {

// 32 registers.
const Kernels kAvx512VnniKernels = avx512vnni::kernels<28>();

}  // namespace taco4j::qu8_spconv
