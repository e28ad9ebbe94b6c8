// Compiled with -mavx512f -mavx512vl -mavx512dq -mavx512bw, for processors without AVX512-VNNI.
#define TACO4J_KERNEL_NAMESPACE avx512
#define TACO4J_KERNEL_LANES 16
#include "qu8_spconv_vector.h"

namespace taco4j::qu8_spconv {

// 32 registers, of which the products need some.
const Kernels kAvx512Kernels = avx512::kernels<24>();

}  // namespace taco4j::qu8_spconv
