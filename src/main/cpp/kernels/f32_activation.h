// What vector kernels do to finished sums. Plain data, as kernels are compiled for other processors
// than the rest.
#pragma once

namespace taco4j {

struct Epilogue;

enum class VectorActivation { kNone, kRelu, kClip, kHardSwish, kSilu, kGelu };

struct VectorEpilogue {
  VectorActivation activation;
  float minimum;  // kClip
  float maximum;
};

VectorEpilogue vector_epilogue(const Epilogue& epilogue);

}  // namespace taco4j
