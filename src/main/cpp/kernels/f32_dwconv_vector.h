// The micro-kernels of depthwise convolutions, written once on the compiler's vector types, as those
// of f32_spconv_vector.h are.
//
// What makes them fast:
// - Rows lie behind one another without padding, so that lanes are full on any image: 7 x 7 pixels
//   are 4 vectors of 16, of which 3 are whole.
// - A kernel of 3 x 3 loads 3 vectors for 9 products, and moves two sums by one lane.
// - Nothing but the panel of one channel is in use at a time, which stays in the first-level cache.
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

// Lanes kAmount to the end of `a`, then the first ones of `b`.
template <int kAmount, int... kIndex>
TACO4J_INLINE Vector shift(Vector a, Vector b, std::integer_sequence<int, kIndex...>) {
  return shuffle(a, b, std::integer_sequence<int, kIndex + kAmount...>());
}
template <int kAmount>
TACO4J_INLINE Vector shift(Vector a, Vector b) {
  return shift<kAmount>(a, b, std::make_integer_sequence<int, kLanes>());
}

// What the next channel's panel will be filled from. It is asked for while this one is computed:
// nothing else is loaded from outside of the first-level cache then.
TACO4J_INLINE const float* ahead_of(const StripArgs& a, int out) {
  return a.input + (out / a.multiplier + 1) * a.input_plane + a.first_source;
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
  const float* ahead;                 // what is asked for meanwhile
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
  __builtin_prefetch(s.ahead + vector * kLanes, 0);
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
  s.ahead = ahead_of(a, channel);
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
    s.ahead += kFinished * kLanes;
    finish<kFinished>(a, sums, v, output, residual);
  }
  switch (vectors - v) {
    case 1: return last<kSize, 1>(a, s, v, mask, output, residual);
    case 2: return last<kSize, 2>(a, s, v, mask, output, residual);
    case 3: return last<kSize, 3>(a, s, v, mask, output, residual);
    default: return last<kSize, 4>(a, s, v, mask, output, residual);
  }
}

// The floats of two neighbouring columns in turn.
TACO4J_INLINE Vector broadcast_pair(const float* p) {
  typedef std::int64_t Pairs __attribute__((vector_size(kLanes * sizeof(float)), may_alias));
  std::int64_t pair;
  std::memcpy(&pair, p, sizeof pair);
  return (Vector)(pair - Pairs{});
}

// One vector of a row of a strip with a horizontal stride of 2. Even and odd columns of the image
// are multiplied side by side, each lane with the weight of its own column, and come together at
// the end. kHalf: half a vector of outputs is enough.
template <int kSize, bool kOddFirst, bool kHalf>
TACO4J_INLINE Vector paired_sums(const float* const (&rows)[kSize],
                                 const Vector (&pairs)[kSize][kSize / 2],
                                 const Vector (&single)[kSize], Vector bias, int column,
                                 Vector* before) {
  // Input columns, from column 0 on, of the pairs and of the column that stands alone.
  constexpr int kFirstPair = kOddFirst ? 2 : 0;
  constexpr int kSingle = kOddFirst ? 0 : kSize - 1;
  // A column that stands alone before a pair takes the pixels of the pair: its sums are those of
  // the next output.
  constexpr bool kShared = kOddFirst && kSize == 3;
  Vector low{}, high{}, low_single{}, high_single{};
#pragma GCC unroll 7
  for (int y = 0; y < kSize; ++y) {
    const float* const from = rows[y] + 2 * column;
#pragma GCC unroll 3
    for (int x = 0; x < kSize / 2; ++x) {
      Vector pixels = load_unaligned(from + kFirstPair + 2 * x);
      TACO4J_IN_REGISTER(pixels);
      low += pairs[y][x] * pixels;
      if (kShared) low_single += single[y] * pixels;
      if (!kHalf) {
        Vector more = load_unaligned(from + kFirstPair + 2 * x + kLanes);
        TACO4J_IN_REGISTER(more);
        high += pairs[y][x] * more;
        if (kShared) high_single += single[y] * more;
      }
    }
    if (!kShared) {
      low_single += single[y] * load_unaligned(from + kSingle);
      if (!kHalf) high_single += single[y] * load_unaligned(from + kSingle + kLanes);
    }
  }
  if (kShared) {
    const Vector alone = odd_lanes(low_single, high_single);
    const Vector moved = shift<kLanes - 1>(*before, alone);
    *before = alone;
    return (bias + even_lanes(low, high)) + (odd_lanes(low, high) + moved);
  }
  const Vector low_alone = low + low_single;
  const Vector high_alone = high + high_single;
  const Vector even = kOddFirst ? even_lanes(low, high) : even_lanes(low_alone, high_alone);
  const Vector odd = kOddFirst ? odd_lanes(low_alone, high_alone) : odd_lanes(low, high);
  return bias + even + odd;
}

template <int kSize, bool kOddFirst>
void paired(const StripArgs& a, int channel, float* output, const float* residual) {
  const float* weights = a.weights + static_cast<std::ptrdiff_t>(channel) * (kSize * kSize);
  Vector pairs[kSize][kSize / 2];
  Vector single[kSize];
#pragma GCC unroll 7
  for (int y = 0; y < kSize; ++y) {
#pragma GCC unroll 3
    for (int x = 0; x < kSize / 2; ++x) {
      pairs[y][x] = broadcast_pair(weights + y * kSize + 2 * x + (kOddFirst ? 1 : 0));
    }
    single[y] = broadcast(weights[y * kSize + (kOddFirst ? 0 : kSize - 1)]);
  }
  const Vector bias = broadcast(a.bias[channel]);
  const float* rows[kSize];
#pragma GCC unroll 7
  for (int y = 0; y < kSize; ++y) rows[y] = a.paired_panel + a.paired_rows[y];
  const int columns = a.columns;
  const int step = a.paired_step;
  const float* ahead = ahead_of(a, channel);
  for (int r = 0; r < a.rows; ++r) {
    Vector before{};  // left of the image
    for (int c = 0; c < columns; c += kLanes) {
      const int count = columns - c < kLanes ? columns - c : kLanes;
      for (int i = 0; i < 4; ++i) __builtin_prefetch(ahead + i * kLanes, 0);
      ahead += 4 * kLanes;
      Vector x = count <= kLanes / 2
                     ? paired_sums<kSize, kOddFirst, true>(rows, pairs, single, bias, c, &before)
                     : paired_sums<kSize, kOddFirst, false>(rows, pairs, single, bias, c, &before);
      if (residual != nullptr) x += load_first(residual + c, count);
      activate<1>(a.epilogue, &x);
      store_first(output + c, x, count);
    }
#pragma GCC unroll 7
    for (int y = 0; y < kSize; ++y) rows[y] += step;
    output += columns;
    if (residual != nullptr) residual += columns;
  }
}

template <int kSize>
void paired(const StripArgs& a, int channel, float* output, const float* residual) {
  if (a.odd_first) {
    paired<kSize, true>(a, channel, output, residual);
  } else {
    paired<kSize, false>(a, channel, output, residual);
  }
}

// Whole vectors are stored; what that writes too far is zero, or is written again afterwards.
void pack(const Packing& packing, const float* plane, float* panel) {
  const int stride = packing.stride;
  for (int r = 0; r < packing.run_count; ++r) {
    const PackRun run = packing.runs[r];
    const float* source = plane + run.source;
    float* to = panel + run.destination;
    if (stride == 1) {
      int i = 0;
      for (; i + kLanes <= run.count; i += kLanes) {
        store_unaligned(to + i, load_unaligned(source + i));
      }
      if (i < run.count) store_unaligned(to + i, load_first(source + i, run.count - i));
    } else if (stride == 2) {
      float* to2 = panel + run.destination2;
      int i = 0;
      for (; i + 2 * kLanes <= run.count; i += 2 * kLanes) {
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

void clear(const Packing& packing, float* panel) {
  for (int z = 0; z < packing.zero_count; ++z) {
    std::memset(panel + packing.zeros[z].destination, 0,
                static_cast<std::size_t>(packing.zeros[z].count) * sizeof(float));
  }
}

// One output channel, from whichever panel suits its weights.
void convolve(const StripArgs& a, const float* panel, int out) {
  float* output = a.output + out * a.output_plane;
  const float* residual = a.residual == nullptr ? nullptr : a.residual + out * a.output_plane;
  const int square_size = a.all_kept[out] ? a.square : 0;
  const int paired_size = a.all_kept[out] ? a.paired : 0;
  if (paired_size == 3) return paired<3>(a, out, output, residual);
  if (paired_size == 5) return paired<5>(a, out, output, residual);
  if (paired_size == 7) return paired<7>(a, out, output, residual);
  if (square_size == 3) {
    square<3>(a, panel, out, output, residual);
  } else if (square_size == 5) {
    square<5>(a, panel, out, output, residual);
  } else if (square_size == 7) {
    square<7>(a, panel, out, output, residual);
  } else {
    list(a, panel, out, output, residual);
  }
  if (a.sums != nullptr) finish_rows(a, output, residual);
}

// Whether any output channel of an input channel needs the panel, or the one for pairs.
TACO4J_INLINE bool needs(const StripArgs& a, int channel, bool pairs) {
  if (a.paired == 0) return !pairs;
  for (int m = 0; m < a.multiplier; ++m) {
    if ((a.all_kept[channel * a.multiplier + m] != 0) == pairs) return true;
  }
  return false;
}

void strip(const StripArgs& a) {
  float* panel = a.panel;
  float* next = a.next_panel;
  clear(a.packing, panel);
  if (next != panel) clear(a.packing, next);
  if (a.paired > 0) clear(a.paired_packing, a.paired_panel);
  const auto fill = [&](int channel, float* where) {
    const float* plane = a.input + channel * a.input_plane;
    if (needs(a, channel, false)) pack(a.packing, plane, where);
  };
  // A small panel is filled one channel ahead: what has just been stored is not to be loaded in
  // other pieces.
  if (next != panel) fill(0, panel);
  for (int channel = 0; channel < a.channels; ++channel) {
    if (next == panel) {
      fill(channel, panel);
    } else if (channel + 1 < a.channels) {
      fill(channel + 1, next);
    }
    if (needs(a, channel, true)) {
      pack(a.paired_packing, a.input + channel * a.input_plane, a.paired_panel);
    }
    for (int m = 0; m < a.multiplier; ++m) convolve(a, panel, channel * a.multiplier + m);
    float* const done = panel;
    panel = next;
    next = done;
  }
}

}  // namespace
}  // namespace TACO4J_KERNEL_NAMESPACE
}  // namespace taco4j::f32_dwconv
