// Depthwise convolutions: each output channel reads one input channel.
#pragma once

#include "kernels/f32_dwconv.h"
#include "sparse_conv.h"

namespace taco4j {

inline bool is_depthwise(const ConvShape& shape) {
  return shape.groups > 1 && shape.input_channels_per_group() == 1;
}

// For a shape that is_depthwise.
std::unique_ptr<SparseConv> create_depthwise(const f32_dwconv::Kernels& kernels,
                                             const ConvShape& shape, const float* weights,
                                             const float* bias, const Epilogue& epilogue);

}  // namespace taco4j
