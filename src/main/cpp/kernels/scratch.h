// Memory that a thread keeps from one run to the next. For the files that drive kernels, which are
// compiled for any processor.
#pragma once

#include <cstddef>
#include <cstdlib>
#include <new>
#include <utility>

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
  Scratch(Scratch&& other) noexcept { swap(other); }
  Scratch& operator=(Scratch&& other) noexcept {
    swap(other);
    return *this;
  }
  ~Scratch() { std::free(data_); }

  std::size_t count() const { return count_; }

 private:
  void swap(Scratch& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(count_, other.count_);
  }

  float* data_ = nullptr;
  std::size_t count_ = 0;
};

// A thread's scratch memory for as long as a call that waits for others: a pool may run another call
// on this thread meanwhile, which then finds none and takes its own.
class ScratchLease {
 public:
  explicit ScratchLease(Scratch& of_thread)
      : of_thread_(of_thread), scratch_(std::move(of_thread)) {}
  // The larger of two is kept.
  ~ScratchLease() {
    if (scratch_.count() > of_thread_.count()) of_thread_ = std::move(scratch_);
  }
  ScratchLease(const ScratchLease&) = delete;
  ScratchLease& operator=(const ScratchLease&) = delete;

  // What an earlier call for this lease returned is not valid any more.
  float* floats(std::size_t count) { return scratch_.floats(count); }

 private:
  Scratch& of_thread_;
  Scratch scratch_;
};

}  // namespace taco4j
