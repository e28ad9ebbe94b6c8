#include "isa.h"

#include <array>
#include <utility>

namespace taco4j {
namespace {

constexpr std::array<std::pair<Isa, std::string_view>, 4> kNames{{
    {Isa::kScalar, "scalar"},
    {Isa::kAvx2, "avx2"},
    {Isa::kAvx512, "avx512"},
    {Isa::kNeon, "neon"},
}};

}  // namespace

std::string_view isa_name(Isa isa) {
  for (const auto& [value, name] : kNames) {
    if (value == isa) return name;
  }
  return "unknown";
}

std::optional<Isa> isa_of_name(std::string_view name) {
  for (const auto& [value, known] : kNames) {
    if (known == name) return value;
  }
  return std::nullopt;
}

bool processor_has(Isa isa) {
#if defined(__x86_64__)
  // The compiler's run-time looks at XCR0 too: whether the operating system keeps the registers.
  __builtin_cpu_init();
  switch (isa) {
    case Isa::kScalar:
      return true;
    case Isa::kAvx2:
      return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    case Isa::kAvx512:
      return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
             __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512bw");
    case Isa::kNeon:
      return false;
  }
  return false;
#elif defined(__aarch64__)
  // Part of the base architecture there.
  return isa == Isa::kScalar || isa == Isa::kNeon;
#else
  return isa == Isa::kScalar;
#endif
}

}  // namespace taco4j
