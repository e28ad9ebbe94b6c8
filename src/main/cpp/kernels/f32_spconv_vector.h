// The micro-kernels, written once on the compiler's vector types. Each f32_spconv_<isa>.cc defines
// the namespace and the vector's width and includes this file; compiler flags make the rest.
// Everything here has internal linkage or is in that namespace, because two files compiled for
// different processors must never share an inline function.
//
// What makes them fast, in the order of what it was worth:
// - The panel stays in the first-level cache: 2.5 times the speed of one that stays in the second.
// - All loads of the panel are aligned: 1.7 times with 64-byte vectors, where each other load
//   touches two lines.
// - An entry costs one load per vector and two more, so tiles are as many vectors wide as the
//   cache allows.
// - Rows with as many entries follow one another (the plan sees to it), so that the end of the
//   inner loop is predicted.
#include <cstring>

#include "f32_spconv.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace taco4j::f32_spconv {
namespace TACO4J_KERNEL_NAMESPACE {
namespace {

constexpr int kLanes = TACO4J_KERNEL_LANES;

// Output and input planes are pages apart, which hardware prefetchers do not follow: asked for this
// many channels ahead, 56 x 56 images took 0.7 to 0.8 of the time. Lines are taken to be 64 bytes;
// where they are longer, some are asked for twice.
constexpr std::size_t kRowsAhead = 4;
constexpr int kChannelsAhead = 4;
constexpr int kLineFloats = 16;
constexpr int kEntriesAhead = 256;

typedef float Vector __attribute__((vector_size(kLanes * sizeof(float)), may_alias));
typedef std::int32_t Integers __attribute__((vector_size(kLanes * sizeof(float)), may_alias));
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

// The first n lanes, 0 <= n <= kLanes; the others are zero, and memory behind them is not touched.
#if defined(__AVX512F__)
TACO4J_INLINE Vector load_first(const float* p, int n) {
  return (Vector)_mm512_maskz_loadu_ps(static_cast<__mmask16>((1u << n) - 1), p);
}
TACO4J_INLINE void store_first(float* p, Vector x, int n) {
  _mm512_mask_storeu_ps(p, static_cast<__mmask16>((1u << n) - 1), (__m512)x);
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
#else
TACO4J_INLINE Vector load_first(const float* p, int n) {
  Vector x{};
  std::memcpy(&x, p, static_cast<std::size_t>(n) * sizeof(float));
  return x;
}
TACO4J_INLINE void store_first(float* p, Vector x, int n) {
  std::memcpy(p, &x, static_cast<std::size_t>(n) * sizeof(float));
}
#endif

#if TACO4J_KERNEL_LANES == 16
#define TACO4J_SHIFTED 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16
#define TACO4J_EVEN 0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30
#elif TACO4J_KERNEL_LANES == 8
#define TACO4J_SHIFTED 1, 2, 3, 4, 5, 6, 7, 8
#define TACO4J_EVEN 0, 2, 4, 6, 8, 10, 12, 14
#else
#define TACO4J_SHIFTED 1, 2, 3, 4
#define TACO4J_EVEN 0, 2, 4, 6
#endif

// Lanes 1 to the end of `current`, then lane 0 of `next`.
TACO4J_INLINE Vector shift_in(Vector current, Vector next) {
  return __builtin_shufflevector(current, next, TACO4J_SHIFTED);
}
TACO4J_INLINE Vector even_lanes(Vector low, Vector high) {
  return __builtin_shufflevector(low, high, TACO4J_EVEN);
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
  const Integers scale = ((Integers)shifted + 127) << 23;
  return power * (Vector)scale;
}

// Abramowitz and Stegun, Handbook of Mathematical Functions, 7.1.26: within 1.5e-7.
TACO4J_INLINE Vector error_function(Vector x) {
  const Vector magnitude = x < Vector{} ? -x : x;
  const Vector t = broadcast(1.0f) / (broadcast(0.3275911f) * magnitude + broadcast(1.0f));
  constexpr float kTerms[] = {-1.453152027f, 1.421413741f, -0.284496736f, 0.254829592f};
  Vector sum = broadcast(1.061405429f);
  for (const float term : kTerms) sum = sum * t + broadcast(term);
  const Vector result = broadcast(1.0f) - sum * t * exponential(-(x * x));
  return x < Vector{} ? -result : result;
}

template <int kCount>
TACO4J_INLINE void activate(const TileArgs& a, Vector* x) {
  const Vector one = broadcast(1.0f);
  switch (a.activation) {
    case VectorActivation::kNone:
      return;
    case VectorActivation::kClip: {
      const Vector minimum = broadcast(a.minimum);
      const Vector maximum = broadcast(a.maximum);
#pragma GCC unroll 16
      for (int v = 0; v < kCount; ++v) x[v] = clip(x[v], minimum, maximum);
      return;
    }
    case VectorActivation::kHardSwish:
#pragma GCC unroll 16
      for (int v = 0; v < kCount; ++v) {
        x[v] *= clip(x[v] * broadcast(1.0f / 6.0f) + broadcast(0.5f), Vector{}, one);
      }
      return;
    case VectorActivation::kSilu:
#pragma GCC unroll 16
      for (int v = 0; v < kCount; ++v) x[v] *= one / (one + exponential(-x[v]));
      return;
    case VectorActivation::kGelu:
#pragma GCC unroll 16
      for (int v = 0; v < kCount; ++v) {
        x[v] *= broadcast(0.5f) * (one + error_function(x[v] * broadcast(0.70710678f)));
      }
      return;
  }
}

// Residual and activation, and the store. x: kVectors, bias included. output, residual: the place
// of the tile's first pixel; residual may be null, or output itself.
template <int kVectors>
TACO4J_INLINE void finish(const TileArgs& a, Vector* x, float* output, const float* residual) {
  const Segment* segments = a.segments;
  if (a.segments_are_vectors) {
    if (residual != nullptr) {
#pragma GCC unroll 16
      for (int v = 0; v < kVectors; ++v) {
        const float* from = residual + segments[v].destination;
        x[v] += segments[v].length == kLanes ? load_unaligned(from)
                                             : load_first(from, segments[v].length);
      }
    }
    activate<kVectors>(a, x);
#pragma GCC unroll 16
    for (int v = 0; v < kVectors; ++v) {
      float* to = output + segments[v].destination;
      if (segments[v].length == kLanes) {
        store_unaligned(to, x[v]);
      } else {
        store_first(to, x[v], segments[v].length);
      }
    }
    return;
  }
  // Rows that are shorter than a vector, or do not begin with one. A vector more, because segments
  // are read as whole vectors.
  alignas(sizeof(Vector)) float flat[(kVectors + 1) * kLanes];
#pragma GCC unroll 16
  for (int v = 0; v < kVectors; ++v) store(flat + v * kLanes, x[v]);
  store(flat + kVectors * kLanes, Vector{});
  for (int s = 0; s < a.segment_count; ++s) {
    const Segment& segment = segments[s];
    Vector sum = load_unaligned(flat + segment.source);
    if (residual != nullptr) sum += load_first(residual + segment.destination, segment.length);
    activate<1>(a, &sum);
    store_first(output + segment.destination, sum, segment.length);
  }
}

// For writing: results of this row block will come there.
template <int kRows>
TACO4J_INLINE void prefetch_output(const TileArgs& a, std::uint32_t block) {
  if ((block & kLast) == 0) return;
  for (int r = 0; r < kRows; ++r) {
    const std::int64_t start = static_cast<std::int64_t>((block >> 2) * kRows + r) * a.plane;
    for (int s = 0; s < a.segment_count; s += a.segments_a_line) {
      __builtin_prefetch(a.output + start + a.segments[s].destination, 1);
      if (a.residual != nullptr) {
        __builtin_prefetch(a.residual + start + a.segments[s].destination, 0);
      }
    }
  }
}

// Adds an entry: its weights, one for each row, times the pixels at x.
template <int kVectors, int kRows>
TACO4J_INLINE void multiply(Vector (&sums)[kRows][kVectors], const float* weights,
                            const float* x) {
  if constexpr (kRows == 1) {
    const Vector weight = broadcast(*weights);
#pragma GCC unroll 16
    for (int v = 0; v < kVectors; ++v) sums[0][v] += weight * load(x + v * kLanes);
  } else {
    Vector pixels[kVectors];
#pragma GCC unroll 16
    for (int v = 0; v < kVectors; ++v) pixels[v] = load(x + v * kLanes);
#pragma GCC unroll 4
    for (int r = 0; r < kRows; ++r) {
      const Vector weight = broadcast(weights[r]);
#pragma GCC unroll 16
      for (int v = 0; v < kVectors; ++v) sums[r][v] += weight * pixels[v];
    }
  }
}

// kVectors: of the tile. kRows: output channels of a row block. kShifted: more than one group.
template <int kVectors, int kRows, bool kShifted>
void tile(const TileArgs& a) {
  const std::uint32_t* counts = a.rows.counts;
  const float* weights = a.rows.weights;
  const std::uint16_t* offsets = a.rows.offsets;
  const float* const panel = a.panel;
  for (std::size_t i = 0; i < a.rows.size; ++i) {
    if (i + kRowsAhead < a.rows.size) {
      prefetch_output<kRows>(a, a.rows.blocks[i + kRowsAhead]);
    }
    const std::uint32_t flags = a.rows.blocks[i];
    const std::size_t row = static_cast<std::size_t>(flags >> 2) * kRows;
    float* const partial = a.partial_sums + row * (kVectors * kLanes);
    Vector sums[kRows][kVectors] = {};
    for (int group = kShifted ? a.groups - 1 : 0;; --group) {
      if (group == 0 && (flags & kFirst) == 0) {
#pragma GCC unroll 4
        for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 16
          for (int v = 0; v < kVectors; ++v) {
            const Vector before = load(partial + (r * kVectors + v) * kLanes);
            sums[r][v] = kShifted ? sums[r][v] + before : before;
          }
        }
      }
      // Four offsets at once, because loads are what an entry waits for.
      const std::uint32_t count = *counts++;
      const std::uint16_t* const end = offsets + count;
      for (const std::uint16_t* fours = offsets + (count & ~3u); offsets != fours; offsets += 4) {
        std::uint64_t four;
        std::memcpy(&four, offsets, sizeof four);
#pragma GCC unroll 4
        for (int e = 0; e < 4; ++e) {
          multiply(sums, weights + e * kRows, panel + (four >> (16 * e) & 0xffff));
        }
        // All weights of a network do not stay in any cache from one image to the next.
        __builtin_prefetch(weights + kEntriesAhead * kRows, 0);
        __builtin_prefetch(offsets + kEntriesAhead, 0);
        weights += 4 * kRows;
      }
      for (; offsets != end; ++offsets) {
        multiply(sums, weights, panel + *offsets);
        weights += kRows;
      }
      if (group == 0) break;
      // What has been summed so far is meant for the pixel to the left.
#pragma GCC unroll 4
      for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 16
        for (int v = 0; v < kVectors; ++v) {
          sums[r][v] = shift_in(sums[r][v], v + 1 < kVectors ? sums[r][v + 1] : Vector{});
        }
      }
    }
    if ((flags & kLast) == 0) {
#pragma GCC unroll 4
      for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 16
        for (int v = 0; v < kVectors; ++v) {
          store(partial + (r * kVectors + v) * kLanes, sums[r][v]);
        }
      }
      continue;
    }
#pragma GCC unroll 4
    for (int r = 0; r < kRows; ++r) {
      const Vector bias = broadcast(a.bias[row + r]);
#pragma GCC unroll 16
      for (int v = 0; v < kVectors; ++v) sums[r][v] += bias;
      const std::int64_t start = static_cast<std::int64_t>(row + r) * a.plane;
      finish<kVectors>(a, sums[r], a.output + start,
                       a.residual == nullptr ? nullptr : a.residual + start);
    }
  }
}

template <int kVectors, int kRows>
void tile(const TileArgs& a) {
  if (a.groups == 1) {
    tile<kVectors, kRows, false>(a);
  } else {
    tile<kVectors, kRows, true>(a);
  }
}

// The first `count` of pixels that lie `stride` apart; other lanes are zero.
TACO4J_INLINE Vector gather(const float* source, int count, int stride) {
  if (stride == 1) return count >= kLanes ? load_unaligned(source) : load_first(source, count);
  if (stride == 2) {
    const int floats = 2 * (count < kLanes ? count : kLanes) - 1;
    const Vector low =
        floats < kLanes ? load_first(source, floats) : load_unaligned(source);
    const Vector high =
        floats > kLanes ? load_first(source + kLanes, floats - kLanes) : Vector{};
    return even_lanes(low, high);
  }
  Vector x{};
  for (int lane = 0; lane < kLanes && lane < count; ++lane) {
    x[lane] = source[static_cast<std::int64_t>(lane) * stride];
  }
  return x;
}

TACO4J_INLINE void prefetch_input(const PackArgs& a, const float* plane) {
  for (int r = 0; r < a.row_count; ++r) {
    const float* start = plane + a.rows[r].source;
    const std::int64_t floats = static_cast<std::int64_t>(a.rows[r].count) * a.stride;
    for (std::int64_t i = 0; i < floats; i += kLineFloats) __builtin_prefetch(start + i, 0);
  }
}

// Whole vectors are stored; what that writes too far is zero, or is written again by the next row.
void pack(const PackArgs& a) {
  for (int channel = 0; channel < a.channels; ++channel) {
    const float* plane = a.input + channel * a.plane;
    if (channel + kChannelsAhead < a.channels) {
      prefetch_input(a, plane + kChannelsAhead * a.plane);
    }
    float* part = a.panel + static_cast<std::int64_t>(channel) * a.channel_stride;
    for (int r = 0; r < a.row_count; ++r) {
      const PackRow& row = a.rows[r];
      float* destination = part + row.destination;
      for (int i = 0; i < row.zeros_before; i += kLanes) store_unaligned(destination + i, Vector{});
      destination += row.zeros_before;
      const float* source = plane + row.source;
      for (int i = 0; i < row.count; i += kLanes) {
        store_unaligned(destination + i,
                        gather(source + static_cast<std::int64_t>(i) * a.stride, row.count - i,
                               a.stride));
      }
      destination += row.count;
      for (int i = 0; i < row.zeros_after; i += kLanes) store_unaligned(destination + i, Vector{});
    }
  }
}

}  // namespace
}  // namespace TACO4J_KERNEL_NAMESPACE
}  // namespace taco4j::f32_spconv
