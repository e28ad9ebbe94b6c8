// Compiled with -mavx512f -mavx512vl -mavx512dq -mavx512bw -mfma.
#define TACO4J_KERNEL_NAMESPACE avx512
#define TACO4J_KERNEL_LANES 16
#include "f32_spconv_vector.h"

namespace taco4j::f32_spconv {

// 32 registers. Blocks hold four sums and one vector of pixels for each vector of the tile.
const Kernels kAvx512Kernels = {
    16,
    12,
    5,
    {nullptr, avx512::tile<1, 1>, avx512::tile<2, 1>, avx512::tile<3, 1>, avx512::tile<4, 1>,
     avx512::tile<5, 1>, avx512::tile<6, 1>, avx512::tile<7, 1>, avx512::tile<8, 1>,
     avx512::tile<9, 1>, avx512::tile<10, 1>, avx512::tile<11, 1>, avx512::tile<12, 1>},
    {nullptr, avx512::tile<1, kBlockRows>, avx512::tile<2, kBlockRows>,
     avx512::tile<3, kBlockRows>, avx512::tile<4, kBlockRows>, avx512::tile<5, kBlockRows>},
    avx512::pack,
};

}  // namespace taco4j::f32_spconv
