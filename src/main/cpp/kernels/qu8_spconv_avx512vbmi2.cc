// Compiled with the flags of avx512, -mavx512vnni and -mavx512vbmi2: Ice Lake and Zen 4 on.
#define TACO4J_KERNEL_NAMESPACE avx512vbmi2
#define TACO4J_KERNEL_LANES 16
#include "qu8_spconv_vector.h"

namespace taco4j::qu8_spconv {

// 32 registers.
const Kernels kAvx512Vbmi2Kernels = avx512vbmi2::kernels<28>();

}  // namespace taco4j::qu8_spconv
