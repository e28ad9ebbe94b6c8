// Layer normalization over the last axis. It has no zeros to skip; it is here because ONNX Runtime's
// own takes some 17 cycles for each value, which in a pruned vision transformer is more than the
// products.
#pragma once

#include <cstdint>

#include "isa.h"

namespace taco4j {

// y[r, i] = (x[r, i] - mean_r) / sqrt(variance_r + epsilon) * scale[i] + bias[i], with the variance
// of a population. x, y: [rows, size], row-major; y may be x. scale, bias: [size]. size: at least 1.
using LayerNormalization = void (*)(const float* x, const float* scale, const float* bias,
                                    float epsilon, float* y, std::int64_t rows, std::int64_t size);

// The twin that others are tested against: sums are double.
void layer_normalization_scalar(const float* x, const float* scale, const float* bias,
                                float epsilon, float* y, std::int64_t rows, std::int64_t size);

// isa: one of available_isas().
LayerNormalization layer_normalization(Isa isa);

}  // namespace taco4j
