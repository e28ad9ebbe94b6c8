// The vector forms of SparseQConv and SparseQProduct, of the instruction sets which this library was compiled for.
#pragma once

#include "sparse_qconv.h"

namespace taco4j {

#if defined(__x86_64__)
std::unique_ptr<SparseQConv> create_sparse_qconv_avx512vbmi2(const QuantizedConv& conv);
std::unique_ptr<SparseQProduct> create_sparse_qproduct_avx512vbmi2(const QuantizedProduct& product);
std::unique_ptr<SparseQConv> create_sparse_qconv_avx512vnni(const QuantizedConv& conv);
std::unique_ptr<SparseQProduct> create_sparse_qproduct_avx512vnni(const QuantizedProduct& product);
std::unique_ptr<SparseQConv> create_sparse_qconv_avx512(const QuantizedConv& conv);
std::unique_ptr<SparseQProduct> create_sparse_qproduct_avx512(const QuantizedProduct& product);
std::unique_ptr<SparseQConv> create_sparse_qconv_avxvnni(const QuantizedConv& conv);
std::unique_ptr<SparseQProduct> create_sparse_qproduct_avxvnni(const QuantizedProduct& product);
std::unique_ptr<SparseQConv> create_sparse_qconv_avx2(const QuantizedConv& conv);
std::unique_ptr<SparseQProduct> create_sparse_qproduct_avx2(const QuantizedProduct& product);
#elif defined(__aarch64__)
std::unique_ptr<SparseQConv> create_sparse_qconv_neondot(const QuantizedConv& conv);
std::unique_ptr<SparseQProduct> create_sparse_qproduct_neondot(const QuantizedProduct& product);
std::unique_ptr<SparseQConv> create_sparse_qconv_neon(const QuantizedConv& conv);
std::unique_ptr<SparseQProduct> create_sparse_qproduct_neon(const QuantizedProduct& product);
#endif

}  // namespace taco4j
