// Splits work into tasks that somebody else's threads run: ONNX Runtime's pool, a caller's pool,
// or nobody's, which means one after another on the calling thread.
#pragma once

#include <atomic>
#include <cstddef>
#include <stdexcept>

namespace taco4j {

class ParallelFor {
 public:
  using Task = void (*)(void* task_context, std::size_t index);
  // Calls task(task_context, i) once for each i in [0, count), on any threads in any order, and
  // returns when all calls have returned.
  using Run = void (*)(void* pool, Task task, void* task_context, std::size_t count);

  // One thread.
  ParallelFor() = default;

  // run: null for one thread. pool: handed to run as it is.
  ParallelFor(Run run, void* pool) : run_(run), pool_(pool) {}

  // Known to be the calling thread alone.
  bool single() const { return run_ == nullptr; }

  // Calls body(i) once for each i in [0, count). What a body throws must not cross the pool, which
  // may be C: it is caught there, and this function throws once all calls are over.
  template <typename Body>
  void operator()(std::size_t count, const Body& body) const {
    if (run_ == nullptr || count < 2) {
      for (std::size_t i = 0; i < count; ++i) body(i);
      return;
    }
    struct Call {
      const Body& body;
      std::atomic<bool> failed{false};
    } call{body};
    run_(
        pool_,
        [](void* context, std::size_t index) {
          Call& current = *static_cast<Call*>(context);
          try {
            current.body(index);
          } catch (...) {
            current.failed = true;
          }
        },
        &call, count);
    if (call.failed) throw std::runtime_error("a task of a sparse operator failed: out of memory");
  }

 private:
  Run run_ = nullptr;
  void* pool_ = nullptr;
};

}  // namespace taco4j
