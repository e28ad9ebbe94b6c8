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

// Once in a register, and not once more from memory for each product.
#if defined(__x86_64__)
#define TACO4J_IN_REGISTER(x) __asm__("" : "+v"(x))
#else
#define TACO4J_IN_REGISTER(x) __asm__("" : "+w"(x))
#endif

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
  for (int v = 0; v < kCount; ++v) {
    __builtin_prefetch(output + a.output_plane + start + v * kLanes, 1);  // the next channel
  }
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
void list(const StripArgs& a, const float* panel, int channel, int first, float* output, const float* residual) {
  const std::uint32_t* counts = a.counts + static_cast<std::ptrdiff_t>(channel) * a.groups;
  const Entry* entry = a.entries + a.begins[channel];
  panel += static_cast<std::ptrdiff_t>(first) * kLanes;
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

void list(const StripArgs& a, const float* panel, int channel, float* output, const float* residual) {
  // Parts that are as long as one another: a short one would wait for its sums.
  const int parts = (a.vectors + kMostVectors - 1) / kMostVectors;
  int first = 0;
  for (int part = 0; part < parts; ++part) {
    const int count = (a.vectors - first + parts - part - 1) / (parts - part);
    switch (count) {
      case 1: list<1>(a, panel, channel, first, output, residual); break;
      case 2: list<2>(a, panel, channel, first, output, residual); break;
      case 3: list<3>(a, panel, channel, first, output, residual); break;
      case 4: list<4>(a, panel, channel, first, output, residual); break;
      case 5: list<5>(a, panel, channel, first, output, residual); break;
      case 6: list<6>(a, panel, channel, first, output, residual); break;
      case 7: list<7>(a, panel, channel, first, output, residual); break;
      default: list<8>(a, panel, channel, first, output, residual); break;
    }
    first += count;
  }
}

// A channel with all weights of a square kernel without stride, on the way over its vectors.
template <int kSize>
struct Square {
  static constexpr int kMiddle = kSize / 2;

  const float* rows[kSize];           // where the next vector begins
  const std::int32_t* masks[kSize];   // of the columns, for vector 0
  Vector weights[kSize][kSize];
  Vector bias;
  // Of the vector before: sums over the columns left and right of the middle, and all else.
  Vector left[kMiddle];
  Vector right[kMiddle];
  Vector sum;
};

template <int kSize, std::size_t... kIndex>
TACO4J_INLINE Vector add_right(const Square<kSize>& s, const Vector* next, std::ptrdiff_t mask,
                               std::index_sequence<kIndex...>) {
  Vector sum = s.sum;
  ((sum += masked(shift<static_cast<int>(kIndex) + 1>(s.right[kIndex], next[kIndex]),
                  s.masks[kSize / 2 + 1 + kIndex] + mask)),
   ...);
  return sum;
}

template <int kSize, std::size_t... kIndex>
TACO4J_INLINE Vector add_left(const Square<kSize>& s, const Vector* columns, std::ptrdiff_t mask,
                              std::index_sequence<kIndex...>) {
  constexpr int kMiddle = kSize / 2;
  Vector sum = columns[kMiddle];
  ((sum += masked(shift<kLanes - kMiddle + static_cast<int>(kIndex)>(s.left[kIndex],
                                                                    columns[kIndex]),
                  s.masks[kIndex] + mask)),
   ...);
  return sum;
}

// The sums over the columns of the vector whose masks lie at `mask`; then those of the vector
// before are complete.
template <int kSize>
TACO4J_INLINE Vector step(Square<kSize>& s, int vector, std::ptrdiff_t mask) {
  constexpr int kMiddle = kSize / 2;
  constexpr auto kSides = std::make_index_sequence<kMiddle>();
  Vector columns[kSize] = {};
  columns[kMiddle] = s.bias;
#pragma GCC unroll 7
  for (int y = 0; y < kSize; ++y) {
    Vector pixels = load_unaligned(s.rows[y] + vector * kLanes);
    TACO4J_IN_REGISTER(pixels);
#pragma GCC unroll 7
    for (int x = 0; x < kSize; ++x) columns[x] += s.weights[y][x] * pixels;
  }
  const Vector complete = add_right(s, columns + kMiddle + 1, mask - kLanes, kSides);
  s.sum = add_left(s, columns, mask, kSides);
#pragma GCC unroll 3
  for (int i = 0; i < kMiddle; ++i) {
    s.left[i] = columns[i];
    s.right[i] = columns[kMiddle + 1 + i];
  }
  return complete;
}

// The last kCount vectors from `first` on, of which nothing is right, as they end with a row.
template <int kSize, int kCount>
TACO4J_INLINE void last(const StripArgs& a, Square<kSize>& s, int first, std::ptrdiff_t mask,
                        float* output, const float* residual) {
  constexpr Vector kNothing[kSize / 2] = {};
  Vector sums[kCount];
#pragma GCC unroll 4
  for (int i = 0; i + 1 < kCount; ++i) sums[i] = step(s, i + 1, mask + (i + 1) * kLanes);
  sums[kCount - 1] = add_right(s, kNothing, mask + (kCount - 1) * kLanes,
                               std::make_index_sequence<kSize / 2>());
  finish<kCount>(a, sums, first, output, residual);
}

template <int kSize>
void square(const StripArgs& a, const float* panel, int channel, float* output,
            const float* residual) {
  Square<kSize> s;
  const float* weights = a.weights + static_cast<std::ptrdiff_t>(channel) * (kSize * kSize);
#pragma GCC unroll 7
  for (int y = 0; y < kSize; ++y) {
    s.rows[y] = panel + a.row_offsets[y];
    s.masks[y] = a.masks[y];
#pragma GCC unroll 7
    for (int x = 0; x < kSize; ++x) s.weights[y][x] = broadcast(weights[y * kSize + x]);
  }
  s.bias = broadcast(a.bias[channel]);
  for (int i = 0; i < kSize / 2; ++i) s.left[i] = s.right[i] = Vector{};
  s.sum = Vector{};
  step(s, 0, 0);
  const std::ptrdiff_t period = static_cast<std::ptrdiff_t>(a.period) * kLanes;
  const int vectors = a.vectors;
  std::ptrdiff_t mask = 0;
  int v = 0;
  for (; v + kFinished < vectors; v += kFinished) {
    Vector sums[kFinished];
#pragma GCC unroll 4
    for (int i = 0; i < kFinished; ++i) sums[i] = step(s, i + 1, mask + (i + 1) * kLanes);
    mask += kFinished * kLanes;
    mask = mask >= period ? mask - period : mask;
#pragma GCC unroll 7
    for (int y = 0; y < kSize; ++y) s.rows[y] += kFinished * kLanes;
    finish<kFinished>(a, sums, v, output, residual);
  }
  switch (vectors - v) {
    case 1: return last<kSize, 1>(a, s, v, mask, output, residual);
    case 2: return last<kSize, 2>(a, s, v, mask, output, residual);
    case 3: return last<kSize, 3>(a, s, v, mask, output, residual);
    default: return last<kSize, 4>(a, s, v, mask, output, residual);
  }
}

// Whole vectors are stored; what that writes too far is zero, or is written again afterwards.
void pack(const StripArgs& a, const float* plane, float* panel) {
  const std::int64_t ahead = a.input_plane;  // the next channel
  const int stride = a.stride;
  for (int r = 0; r < a.run_count; ++r) {
    const PackRun run = a.runs[r];
    const float* source = plane + run.source;
    float* to = panel + run.destination;
    if (stride == 1) {
      int i = 0;
      for (; i + kLanes <= run.count; i += kLanes) {
        __builtin_prefetch(source + i + ahead, 0);
        store_unaligned(to + i, load_unaligned(source + i));
      }
      if (i < run.count) store_unaligned(to + i, load_first(source + i, run.count - i));
    } else if (stride == 2) {
      float* to2 = panel + run.destination2;
      int i = 0;
      for (; i + 2 * kLanes <= run.count; i += 2 * kLanes) {
        __builtin_prefetch(source + i + ahead, 0);
        __builtin_prefetch(source + i + kLanes + ahead, 0);
        const Vector low = load_unaligned(source + i);
        const Vector high = load_unaligned(source + i + kLanes);
        store_unaligned(to + i / 2, even_lanes(low, high));
        store_unaligned(to2 + i / 2, odd_lanes(low, high));
      }
      if (i < run.count) {
        const int left = run.count - i;
        const Vector low = load_first(source + i, left < kLanes ? left : kLanes);
        const Vector high =
            left > kLanes ? load_first(source + i + kLanes, left - kLanes) : Vector{};
        store_unaligned(to + i / 2, even_lanes(low, high));
        store_unaligned(to2 + i / 2, odd_lanes(low, high));
      }
    } else {
      for (int i = 0; i < run.count; ++i) to[i] = source[static_cast<std::int64_t>(i) * stride];
    }
  }
}

void strip(const StripArgs& a) {
  float* panel = a.panel;
  float* next = a.next_panel;
  for (int z = 0; z < a.zero_count; ++z) {
    const std::size_t bytes = static_cast<std::size_t>(a.zeros[z].count) * sizeof(float);
    std::memset(panel + a.zeros[z].destination, 0, bytes);
    if (next != panel) std::memset(next + a.zeros[z].destination, 0, bytes);
  }
  // A small panel is filled one channel ahead: what has just been stored is not to be loaded in
  // other pieces.
  if (next != panel) pack(a, a.input, panel);
  for (int channel = 0; channel < a.channels; ++channel) {
    if (next == panel) {
      pack(a, a.input + channel * a.input_plane, panel);
    } else if (channel + 1 < a.channels) {
      pack(a, a.input + (channel + 1) * a.input_plane, next);
    }
    for (int m = 0; m < a.multiplier; ++m) {
      const int out = channel * a.multiplier + m;
      float* output = a.output + out * a.output_plane;
      const float* residual = a.residual == nullptr ? nullptr : a.residual + out * a.output_plane;
      const int size = a.all_kept[out] ? a.square : 0;
      if (size == 3) {
        square<3>(a, panel, out, output, residual);
      } else if (size == 5) {
        square<5>(a, panel, out, output, residual);
      } else if (size == 7) {
        square<7>(a, panel, out, output, residual);
      } else {
        list(a, panel, out, output, residual);
      }
      if (a.sums != nullptr) finish_rows(a, output, residual);
    }
    float* const done = panel;
    panel = next;
    next = done;
  }
}

}  // namespace
}  // namespace TACO4J_KERNEL_NAMESPACE
}  // namespace taco4j::f32_dwconv
