// What the parts of the fake CUDA share: the driver (fake_driver.cc), which knows the kernels by
// name, and the libraries (fake_cublas.cc, fake_cusolver.cc), which queue work in its streams.
#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <tuple>
#include <utility>

#define TACO4J_FAKE_API extern "C" __attribute__((visibility("default")))

// Queues run(data) in a stream; a run that returns anything but 0 fails the device with that
// CUresult. 0, or the error that the device already has. drop(data) when it is over.
TACO4J_FAKE_API int taco4j_fake_enqueue(void* stream, int (*run)(void* data),
                                        void (*drop)(void* data), void* data);

// Whether all of these bytes are memory of a device.
TACO4J_FAKE_API int taco4j_fake_is_device(const void* pointer, size_t bytes);

namespace taco4j_fake {

// The same for any callable.
template <typename Work>
int enqueue(void* stream, Work work) {
  return taco4j_fake_enqueue(
      stream, [](void* data) -> int { return (*static_cast<Work*>(data))(); },
      [](void* data) { delete static_cast<Work*>(data); }, new Work(std::move(work)));
}

}  // namespace taco4j_fake
