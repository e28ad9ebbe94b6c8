// Compiled with -mavx512f -mavx512vl -mavx512dq -mavx512bw -mfma.
#define TACO4J_KERNEL_NAMESPACE avx512
#define TACO4J_KERNEL_LANES 16
#include "f32_dwconv_vector.h"

namespace taco4j::f32_dwconv {

const Kernels kAvx512Kernels = {16, avx512::strip};

}  // namespace taco4j::f32_dwconv
