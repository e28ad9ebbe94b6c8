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

// Whether it has, with registers of that instruction set, instructions that sum up four products of
// bytes: AVX512-VNNI, AVX-VNNI, or NEON's dot products. They came later than the sets themselves.
bool processor_has_dot_products(Isa isa);

// Whether it has AVX512-VBMI2, which came after AVX512-VNNI: to leave out some bytes of a register.
bool processor_compresses_bytes();

}  // namespace taco4j
