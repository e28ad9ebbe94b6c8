// Vectors of float32 and what is done with them, for the micro-kernels of one instruction set: a
// file defines the namespace and the vector's width and includes this. Everything here has internal
// linkage or is in that namespace, because two files compiled for different processors must never
// share an inline function.
#pragma once

#include <cstdint>
#include <cstring>
#include <utility>

#include "f32_activation.h"

#if defined(__x86_64__)
// GCC 12 takes the undefined vectors within some AVX-512 intrinsics for a mistake of ours.
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#include <immintrin.h>
#pragma GCC diagnostic pop
#endif

namespace taco4j::f32_vector {
namespace TACO4J_KERNEL_NAMESPACE {
namespace {

constexpr int kLanes = TACO4J_KERNEL_LANES;

typedef float Vector __attribute__((vector_size(kLanes * sizeof(float)), may_alias));
typedef std::int32_t Integers __attribute__((vector_size(kLanes * sizeof(float)), may_alias));
typedef std::uint32_t Unsigned __attribute__((vector_size(kLanes * sizeof(float)), may_alias));
typedef float UnalignedVector
    __attribute__((vector_size(kLanes * sizeof(float)), may_alias, aligned(alignof(float))));

#define TACO4J_INLINE inline __attribute__((always_inline))

TACO4J_INLINE Vector broadcast(float x) { return x - Vector{}; }
TACO4J_INLINE Vector load(const float* p) { return *reinterpret_cast<const Vector*>(p); }
TACO4J_INLINE Vector load_unaligned(const float* p) {
  return *reinterpret_cast<const UnalignedVector*>(p);
}
TACO4J_INLINE void store(float* p, Vector x) { *reinterpret_cast<Vector*>(p) = x; }
TACO4J_INLINE void store_unaligned(float* p, Vector x) {
  *reinterpret_cast<UnalignedVector*>(p) = x;
}

// The first n lanes, 0 <= n <= kLanes, or those whose bits are set; the others are zero, and their
// memory is not touched.
#if defined(__AVX512F__)
TACO4J_INLINE Vector load_first(const float* p, int n) {
  return (Vector)_mm512_maskz_loadu_ps(static_cast<__mmask16>((1u << n) - 1), p);
}
TACO4J_INLINE void store_first(float* p, Vector x, int n) {
  _mm512_mask_storeu_ps(p, static_cast<__mmask16>((1u << n) - 1), (__m512)x);
}
TACO4J_INLINE Vector load_lanes(const float* p, std::uint32_t lanes) {
  return (Vector)_mm512_maskz_loadu_ps(static_cast<__mmask16>(lanes), p);
}
#elif defined(__AVX2__)
TACO4J_INLINE __m256i first_lanes(int n) {
  return _mm256_cmpgt_epi32(_mm256_set1_epi32(n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}
TACO4J_INLINE Vector load_first(const float* p, int n) {
  return (Vector)_mm256_maskload_ps(p, first_lanes(n));
}
TACO4J_INLINE void store_first(float* p, Vector x, int n) {
  _mm256_maskstore_ps(p, first_lanes(n), (__m256)x);
}
TACO4J_INLINE Vector load_lanes(const float* p, std::uint32_t lanes) {
  const __m256i bits = _mm256_setr_epi32(1, 2, 4, 8, 16, 32, 64, 128);
  const __m256i mask = _mm256_and_si256(_mm256_set1_epi32(static_cast<int>(lanes)), bits);
  return (Vector)_mm256_maskload_ps(p, _mm256_cmpeq_epi32(mask, bits));
}
#else
TACO4J_INLINE Vector load_first(const float* p, int n) {
  Vector x{};
  std::memcpy(&x, p, static_cast<std::size_t>(n) * sizeof(float));
  return x;
}
TACO4J_INLINE void store_first(float* p, Vector x, int n) {
  std::memcpy(p, &x, static_cast<std::size_t>(n) * sizeof(float));
}
TACO4J_INLINE Vector load_lanes(const float* p, std::uint32_t lanes) {
  if (lanes == (1u << kLanes) - 1) return load_unaligned(p);
  Vector x{};
  for (int lane = 0; lane < kLanes; ++lane) {
    if ((lanes >> lane & 1) != 0) x[lane] = p[lane];
  }
  return x;
}
#endif

#if TACO4J_KERNEL_LANES == 16
#define TACO4J_SHIFTED 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16
#define TACO4J_EVEN 0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30
#define TACO4J_ODD 1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31
#elif TACO4J_KERNEL_LANES == 8
#define TACO4J_SHIFTED 1, 2, 3, 4, 5, 6, 7, 8
#define TACO4J_EVEN 0, 2, 4, 6, 8, 10, 12, 14
#define TACO4J_ODD 1, 3, 5, 7, 9, 11, 13, 15
#else
#define TACO4J_SHIFTED 1, 2, 3, 4
#define TACO4J_EVEN 0, 2, 4, 6
#define TACO4J_ODD 1, 3, 5, 7
#endif

// Lanes 1 to the end of `current`, then lane 0 of `next`.
TACO4J_INLINE Vector shift_in(Vector current, Vector next) {
  return __builtin_shufflevector(current, next, TACO4J_SHIFTED);
}
TACO4J_INLINE Vector even_lanes(Vector low, Vector high) {
  return __builtin_shufflevector(low, high, TACO4J_EVEN);
}
TACO4J_INLINE Vector odd_lanes(Vector low, Vector high) {
  return __builtin_shufflevector(low, high, TACO4J_ODD);
}

// Lanes by their numbers: those of b follow those of a.
template <int... kIndex>
TACO4J_INLINE Vector shuffle(Vector a, Vector b, std::integer_sequence<int, kIndex...>) {
#if defined(__clang__)
  return __builtin_shufflevector(a, b, kIndex...);
#else
  typedef std::int32_t Indices __attribute__((vector_size(kLanes * sizeof(float))));
  return __builtin_shuffle(a, b, Indices{kIndex...});
#endif
}

// NaN stays: comparisons with it are false.
TACO4J_INLINE Vector clip(Vector x, Vector minimum, Vector maximum) {
  x = x < minimum ? minimum : x;
  return x > maximum ? maximum : x;
}

// e to the x, to 2 units in the last place, from -87 (below, the value there) to 88.4 (above,
// infinity). 2^n e^r with |r| <= ln(2) / 2; e^r is its Taylor series, whose next term is below
// 6e-9.
TACO4J_INLINE Vector exponential(Vector x) {
  x = clip(x, broadcast(-87.0f), broadcast(89.0f));
  // Adding 1.5 * 2^23 leaves the nearest whole number in the last bits.
  const Vector round = broadcast(12582912.0f);
  const Vector shifted = x * broadcast(1.44269504f) + round;
  const Vector n = shifted - round;
  // ln(2) in two parts, of which n times the first is exact.
  const Vector r = (x - n * broadcast(0.693145752f)) - n * broadcast(1.42860677e-6f);
  constexpr float kTerms[] = {1.0f / 720.0f, 1.0f / 120.0f, 1.0f / 24.0f, 1.0f / 6.0f,
                              0.5f,          1.0f,          1.0f};
  Vector power = broadcast(1.0f / 5040.0f);
  for (const float term : kTerms) power = power * r + broadcast(term);
  // n + 127 in the exponent's bits; those of 1.5 * 2^23 above them fall out on the left.
  // NaN's overflow, which only numbers without a sign may.
  const Unsigned scale = ((Unsigned)shifted + 127) << 23;
  return power * (Vector)scale;
}

// x P(x^2) / Q(x^2), within 4e-7. The terms are a least-squares fit to erf on [0, 3.9], with
// weights that level its error (1.5e-8 before rounding); from there on erf is 1 to rounding.
TACO4J_INLINE Vector error_function(Vector x) {
  constexpr float kP[] = {2.87435541e-4f, 3.83632281e-3f, 5.29652052e-2f, 0.191929400f,
                          1.12837899f};
  constexpr float kQ[] = {1.18158234e-3f, 1.51081132e-2f, 0.114753239f, 0.503424764f, 1.0f};
  const Vector square = x * x;
  Vector p = broadcast(2.05035940e-6f);
  Vector q = broadcast(3.82293074e-5f);
  for (const float term : kP) p = p * square + broadcast(term);
  for (const float term : kQ) q = q * square + broadcast(term);
  const Vector one = broadcast(1.0f);
  const Vector end = broadcast(3.9f);
  const Vector result = x * p / q;
  return x > end ? one : x < -end ? -one : result;
}

TACO4J_INLINE Vector activate(const VectorEpilogue& a, Vector x) {
  const Vector one = broadcast(1.0f);
  switch (a.activation) {
    case VectorActivation::kNone:
      return x;
    case VectorActivation::kRelu:
      return x < Vector{} ? Vector{} : x;
    case VectorActivation::kClip:
      return clip(x, broadcast(a.minimum), broadcast(a.maximum));
    case VectorActivation::kHardSwish:
      return x * clip(x * broadcast(1.0f / 6.0f) + broadcast(0.5f), Vector{}, one);
    case VectorActivation::kSilu:
      return x * (one / (one + exponential(-x)));
    case VectorActivation::kGelu:
      return x * (broadcast(0.5f) * (one + error_function(x * broadcast(0.70710678f))));
  }
  return x;
}

// The rarer ones, apart: with them the loop over rows would not keep its pointers in registers.
[[maybe_unused]] __attribute__((noinline)) void activate_all(const VectorEpilogue& a, float* x,
                                                             int vectors) {
  for (int v = 0; v < vectors; ++v) store(x + v * kLanes, activate(a, load(x + v * kLanes)));
}

template <int kCount>
TACO4J_INLINE void activate(const VectorEpilogue& a, Vector* x) {
  if (a.activation == VectorActivation::kRelu) {
#pragma GCC unroll 16
    for (int v = 0; v < kCount; ++v) x[v] = x[v] < Vector{} ? Vector{} : x[v];
  } else if (a.activation == VectorActivation::kClip) {
    const Vector minimum = broadcast(a.minimum);
    const Vector maximum = broadcast(a.maximum);
#pragma GCC unroll 16
    for (int v = 0; v < kCount; ++v) x[v] = clip(x[v], minimum, maximum);
  } else if (a.activation != VectorActivation::kNone) {
    alignas(sizeof(Vector)) float memory[kCount * kLanes];
#pragma GCC unroll 16
    for (int v = 0; v < kCount; ++v) store(memory + v * kLanes, x[v]);
    activate_all(a, memory, kCount);
#pragma GCC unroll 16
    for (int v = 0; v < kCount; ++v) x[v] = load(memory + v * kLanes);
  }
}

}  // namespace
}  // namespace TACO4J_KERNEL_NAMESPACE
}  // namespace taco4j::f32_vector
