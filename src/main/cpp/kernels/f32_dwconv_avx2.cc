// Compiled with -mavx2 -mfma.
#define TACO4J_KERNEL_NAMESPACE avx2
#define TACO4J_KERNEL_LANES 8
#include "f32_dwconv_vector.h"

namespace taco4j::f32_dwconv {

const Kernels kAvx2Kernels = {8, avx2::strip};

}  // namespace taco4j::f32_dwconv
