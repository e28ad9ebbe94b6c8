// Compiled with -mavx2 -mfma.
#define TACO4J_KERNEL_NAMESPACE avx2
#define TACO4J_KERNEL_LANES 8
#include "f32_spconv_vector.h"

namespace taco4j::f32_spconv {

// 16 registers.
const Kernels kAvx2Kernels = {
    8,
    12,
    2,
    {nullptr, avx2::tile<1, 1>, avx2::tile<2, 1>, avx2::tile<3, 1>, avx2::tile<4, 1>,
     avx2::tile<5, 1>, avx2::tile<6, 1>, avx2::tile<7, 1>, avx2::tile<8, 1>, avx2::tile<9, 1>,
     avx2::tile<10, 1>, avx2::tile<11, 1>, avx2::tile<12, 1>},
    {nullptr, avx2::tile<1, kBlockRows>, avx2::tile<2, kBlockRows>},
    avx2::pack,
};

}  // namespace taco4j::f32_spconv
