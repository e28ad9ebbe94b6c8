// The micro-kernels, written once on the compiler's vector types. Each f32_spconv_<isa>.cc defines
// the namespace and the vector's width and includes this file; compiler flags make the rest.
// Everything here has internal linkage or is in that namespace, because two files compiled for
// different processors must never share an inline function.
//
// What makes them fast, in the order of what it was worth:
// - The panel stays in the first-level cache: 2.5 times the speed of one that stays in the second.
// - All loads of the panel are aligned: 1.7 times with 64-byte vectors, where each other load
//   touches two lines.
// - Rows with as many entries follow one another (the plan sees to it), so that the end of the
//   inner loop is predicted.
// - Tiles of six vectors or fewer have two sets of sums: 1.45 times the speed with 4 vectors.
// - Little else is done for a row: results of tiles that lie as the output does are stored without
//   a look at where they go, and rarer activations stand apart: 55 -> 25 cycles for a row of 12
//   vectors, 23 -> 12 for one of 4.
// - Panels are packed by a table of masked loads, one for each vector: half the time of packing
//   3x3 kernels row by row, with zeros before and after.
// An entry costs a load for each vector and half a load more, of which there are two in a cycle:
// that, and not the products, is the limit of unstructured kernels.
#include <cstring>

#include "f32_spconv.h"
#include "f32_vector.h"

namespace taco4j::f32_spconv {
namespace TACO4J_KERNEL_NAMESPACE {
namespace {

using namespace f32_vector::TACO4J_KERNEL_NAMESPACE;

// Input planes are pages apart, which hardware prefetchers do not follow: asking for this many
// channels ahead is worth 3 to 5 % of ResNet-50. Lines are taken to be 64 bytes; where they are
// longer, some are asked for twice. To ask for the places of results, too, costs more than it saves.
constexpr int kChannelsAhead = 4;
// All weights of a network do not stay in any cache from one image to the next.
constexpr int kEntriesAhead = 768;

// Residual and activation, and the store, where vector v of the tile holds segment v: the segments
// but the last are stored as whole vectors, and what that writes too far the next one writes again.
// x: kVectors, bias included. output, residual: the place of the tile's first pixel; residual may
// be null, or output itself.
template <int kVectors, bool kFlat>
TACO4J_INLINE void finish_vectors(const TileArgs& a, Vector* x, float* output,
                                  const float* residual) {
  // One row of pixels needs no look at the segments: 2 cycles for each vector.
  const auto destination = [&a](int v) -> std::int64_t {
    return kFlat ? v * kLanes : a.segments[v].destination;
  };
  const std::int64_t last = destination(kVectors - 1);
  const int length = a.last_length;
  if (residual != nullptr) {
#pragma GCC unroll 16
    for (int v = 0; v + 1 < kVectors; ++v) x[v] += load_unaligned(residual + destination(v));
    x[kVectors - 1] += length == kLanes ? load_unaligned(residual + last)
                                        : load_first(residual + last, length);
  }
  activate<kVectors>(a.epilogue, x);
#pragma GCC unroll 16
  for (int v = 0; v + 1 < kVectors; ++v) store_unaligned(output + destination(v), x[v]);
  if (length == kLanes) {
    store_unaligned(output + last, x[kVectors - 1]);
  } else {
    store_first(output + last, x[kVectors - 1], length);
  }
}

// The same for rows that are shorter than a vector, or do not begin with one.
__attribute__((noinline)) void finish_segments(const TileArgs& a, const float* flat, float* output,
                                               const float* residual) {
  for (int s = 0; s < a.segment_count; ++s) {
    const Segment& segment = a.segments[s];
    Vector sum = load_unaligned(flat + segment.source);
    if (residual != nullptr) sum += load_first(residual + segment.destination, segment.length);
    store_first(output + segment.destination, activate(a.epilogue, sum), segment.length);
  }
}

// Four weights, repeated over the whole vector, and one of them in all lanes: a load for four
// entries instead of one for each.
#if defined(__AVX512F__)
TACO4J_INLINE Vector load_four(const float* p) {
  return (Vector)_mm512_broadcast_f32x4(_mm_loadu_ps(p));
}
template <int kIndex>
TACO4J_INLINE Vector one_of_four(Vector x) {
  return (Vector)_mm512_permute_ps((__m512)x, kIndex * 0x55);
}
#elif defined(__AVX2__)
TACO4J_INLINE Vector load_four(const float* p) {
  return (Vector)_mm256_broadcast_ps(reinterpret_cast<const __m128*>(p));
}
template <int kIndex>
TACO4J_INLINE Vector one_of_four(Vector x) {
  return (Vector)_mm256_permute_ps((__m256)x, kIndex * 0x55);
}
#else
TACO4J_INLINE Vector load_four(const float* p) { return load_unaligned(p); }
template <int kIndex>
TACO4J_INLINE Vector one_of_four(Vector x) {
  return __builtin_shufflevector(x, x, kIndex, kIndex, kIndex, kIndex);
}
#endif

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

template <int kVectors>
TACO4J_INLINE void multiply(Vector (&sums)[kVectors], Vector weight, const float* x) {
#pragma GCC unroll 16
  for (int v = 0; v < kVectors; ++v) sums[v] += weight * load(x + v * kLanes);
}

// Products wait 4 cycles for the one before, and 2 begin in each: fewer than 8 sums leave some to
// be begun. Narrow tiles have two sets of sums: 1.45 times as fast with 4 vectors.
template <int kVectors, int kRows>
inline constexpr int kSets = kVectors * kRows < 7 ? 2 : 1;

// kVectors: of the tile. kRows: output channels of a row block. kShifted: more than one group.
template <int kVectors, int kRows, bool kShifted>
void tile(const TileArgs& a) {
  constexpr int kOther = kSets<kVectors, kRows> - 1;
  const std::uint32_t* counts = a.rows.counts;
  const float* weights = a.rows.weights;
  const std::uint16_t* offsets = a.rows.offsets;
  const float* const panel = a.panel;
  for (std::size_t i = 0; i < a.rows.size; ++i) {
    const std::uint32_t flags = a.rows.blocks[i];
    const std::size_t row = static_cast<std::size_t>(flags >> 2) * kRows;
    Vector sums[kOther + 1][kRows][kVectors] = {};
    for (int group = kShifted ? a.groups - 1 : 0;; --group) {
      if (group == 0) {
        if ((flags & kFirst) == 0) {
          const float* const partial = a.partial_sums + row * (kVectors * kLanes);
#pragma GCC unroll 4
          for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 16
            for (int v = 0; v < kVectors; ++v) {
              const Vector before = load(partial + (r * kVectors + v) * kLanes);
              sums[0][r][v] = kShifted ? sums[0][r][v] + before : before;
            }
          }
        } else {
#pragma GCC unroll 4
          for (int r = 0; r < kRows; ++r) {
            const Vector bias = broadcast(a.bias[row + r]);
#pragma GCC unroll 16
            for (int v = 0; v < kVectors; ++v) {
              sums[0][r][v] = kShifted ? sums[0][r][v] + bias : bias;
            }
          }
        }
      }
      const std::uint32_t count = *counts++;
      // Four offsets and weights at once, because loads are what an entry waits for.
      const auto add_four = [&]() __attribute__((always_inline)) {
        std::uint64_t four;
        std::memcpy(&four, offsets, sizeof four);
        if constexpr (kRows == 1) {
          const Vector w = load_four(weights);
          multiply(sums[0][0], one_of_four<0>(w), panel + (four & 0xffff));
          multiply(sums[kOther][0], one_of_four<1>(w), panel + (four >> 16 & 0xffff));
          multiply(sums[0][0], one_of_four<2>(w), panel + (four >> 32 & 0xffff));
          multiply(sums[kOther][0], one_of_four<3>(w), panel + (four >> 48));
        } else {
#pragma GCC unroll 4
          for (int e = 0; e < 4; ++e) {
            multiply(sums[e & kOther], weights + e * kRows, panel + (four >> (16 * e) & 0xffff));
          }
        }
        offsets += 4;
        weights += 4 * kRows;
      };
      const auto fetch_ahead = [&]() __attribute__((always_inline)) {
        __builtin_prefetch(weights + kEntriesAhead * kRows, 0);
        __builtin_prefetch(offsets + kEntriesAhead, 0);
      };
      // Several groups are multiples of four mostly: one loop, and branches that are never taken.
      constexpr std::uint32_t kUnrolled = kShifted ? 4 : 8;
      for (const std::uint16_t* const end = offsets + count / kUnrolled * kUnrolled;
           offsets != end;) {
        fetch_ahead();
        add_four();
        if constexpr (kUnrolled == 8) add_four();
      }
      if (kUnrolled == 8 && (count & 4) != 0) add_four();
      if ((count & 2) != 0) {
        multiply(sums[0], weights, panel + offsets[0]);
        multiply(sums[kOther], weights + kRows, panel + offsets[1]);
        weights += 2 * kRows;
        offsets += 2;
      }
      if ((count & 1) != 0) {
        multiply(sums[0], weights, panel + *offsets++);
        weights += kRows;
      }
      if constexpr (kOther == 1) {
#pragma GCC unroll 4
        for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 16
          for (int v = 0; v < kVectors; ++v) {
            sums[0][r][v] += sums[1][r][v];
            if (kShifted) sums[1][r][v] = Vector{};
          }
        }
      }
      if (group == 0) break;
      // What has been summed so far is meant for the pixel to the left.
#pragma GCC unroll 4
      for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 16
        for (int v = 0; v < kVectors; ++v) {
          sums[0][r][v] =
              shift_in(sums[0][r][v], v + 1 < kVectors ? sums[0][r][v + 1] : Vector{});
        }
      }
    }
    if ((flags & kLast) == 0) {
      float* const partial = a.partial_sums + row * (kVectors * kLanes);
#pragma GCC unroll 4
      for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 16
        for (int v = 0; v < kVectors; ++v) {
          store(partial + (r * kVectors + v) * kLanes, sums[0][r][v]);
        }
      }
      continue;
    }
#pragma GCC unroll 4
    for (int r = 0; r < kRows; ++r) {
      const std::int64_t start = static_cast<std::int64_t>(row + r) * a.plane;
      float* const output = a.output + start;
      const float* const residual = a.residual == nullptr ? nullptr : a.residual + start;
      if (a.finish == Finish::kFlat) {
        finish_vectors<kVectors, true>(a, sums[0][r], output, residual);
      } else if (a.finish == Finish::kVectors) {
        finish_vectors<kVectors, false>(a, sums[0][r], output, residual);
      } else {
        // A vector more, because segments are read as whole vectors.
        alignas(sizeof(Vector)) float flat[(kVectors + 1) * kLanes];
#pragma GCC unroll 16
        for (int v = 0; v < kVectors; ++v) store(flat + v * kLanes, sums[0][r][v]);
        store(flat + kVectors * kLanes, Vector{});
        finish_segments(a, flat, output, residual);
      }
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

// The pixels of a piece, which lie `stride` apart; other lanes are zero, and their memory is not
// touched.
template <int kStride>
TACO4J_INLINE Vector gather(const float* source, std::uint32_t floats, int stride) {
  if constexpr (kStride == 1) {
    return load_lanes(source, floats);
  } else if constexpr (kStride == 2) {
    return even_lanes(load_lanes(source, floats & ((1u << kLanes) - 1)),
                      load_lanes(source + kLanes, floats >> kLanes));
  } else {
    Vector x{};
    for (int lane = 0; lane < kLanes; ++lane) {
      if ((floats >> lane & 1) != 0) x[lane] = source[static_cast<std::int64_t>(lane) * stride];
    }
    return x;
  }
}

// kPieces: of each vector; 0 where they are many.
template <int kStride, int kPieces>
void pack(const PackArgs& a) {
  const int count = kPieces > 0 ? kPieces : a.pieces_a_vector;
  const int vectors = a.channel_stride / kLanes;
  float* destination = a.panel;
  for (int channel = 0; channel < a.channels; ++channel) {
    const float* plane = a.input + channel * a.plane;
    const std::int64_t ahead = channel + kChannelsAhead < a.channels ? kChannelsAhead * a.plane : 0;
    const PackPiece* piece = a.pieces;
    for (int v = 0; v < vectors; ++v) {
      Vector x{};
#pragma GCC unroll 2
      for (int i = 0; i < count; ++i, ++piece) {
        const float* source = plane + piece->source;
        __builtin_prefetch(source + ahead, 0);
        if (kStride > 1) __builtin_prefetch(source + ahead + kLanes, 0);
        const Vector pixels = gather<kStride>(source, piece->floats, a.stride);
        x = i == 0 ? pixels : x + pixels;
      }
      store(destination, x);
      destination += kLanes;
    }
  }
}

template <int kStride>
TACO4J_INLINE void pack(const PackArgs& a) {
  if (a.pieces_a_vector == 1) {
    pack<kStride, 1>(a);
  } else if (a.pieces_a_vector == 2) {
    pack<kStride, 2>(a);
  } else {
    pack<kStride, 0>(a);
  }
}

void pack(const PackArgs& a) {
  if (a.stride == 1) {
    pack<1>(a);
  } else if (a.stride == 2) {
    pack<2>(a);
  } else {
    pack<0>(a);
  }
}

}  // namespace
}  // namespace TACO4J_KERNEL_NAMESPACE
}  // namespace taco4j::f32_spconv
