#include "dims.h"

#include <cstddef>

namespace taco4j {

std::string to_string(const Dims& dims) {
  std::string text = "[";
  for (std::size_t i = 0; i < dims.size(); ++i) {
    text += (i == 0 ? "" : ", ") + std::to_string(dims[i]);
  }
  return text + "]";
}

std::int64_t element_count(const Dims& dims) {
  std::int64_t count = 1;
  for (std::int64_t size : dims) count *= size;
  return count;
}

bool broadcasts_to(const Dims& dims, const Dims& target) {
  if (dims.size() > target.size()) return false;
  const std::size_t missing = target.size() - dims.size();
  for (std::size_t i = 0; i < dims.size(); ++i) {
    if (dims[i] != 1 && dims[i] != target[missing + i]) return false;
  }
  return true;
}

template <typename T>
std::vector<T> broadcast(const T* values, const Dims& dims, const Dims& target) {
  // From the last axis to the first: a stride of 0 repeats.
  std::vector<std::int64_t> strides(target.size(), 0);
  std::int64_t stride = 1;
  for (std::size_t i = dims.size(); i-- > 0;) {
    if (dims[i] != 1) strides[target.size() - dims.size() + i] = stride;
    stride *= dims[i];
  }
  std::vector<T> result(static_cast<std::size_t>(element_count(target)));
  std::vector<std::int64_t> position(target.size(), 0);
  std::int64_t from = 0;
  for (T& value : result) {
    value = values[from];
    for (std::size_t axis = target.size(); axis-- > 0;) {
      from += strides[axis];
      if (++position[axis] < target[axis]) break;
      from -= strides[axis] * target[axis];
      position[axis] = 0;
    }
  }
  return result;
}

template std::vector<float> broadcast(const float*, const Dims&, const Dims&);
template std::vector<std::uint8_t> broadcast(const std::uint8_t*, const Dims&, const Dims&);

}  // namespace taco4j
