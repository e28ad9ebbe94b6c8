// Memory that a thread keeps from one run to the next. For the files that drive kernels, which are
// compiled for any processor.
#pragma once

#include <cstddef>
#include <cstdlib>
#include <new>

namespace taco4j {

// Aligned to the widest vectors.
class Scratch {
 public:
  float* floats(std::size_t count) {
    if (count > count_) {
      std::free(data_);
      count_ = 0;
      const std::size_t bytes = (count * sizeof(float) + 4095) / 4096 * 4096;
      data_ = static_cast<float*>(std::aligned_alloc(64, bytes));
      if (data_ == nullptr) throw std::bad_alloc();
      count_ = count;
    }
    return data_;
  }

  Scratch() = default;
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
  ~Scratch() { std::free(data_); }

 private:
  float* data_ = nullptr;
  std::size_t count_ = 0;
};

}  // namespace taco4j
