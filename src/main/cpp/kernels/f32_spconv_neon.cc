// For AArch64, where these instructions are part of the base architecture.
#define TACO4J_KERNEL_NAMESPACE neon
#define TACO4J_KERNEL_LANES 4
#include "f32_spconv_vector.h"

namespace taco4j::f32_spconv {

// 32 registers.
const Kernels kNeonKernels = {
    4,
    16,
    5,
    {nullptr, neon::tile<1, 1>, neon::tile<2, 1>, neon::tile<3, 1>, neon::tile<4, 1>,
     neon::tile<5, 1>, neon::tile<6, 1>, neon::tile<7, 1>, neon::tile<8, 1>, neon::tile<9, 1>,
     neon::tile<10, 1>, neon::tile<11, 1>, neon::tile<12, 1>, neon::tile<13, 1>,
     neon::tile<14, 1>, neon::tile<15, 1>, neon::tile<16, 1>},
    {nullptr, neon::tile<1, kBlockRows>, neon::tile<2, kBlockRows>, neon::tile<3, kBlockRows>,
     neon::tile<4, kBlockRows>, neon::tile<5, kBlockRows>},
    neon::pack,
};

}  // namespace taco4j::f32_spconv
