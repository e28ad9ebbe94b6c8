// Layer normalization, written once on the compiler's vector types, as f32_spconv_vector.h is. A row
// is read three times: it stays in the first-level cache.
#include "f32_layernorm.h"
#include "f32_vector.h"

namespace taco4j::f32_layernorm {
namespace TACO4J_KERNEL_NAMESPACE {
namespace {

using namespace f32_vector::TACO4J_KERNEL_NAMESPACE;

// Sums at the same time, which hides the latency of additions.
constexpr int kSums = 4;

TACO4J_INLINE float total(const Vector (&sums)[kSums]) {
  const Vector sum = (sums[0] + sums[1]) + (sums[2] + sums[3]);
  float result = 0;
  for (int lane = 0; lane < kLanes; ++lane) result += sum[lane];
  return result;
}

// The first n lanes of x; the others are zero.
TACO4J_INLINE Vector first(Vector x, int n) {
  alignas(sizeof(Vector)) float lanes[kLanes];
  store(lanes, x);
  return load_first(lanes, n);
}

void run(const float* x, const float* scale, const float* bias, float epsilon, float* y,
         std::int64_t rows, std::int64_t size) {
  const std::int64_t whole = size / kLanes * kLanes;
  const std::int64_t unrolled = size / (kSums * kLanes) * (kSums * kLanes);
  const int rest = static_cast<int>(size - whole);
  const float count = static_cast<float>(size);
  for (std::int64_t r = 0; r < rows; ++r, x += size, y += size) {
    Vector sums[kSums] = {};
    std::int64_t i = 0;
    for (; i < unrolled; i += kSums * kLanes) {
      for (int s = 0; s < kSums; ++s) sums[s] += load_unaligned(x + i + s * kLanes);
    }
    for (; i < whole; i += kLanes) sums[0] += load_unaligned(x + i);
    if (rest > 0) sums[1] += load_first(x + i, rest);
    const Vector mean = broadcast(total(sums) / count);

    Vector squares[kSums] = {};
    for (i = 0; i < unrolled; i += kSums * kLanes) {
      for (int s = 0; s < kSums; ++s) {
        const Vector off = load_unaligned(x + i + s * kLanes) - mean;
        squares[s] += off * off;
      }
    }
    for (; i < whole; i += kLanes) {
      const Vector off = load_unaligned(x + i) - mean;
      squares[0] += off * off;
    }
    if (rest > 0) {
      const Vector off = first(load_first(x + i, rest) - mean, rest);
      squares[1] += off * off;
    }
    const Vector factor =
        broadcast(1.0f / __builtin_sqrtf(total(squares) / count + epsilon));

    for (i = 0; i < whole; i += kLanes) {
      const Vector normal = (load_unaligned(x + i) - mean) * factor;
      store_unaligned(y + i, normal * load_unaligned(scale + i) + load_unaligned(bias + i));
    }
    if (rest > 0) {
      const Vector normal = (load_first(x + i, rest) - mean) * factor;
      store_first(y + i, normal * load_first(scale + i, rest) + load_first(bias + i, rest), rest);
    }
  }
}

}  // namespace
}  // namespace TACO4J_KERNEL_NAMESPACE
}  // namespace taco4j::f32_layernorm
