#include "sparse_conv.h"

#include <cmath>
#include <cstdlib>
#include <stdexcept>
#include <string>

namespace taco4j {
namespace {

struct Implementation {
  Isa isa;
  SparseConvFactory create;
};

// Best first. An instruction set stands here where it was compiled.
constexpr Implementation kImplementations[] = {
    {Isa::kScalar, create_sparse_conv_scalar},
};

}  // namespace

float activate(const Epilogue& epilogue, float x) {
  // Comparisons are written such that NaN falls through them.
  switch (epilogue.activation) {
    case Activation::kNone:
      return x;
    case Activation::kRelu:
      return x < 0.0f ? 0.0f : x;
    case Activation::kClip:
      x = x < epilogue.minimum ? epilogue.minimum : x;
      return x > epilogue.maximum ? epilogue.maximum : x;
    case Activation::kHardSwish: {
      float gate = x * (1.0f / 6.0f) + 0.5f;
      gate = gate < 0.0f ? 0.0f : gate;
      gate = gate > 1.0f ? 1.0f : gate;
      return x * gate;
    }
    case Activation::kSilu:
      return x * (1.0f / (1.0f + std::exp(-x)));
    case Activation::kGelu:
      return 0.5f * x * (1.0f + std::erf(x * 0.70710678f));
  }
  return x;
}

std::vector<Isa> available_isas() {
  std::vector<Isa> available;
  for (const Implementation& implementation : kImplementations) {
    if (processor_has(implementation.isa)) available.push_back(implementation.isa);
  }
  return available;
}

Isa choose_isa() {
  const std::vector<Isa> available = available_isas();
  const char* forced = std::getenv("TACO4J_ISA");
  if (forced == nullptr || *forced == '\0') return available.front();
  const std::optional<Isa> wanted = isa_of_name(forced);
  std::string names;
  for (Isa isa : available) {
    if (wanted == isa) return isa;
    names += names.empty() ? "" : ", ";
    names += isa_name(isa);
  }
  throw std::invalid_argument("TACO4J_ISA is '" + std::string(forced) +
                              "'; available here: " + names);
}

std::unique_ptr<SparseConv> create_sparse_conv(Isa isa, const ConvShape& shape,
                                               const float* weights, const float* bias,
                                               const Epilogue& epilogue) {
  for (const Implementation& implementation : kImplementations) {
    if (implementation.isa == isa) return implementation.create(shape, weights, bias, epilogue);
  }
  throw std::invalid_argument("no kernels for " + std::string(isa_name(isa)));
}

}  // namespace taco4j
