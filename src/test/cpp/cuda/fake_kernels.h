// How the fake driver knows the kernels: each generated source includes one .cu and has a
// Registration for each of its kernels.
#pragma once

#include <functional>
#include <map>
#include <string>

#include "cuda_shim.h"

namespace taco4j_fake {

// A launch whose arguments have been read.
using Launch = std::function<void()>;
// Reads the arguments behind cuLaunchKernel's kernelParams.
using Kernel = std::function<Launch(void** parameters, dim3 grid, dim3 block, size_t shared_bytes)>;

inline std::map<std::string, Kernel>& kernels() {
  static std::map<std::string, Kernel> kernels;
  return kernels;
}

struct Registration {
  template <typename... Parameters>
  Registration(const char* name, void (*kernel)(Parameters...)) {
    kernels()[name] = [kernel](void** parameters, dim3 grid, dim3 block, size_t shared_bytes) {
      return bind(kernel, parameters, grid, block, shared_bytes,
                  std::index_sequence_for<Parameters...>());
    };
  }

 private:
  template <typename... Parameters, size_t... I>
  static Launch bind(void (*kernel)(Parameters...), [[maybe_unused]] void** parameters, dim3 grid,
                     dim3 block, size_t shared_bytes, std::index_sequence<I...>) {
    const std::tuple<Parameters...> arguments(*static_cast<Parameters*>(parameters[I])...);
    return [=] {
      taco4j_shim::launch(kernel, grid, block, shared_bytes, std::get<I>(arguments)...);
    };
  }
};

}  // namespace taco4j_fake
