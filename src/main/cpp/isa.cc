#include "isa.h"

#include <array>
#include <utility>

#if defined(__x86_64__)
#include <cpuid.h>
#elif defined(__aarch64__) && defined(__linux__)
#include <asm/hwcap.h>
#include <sys/auxv.h>
#elif defined(__aarch64__) && defined(__APPLE__)
#include <sys/sysctl.h>
#endif

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

bool processor_has_dot_products(Isa isa) {
#if defined(__x86_64__)
  if (!processor_has(isa)) return false;
  if (isa == Isa::kAvx512) return __builtin_cpu_supports("avx512vnni");
  if (isa != Isa::kAvx2) return false;
  // The compiler's run-time does not know AVX-VNNI: CPUID, leaf 7, part 1, bit 4 of EAX.
  unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
  return __get_cpuid_count(7, 1, &eax, &ebx, &ecx, &edx) != 0 && (eax >> 4 & 1) != 0;
#elif defined(__aarch64__) && defined(__linux__)
  return isa == Isa::kNeon && (getauxval(AT_HWCAP) & HWCAP_ASIMDDP) != 0;
#elif defined(__aarch64__) && defined(__APPLE__)
  int has = 0;
  std::size_t size = sizeof has;
  return isa == Isa::kNeon &&
         sysctlbyname("hw.optional.arm.FEAT_DotProd", &has, &size, nullptr, 0) == 0 && has != 0;
#else
  static_cast<void>(isa);
  return false;
#endif
}

bool processor_compresses_bytes() {
#if defined(__x86_64__)
  return processor_has(Isa::kAvx512) && __builtin_cpu_supports("avx512vbmi2");
#else
  return false;
#endif
}

}  // namespace taco4j
