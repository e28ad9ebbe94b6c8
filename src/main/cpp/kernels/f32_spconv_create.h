// The vector forms of SparseConv, of the instruction sets which this library was compiled for.
#pragma once

#include "sparse_conv.h"

namespace taco4j {

#if defined(__x86_64__)
std::unique_ptr<SparseConv> create_sparse_conv_avx512(const ConvShape& shape, const float* weights,
                                                      const float* bias, const Epilogue& epilogue);
std::unique_ptr<SparseConv> create_sparse_conv_avx2(const ConvShape& shape, const float* weights,
                                                    const float* bias, const Epilogue& epilogue);
#elif defined(__aarch64__)
std::unique_ptr<SparseConv> create_sparse_conv_neon(const ConvShape& shape, const float* weights,
                                                    const float* bias, const Epilogue& epilogue);
#endif

}  // namespace taco4j
