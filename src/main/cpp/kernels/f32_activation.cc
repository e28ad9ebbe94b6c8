#include "kernels/f32_activation.h"

#include "sparse_conv.h"

namespace taco4j {

VectorEpilogue vector_epilogue(const Epilogue& epilogue) {
  switch (epilogue.activation) {
    case Activation::kNone:
      break;
    case Activation::kRelu:
      return {VectorActivation::kRelu, 0.0f, 0.0f};
    case Activation::kClip:
      return {VectorActivation::kClip, epilogue.minimum, epilogue.maximum};
    case Activation::kHardSwish:
      return {VectorActivation::kHardSwish, 0.0f, 0.0f};
    case Activation::kSilu:
      return {VectorActivation::kSilu, 0.0f, 0.0f};
    case Activation::kGelu:
      return {VectorActivation::kGelu, 0.0f, 0.0f};
  }
  return {VectorActivation::kNone, 0.0f, 0.0f};
}

}  // namespace taco4j
