// The micro-kernels of depthwise convolutions, written once on the compiler's vector types, as those
// of f32_spconv_vector.h are.
//
// What makes them fast:
// - Rows lie behind one another without padding, so that lanes are full on any image: 7 x 7 pixels
//   are 4 vectors of 16, of which 3 are whole.
// - A kernel of 3 x 3 loads 3 vectors for 9 products, and moves two sums by one lane.
// - Nothing but the panel of one channel is in use at a time, which stays in the first-level cache.
#include <utility>

#include "f32_dwconv.h"
#include "f32_vector.h"

namespace taco4j::f32_dwconv {
namespace TACO4J_KERNEL_NAMESPACE {
namespace {

using namespace f32_vector::TACO4J_KERNEL_NAMESPACE;

// Sums that are finished together, so that an activation's latency is hidden.
constexpr int kFinished = 4;

TACO4J_INLINE Vector masked(Vector x, const std::int32_t* mask) {
  return (Vector)((Integers)x & *reinterpret_cast<const Integers*>(mask));
}

// Lanes `amount` to the end of `a`, then the first ones of `b`.
template <int kAmount, int... kIndex>
TACO4J_INLINE Vector shift(Vector a, Vector b, std::integer_sequence<int, kIndex...>) {
  typedef std::int32_t Indices __attribute__((vector_size(kLanes * sizeof(float))));
#if defined(__clang__)
  return __builtin_shufflevector(a, b, (kIndex + kAmount)...);
#else
  return __builtin_shuffle(a, b, Indices{(kIndex + kAmount)...});
#endif
}
template <int kAmount>
TACO4J_INLINE Vector shift(Vector a, Vector b) {
  return shift<kAmount>(a, b, std::make_integer_sequence<int, kLanes>());
}

// The vectors [first, first + kCount) of the strip go to the output, or wait in `sums`.
template <int kCount>
TACO4J_INLINE void finish(const StripArgs& a, Vector* x, int first, float* output,
                          const float* residual) {
  const std::int64_t start = static_cast<std::int64_t>(first) * kLanes;
  if (a.sums != nullptr) {
#pragma GCC unroll 8
    for (int v = 0; v < kCount; ++v) store(a.sums + start + v * kLanes, x[v]);
    return;
  }
  const std::int64_t left = static_cast<std::int64_t>(a.rows) * a.columns - start;
  const int last = static_cast<int>(left < kCount * kLanes ? left - (kCount - 1) * kLanes : kLanes);
  if (residual != nullptr) {
#pragma GCC unroll 8
    for (int v = 0; v + 1 < kCount; ++v) x[v] += load_unaligned(residual + start + v * kLanes);
    const float* from = residual + start + (kCount - 1) * kLanes;
    x[kCount - 1] += last == kLanes ? load_unaligned(from) : load_first(from, last);
  }
  activate<kCount>(a.epilogue, x);
#pragma GCC unroll 8
  for (int v = 0; v + 1 < kCount; ++v) store_unaligned(output + start + v * kLanes, x[v]);
  float* to = output + start + (kCount - 1) * kLanes;
  if (last == kLanes) {
    store_unaligned(to, x[kCount - 1]);
  } else {
    store_first(to, x[kCount - 1], last);
  }
}

// Rows of sums whose pitch is not that of the output.
void finish_rows(const StripArgs& a, float* output, const float* residual) {
  for (int r = 0; r < a.rows; ++r) {
    const float* row = a.sums + static_cast<std::int64_t>(r) * a.pitch;
    for (int c = 0; c < a.columns; c += kLanes) {
      const std::int64_t place = static_cast<std::int64_t>(r) * a.columns + c;
      const int count = a.columns - c < kLanes ? a.columns - c : kLanes;
      Vector x = load_unaligned(row + c);
      if (residual != nullptr) x += load_first(residual + place, count);
      activate<1>(a.epilogue, &x);
      store_first(output + place, x, count);
    }
  }
}

// Any kernel, weight by weight: kCount vectors from `first` on.
template <int kCount>
void list(const StripArgs& a, int channel, int first, float* output, const float* residual) {
  const std::uint32_t* counts = a.counts + static_cast<std::ptrdiff_t>(channel) * a.groups;
  const Entry* entry = a.entries + a.begins[channel];
  const float* panel = a.panel + static_cast<std::ptrdiff_t>(first) * kLanes;
  const std::ptrdiff_t mask_start = static_cast<std::ptrdiff_t>(first % a.period) * kLanes;
  Vector sums[kCount];
#pragma GCC unroll 8
  for (int v = 0; v < kCount; ++v) sums[v] = broadcast(a.bias[channel]);
  for (int g = 0; g < a.groups; ++g) {
    const Entry* const end = entry + counts[g];
    if (a.masks[g] == nullptr) {
      for (; entry != end; ++entry) {
        const Vector weight = broadcast(entry->weight);
#pragma GCC unroll 8
        for (int v = 0; v < kCount; ++v) {
          sums[v] += weight * load_unaligned(panel + entry->offset + v * kLanes);
        }
      }
      continue;
    }
    if (entry == end) continue;
    Vector column[kCount] = {};
    for (; entry != end; ++entry) {
      const Vector weight = broadcast(entry->weight);
#pragma GCC unroll 8
      for (int v = 0; v < kCount; ++v) {
        column[v] += weight * load_unaligned(panel + entry->offset + v * kLanes);
      }
    }
    const std::int32_t* mask = a.masks[g] + mask_start;
#pragma GCC unroll 8
    for (int v = 0; v < kCount; ++v) sums[v] += masked(column[v], mask + v * kLanes);
  }
  finish<kCount>(a, sums, first, output, residual);
}

void list(const StripArgs& a, int channel, float* output, const float* residual) {
  // Parts that are as long as one another: a short one would wait for its sums.
  const int parts = (a.vectors + kMostVectors - 1) / kMostVectors;
  int first = 0;
  for (int part = 0; part < parts; ++part) {
    const int count = (a.vectors - first + parts - part - 1) / (parts - part);
    switch (count) {
      case 1: list<1>(a, channel, first, output, residual); break;
      case 2: list<2>(a, channel, first, output, residual); break;
      case 3: list<3>(a, channel, first, output, residual); break;
      case 4: list<4>(a, channel, first, output, residual); break;
      case 5: list<5>(a, channel, first, output, residual); break;
      case 6: list<6>(a, channel, first, output, residual); break;
      case 7: list<7>(a, channel, first, output, residual); break;
      default: list<8>(a, channel, first, output, residual); break;
    }
    first += count;
  }
}

// What a kernel of all weights carries from one vector to the next.
template <int kSize>
struct Carried {
  Vector left[kSize / 2];   // sums over columns left of the middle, of the vector before
  Vector right[kSize / 2];  // sums over columns right of it
  Vector sum;               // all else of that vector
};

// The sums over the columns of vector v; then those of the vector before are complete.
template <int kSize, std::size_t... kIndex>
TACO4J_INLINE Vector square_step(const StripArgs& a, const Vector (&weights)[kSize][kSize],
                                 Vector bias, const float* panel, const std::int32_t* const* masks,
                                 std::ptrdiff_t mask, std::ptrdiff_t mask_before,
                                 Carried<kSize>& carried, std::index_sequence<kIndex...>) {
  constexpr int kMiddle = kSize / 2;
  Vector columns[kSize] = {};
  columns[kMiddle] = bias;
#pragma GCC unroll 7
  for (int y = 0; y < kSize; ++y) {
    const Vector pixels = load_unaligned(panel + a.row_offsets[y]);
#pragma GCC unroll 7
    for (int x = 0; x < kSize; ++x) columns[x] += weights[y][x] * pixels;
  }
  Vector complete = carried.sum;
  ((complete += masked(shift<static_cast<int>(kIndex) + 1>(carried.right[kIndex],
                                                           columns[kMiddle + 1 + kIndex]),
                       masks[kMiddle + 1 + kIndex] + mask_before)),
   ...);
  Vector sum = columns[kMiddle];
  ((sum += masked(shift<kLanes - kMiddle + static_cast<int>(kIndex)>(carried.left[kIndex],
                                                                    columns[kIndex]),
                  masks[kIndex] + mask)),
   ...);
#pragma GCC unroll 3
  for (int i = 0; i < kMiddle; ++i) {
    carried.left[i] = columns[i];
    carried.right[i] = columns[kMiddle + 1 + i];
  }
  carried.sum = sum;
  return complete;
}

// All weights of a square kernel without stride.
template <int kSize>
void square(const StripArgs& a, int channel, float* output, const float* residual) {
  constexpr int kMiddle = kSize / 2;
  constexpr auto kSides = std::make_index_sequence<kMiddle>();
  Vector weights[kSize][kSize];
  const float* from = a.weights + static_cast<std::ptrdiff_t>(channel) * (kSize * kSize);
#pragma GCC unroll 7
  for (int y = 0; y < kSize; ++y) {
#pragma GCC unroll 7
    for (int x = 0; x < kSize; ++x) weights[y][x] = broadcast(from[y * kSize + x]);
  }
  const Vector bias = broadcast(a.bias[channel]);
  const std::int32_t* masks[kSize];
  for (int x = 0; x < kSize; ++x) masks[x] = a.masks[x];
  const std::ptrdiff_t period = static_cast<std::ptrdiff_t>(a.period) * kLanes;
  std::ptrdiff_t mask = 0;
  std::ptrdiff_t mask_before = 0;
  const float* panel = a.panel;
  Carried<kSize> carried = {};
  const auto step = [&] {
    const Vector complete = square_step<kSize>(a, weights, bias, panel, masks, mask, mask_before,
                                               carried, kSides);
    panel += kLanes;
    mask_before = mask;
    mask = mask + kLanes == period ? 0 : mask + kLanes;
    return complete;
  };
  step();
  int v = 0;
  Vector sums[kFinished];
  for (; v + kFinished < a.vectors; v += kFinished) {
#pragma GCC unroll 4
    for (int i = 0; i < kFinished; ++i) sums[i] = step();
    finish<kFinished>(a, sums, v, output, residual);
  }
  for (; v + 1 < a.vectors; ++v) {
    sums[0] = step();
    finish<1>(a, sums, v, output, residual);
  }
  // Nothing is right of the last vector, which ends with a row.
  Vector complete = carried.sum;
  const auto add_right = [&]<std::size_t... kIndex>(std::index_sequence<kIndex...>) {
    ((complete += masked(shift<static_cast<int>(kIndex) + 1>(carried.right[kIndex], Vector{}),
                         masks[kMiddle + 1 + kIndex] + mask_before)),
     ...);
  };
  add_right(kSides);
  finish<1>(a, &complete, v, output, residual);
}

// Whole vectors are stored; what that writes too far is zero, or is written again afterwards.
void pack(const StripArgs& a, const float* plane) {
  for (int r = 0; r < a.run_count; ++r) {
    const PackRun& run = a.runs[r];
    const float* source = plane + run.source;
    float* to = a.panel + run.destination;
    if (a.stride == 1) {
      int i = 0;
      for (; i + kLanes <= run.count; i += kLanes) {
        store_unaligned(to + i, load_unaligned(source + i));
      }
      if (i < run.count) store_unaligned(to + i, load_first(source + i, run.count - i));
    } else if (a.stride == 2) {
      float* to2 = a.panel + run.destination2;
      for (int i = 0; i < run.count; i += 2 * kLanes) {
        const int left = run.count - i;
        const Vector low = left >= kLanes ? load_unaligned(source + i) : load_first(source + i, left);
        const Vector high = left >= 2 * kLanes ? load_unaligned(source + i + kLanes)
                            : left > kLanes    ? load_first(source + i + kLanes, left - kLanes)
                                               : Vector{};
        store_unaligned(to + i / 2, even_lanes(low, high));
        store_unaligned(to2 + i / 2, odd_lanes(low, high));
      }
    } else {
      for (int i = 0; i < run.count; ++i) to[i] = source[static_cast<std::int64_t>(i) * a.stride];
    }
  }
}

void strip(const StripArgs& a) {
  for (int z = 0; z < a.zero_count; ++z) {
    std::memset(a.panel + a.zeros[z].destination, 0,
                static_cast<std::size_t>(a.zeros[z].count) * sizeof(float));
  }
  for (int channel = 0; channel < a.channels; ++channel) {
    pack(a, a.input + channel * a.input_plane);
    for (int m = 0; m < a.multiplier; ++m) {
      const int out = channel * a.multiplier + m;
      float* output = a.output + out * a.output_plane;
      const float* residual = a.residual == nullptr ? nullptr : a.residual + out * a.output_plane;
      if (a.square == 3 && a.all_kept[out]) {
        square<3>(a, out, output, residual);
      } else if (a.square == 5 && a.all_kept[out]) {
        square<5>(a, out, output, residual);
      } else if (a.square == 7 && a.all_kept[out]) {
        square<7>(a, out, output, residual);
      } else {
        list(a, out, output, residual);
      }
      if (a.sums != nullptr) finish_rows(a, output, residual);
    }
  }
}

}  // namespace
}  // namespace TACO4J_KERNEL_NAMESPACE
}  // namespace taco4j::f32_dwconv
