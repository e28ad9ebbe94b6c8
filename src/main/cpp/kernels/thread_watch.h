// Whether there are threads to share work with.
#pragma once

#include <atomic>
#include <thread>

#include "parallel_for.h"

namespace taco4j {

// ONNX Runtime does not say how many threads it has; who runs the tasks shows it. After some runs on
// the calling thread alone, work is not to be cut for others, but every so often, to see whether that
// still holds. For objects that several threads run.
class ThreadWatch {
 public:
  // Whether no other threads are to be expected in a run that could be cut.
  bool caller_is_alone(const ParallelFor& parallel_for) {
    if (parallel_for.single()) return true;
    const unsigned runs = runs_alone_.fetch_add(1, std::memory_order_relaxed);
    return runs >= kRunsAlone && runs % kRunsUntilNextTry != 0;
  }

  // Of a run that is cut: a task tells who runs it.
  class Run {
   public:
    explicit Run(ThreadWatch& watch) : watch_(watch) {}
    void task() {
      if (std::this_thread::get_id() != caller_) helped_.store(true, std::memory_order_relaxed);
    }
    ~Run() {
      if (helped_) watch_.runs_alone_ = 0;
    }
    Run(const Run&) = delete;
    Run& operator=(const Run&) = delete;

   private:
    ThreadWatch& watch_;
    const std::thread::id caller_ = std::this_thread::get_id();
    std::atomic<bool> helped_{false};
  };

 private:
  static constexpr unsigned kRunsAlone = 8;
  static constexpr unsigned kRunsUntilNextTry = 64;

  std::atomic<unsigned> runs_alone_{0};  // cut among threads, or not cut for want of them
};

}  // namespace taco4j
