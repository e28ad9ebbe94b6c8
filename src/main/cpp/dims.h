// Shapes of tensors at the border to ONNX Runtime.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace taco4j {

using Dims = std::vector<std::int64_t>;

// "[1, 64, 56, 56]"
std::string to_string(const Dims& dims);

// Number of elements. The dims are those of a tensor that exists, or have been checked.
std::int64_t element_count(const Dims& dims);

// Whether ONNX's broadcasting turns a tensor of these dims into one of the target's.
bool broadcasts_to(const Dims& dims, const Dims& target);

// The values of a tensor, floats or bytes, broadcast to the target, row-major.
template <typename T>
std::vector<T> broadcast(const T* values, const Dims& dims, const Dims& target);

}  // namespace taco4j
