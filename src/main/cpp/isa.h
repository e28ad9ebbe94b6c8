// Instruction sets for which there are kernels, and the choice among them.
#pragma once

#include <optional>
#include <string_view>

namespace taco4j {

enum class Isa { kScalar, kAvx2, kAvx512, kNeon };

// "scalar", "avx2", "avx512" or "neon".
std::string_view isa_name(Isa isa);

// Nothing for a name that is none of the four.
std::optional<Isa> isa_of_name(std::string_view name);

// Whether the processor, and the operating system, run its instructions. Says nothing of whether
// this library was built with kernels for it.
bool processor_has(Isa isa);

}  // namespace taco4j
