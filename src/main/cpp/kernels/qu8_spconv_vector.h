// The micro-kernels for bytes, written once; each qu8_spconv_<isa>.cc defines the namespace and the
// vector's width and includes this file; compiler flags make the rest. See f32_spconv_vector.h for
// what makes such kernels fast, and for why everything has internal linkage. Here a vector is four
// times as many bytes; with instructions for dot products an entry costs as much as one of floats.
//
// Nothing may be fused into one rounding: results are those of ONNX Runtime to the bit.
#include <cstring>
#include <utility>

#if defined(__x86_64__)
#if defined(__GNUC__) && !defined(__clang__)
// GCC's own headers have values that are not initialised on purpose, and GCC warns of them:
// https://gcc.gnu.org/bugzilla/show_bug.cgi?id=105593
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC diagnostic ignored "-Wuninitialized"
#endif
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

#include "f32_vector.h"
#include "qu8_spconv.h"

namespace taco4j::qu8_spconv {
namespace TACO4J_KERNEL_NAMESPACE {
namespace {

constexpr int kLanes = TACO4J_KERNEL_LANES;
constexpr int kVectorBytes = 4 * kLanes;  // which are as many results of one byte as a chunk has
constexpr int kChunkVectors = 4;          // vectors of sums whose results fill a vector of bytes

// Where products are of signed bytes, 128 is subtracted from those of the input.
constexpr std::uint32_t kSignBits = TACO4J_KERNEL_LANES == 4 ? 0x80808080u : 0;

// Input planes are pages apart, which hardware prefetchers do not follow. To ask for the places of
// results, too, costs more than it saves.
constexpr int kQuadsAhead = 2;
constexpr int kLineBytes = 64;
constexpr int kEntriesAhead = 768;

typedef std::int32_t Integers __attribute__((vector_size(kVectorBytes), may_alias));
typedef std::uint32_t Words __attribute__((vector_size(kVectorBytes), may_alias));
using Floats = f32_vector::TACO4J_KERNEL_NAMESPACE::Vector;
typedef std::int32_t Word __attribute__((may_alias));

TACO4J_INLINE Integers broadcast(std::int32_t x) { return x - Integers{}; }
using f32_vector::TACO4J_KERNEL_NAMESPACE::broadcast;
TACO4J_INLINE Integers load(const void* p) { return *static_cast<const Integers*>(p); }
TACO4J_INLINE void store(void* p, Integers x) { *static_cast<Integers*>(p) = x; }

// ---- What the instruction sets differ in.
//
// dot: sums plus, in each lane, the four products of the bytes of pixels and weights.
// multiply_add: x * y + z, rounded once.
// nearest: to integers, halves to the even one; what is beyond 32 bits is undefined.
// narrow: bytes of four vectors, one after the other; zero_point is added, saturating.
// Bytes: a vector of bytes. load_first, store_first: of its first n bytes, 0 <= n; all where n is
//   more than it has; others are zero, and memory behind them is not touched.
// widen: kLanes bytes from memory.
// Pixels: of four planes, as many as a vector has lanes. load_lanes: those of some lanes; others stay.
//   interleave: the four bytes of each pixel beside one another, as they are multiplied.
// select: lanes of x, else of other.

#if defined(__AVX512F__)

using Bytes = __m512i;

TACO4J_INLINE Integers dot(Integers sums, Integers pixels, Integers weights) {
#if defined(__AVX512VNNI__)
  return (Integers)_mm512_dpbusd_epi32((__m512i)sums, (__m512i)pixels, (__m512i)weights);
#else
  // Two products at once as 16 bits: pixels do not fit into signed bytes.
  const __m512i even = _mm512_madd_epi16(_mm512_and_si512((__m512i)pixels,
                                                          _mm512_set1_epi16(255)),
                                         _mm512_srai_epi16(_mm512_slli_epi16((__m512i)weights, 8),
                                                           8));
  const __m512i odd = _mm512_madd_epi16(_mm512_srli_epi16((__m512i)pixels, 8),
                                        _mm512_srai_epi16((__m512i)weights, 8));
  return (Integers)((Words)sums + (Words)even + (Words)odd);
#endif
}
TACO4J_INLINE Floats multiply_add(Floats x, Floats y, Floats z) {
  return (Floats)_mm512_fmadd_ps((__m512)x, (__m512)y, (__m512)z);
}
TACO4J_INLINE Integers nearest(Floats x) {
  return (Integers)_mm512_cvt_roundps_epi32((__m512)x,
                                            _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
TACO4J_INLINE Floats round(Floats x) {
  return (Floats)_mm512_roundscale_ps((__m512)x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
TACO4J_INLINE __m512i transposed_lanes(__m512i x) {
  return _mm512_permutexvar_epi32(
      _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15), x);
}
TACO4J_INLINE Bytes narrow(Integers a, Integers b, Integers c, Integers d, int zero_point) {
  const __m512i add = _mm512_set1_epi16(static_cast<short>(zero_point));
  const __m512i ab = _mm512_packs_epi32((__m512i)a, (__m512i)b);
  const __m512i cd = _mm512_packs_epi32((__m512i)c, (__m512i)d);
  return transposed_lanes(
      _mm512_packus_epi16(_mm512_adds_epi16(ab, add), _mm512_adds_epi16(cd, add)));
}
TACO4J_INLINE __mmask64 first_bytes(int n) { return n >= 64 ? ~0ull : (1ull << n) - 1; }
TACO4J_INLINE Bytes load_first(const std::uint8_t* p, int n) {
  return _mm512_maskz_loadu_epi8(first_bytes(n), p);
}
TACO4J_INLINE void store_first(std::uint8_t* p, Bytes x, int n) {
  if (n >= 64) {
    _mm512_storeu_si512(p, x);
  } else {
    _mm512_mask_storeu_epi8(p, first_bytes(n), x);
  }
}
TACO4J_INLINE Floats widen(const std::uint8_t* p) {
  __m128i bytes;
  std::memcpy(&bytes, p, sizeof bytes);
  return (Floats)_mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(bytes));
}
// Pixels of four planes, one for each register, each every stride-th byte. With a stride of 2 these
// are still among the others.
template <int kStride>
struct Pixels {
  __m128i planes[4];
};
template <>
struct Pixels<2> {
  __m256i planes[4];
};
template <int kStride>
TACO4J_INLINE Pixels<kStride> load_pixels(const std::uint8_t* const (&planes)[4],
                                          std::int64_t source, int stride) {
  Pixels<kStride> x;
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
    const std::uint8_t* const p = planes[i] + source;
    if constexpr (kStride == 1) {
      x.planes[i] = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
    } else if constexpr (kStride == 2) {
      // Without the last byte, behind which memory may end.
      x.planes[i] = _mm256_maskz_loadu_epi8(0x7fffffff, p);
    } else {
      alignas(16) std::uint8_t bytes[16];
      for (int lane = 0; lane < 16; ++lane) bytes[lane] = p[std::int64_t{lane} * stride];
      x.planes[i] = _mm_load_si128(reinterpret_cast<const __m128i*>(bytes));
    }
  }
  return x;
}
// Bit i at 2 i, for 16 bits.
TACO4J_INLINE __mmask32 even_bits(std::uint32_t x) {
  x = (x | x << 8) & 0x00ff00ff;
  x = (x | x << 4) & 0x0f0f0f0f;
  x = (x | x << 2) & 0x33333333;
  return (x | x << 1) & 0x55555555;
}
template <int kStride>
TACO4J_INLINE void load_lanes(Pixels<kStride>& x, const std::uint8_t* const (&planes)[4],
                              std::int64_t source, std::uint32_t lanes, int stride) {
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
    const std::uint8_t* const p = planes[i] + source;
    if constexpr (kStride == 1) {
      x.planes[i] = _mm_mask_loadu_epi8(x.planes[i], static_cast<__mmask16>(lanes), p);
    } else if constexpr (kStride == 2) {
      x.planes[i] = _mm256_mask_loadu_epi8(x.planes[i], even_bits(lanes), p);
    } else {
      alignas(16) std::uint8_t bytes[16] = {};
      for (int lane = 0; lane < 16; ++lane) {
        if ((lanes >> lane & 1) != 0) bytes[lane] = p[std::int64_t{lane} * stride];
      }
      x.planes[i] = _mm_mask_mov_epi8(x.planes[i], static_cast<__mmask16>(lanes),
                                      _mm_load_si128(reinterpret_cast<const __m128i*>(bytes)));
    }
  }
}
TACO4J_INLINE Words select(std::uint32_t lanes, Words x, Words other) {
  return (Words)_mm512_mask_mov_epi32((__m512i)other, static_cast<__mmask16>(lanes), (__m512i)x);
}
TACO4J_INLINE Words interleave(const Pixels<1>& x) {
  __m512i all = _mm512_castsi128_si512(x.planes[0]);
  all = _mm512_inserti32x4(all, x.planes[1], 1);
  all = _mm512_inserti32x4(all, x.planes[2], 2);
  all = _mm512_inserti32x4(all, x.planes[3], 3);
  const __m512i fours = _mm512_broadcast_i32x4(
      _mm_setr_epi8(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15));
  return (Words)_mm512_shuffle_epi8(transposed_lanes(all), fours);
}
TACO4J_INLINE Words interleave(const Pixels<0>& x) {
  return interleave(Pixels<1>{{x.planes[0], x.planes[1], x.planes[2], x.planes[3]}});
}
TACO4J_INLINE Words interleave(const Pixels<2>& x) {
  // Pairs of 16 pixels.
  const __m256i ab =
      _mm256_mask_blend_epi8(0xaaaaaaaa, x.planes[0], _mm256_slli_epi16(x.planes[1], 8));
  const __m256i cd =
      _mm256_mask_blend_epi8(0xaaaaaaaa, x.planes[2], _mm256_slli_epi16(x.planes[3], 8));
  // Of each half of the pixels the lower fours and the upper ones.
  return (Words)_mm512_permutex2var_epi64(_mm512_castsi256_si512(_mm256_unpacklo_epi16(ab, cd)),
                                          _mm512_setr_epi64(0, 1, 8, 9, 2, 3, 10, 11),
                                          _mm512_castsi256_si512(_mm256_unpackhi_epi16(ab, cd)));
}

#elif defined(__AVX2__)

using Bytes = __m256i;

TACO4J_INLINE Integers dot(Integers sums, Integers pixels, Integers weights) {
#if defined(__AVXVNNI__)
  return (Integers)_mm256_dpbusd_avx_epi32((__m256i)sums, (__m256i)pixels, (__m256i)weights);
#else
  // Two products at once as 16 bits; vpmaddubsw would saturate.
  const __m256i even = _mm256_madd_epi16(
      _mm256_and_si256((__m256i)pixels, _mm256_set1_epi16(255)),
      _mm256_srai_epi16(_mm256_slli_epi16((__m256i)weights, 8), 8));
  const __m256i odd = _mm256_madd_epi16(_mm256_srli_epi16((__m256i)pixels, 8),
                                        _mm256_srai_epi16((__m256i)weights, 8));
  return (Integers)((Words)sums + (Words)even + (Words)odd);
#endif
}
TACO4J_INLINE Floats round(Floats x) {
  return (Floats)_mm256_round_ps((__m256)x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
TACO4J_INLINE Floats multiply_add(Floats x, Floats y, Floats z) {
  return (Floats)_mm256_fmadd_ps((__m256)x, (__m256)y, (__m256)z);
}
TACO4J_INLINE Integers nearest(Floats x) {
  return (Integers)_mm256_cvttps_epi32((__m256)round(x));
}
TACO4J_INLINE Bytes narrow(Integers a, Integers b, Integers c, Integers d, int zero_point) {
  const __m256i add = _mm256_set1_epi16(static_cast<short>(zero_point));
  const __m256i ab = _mm256_packs_epi32((__m256i)a, (__m256i)b);
  const __m256i cd = _mm256_packs_epi32((__m256i)c, (__m256i)d);
  return _mm256_permutevar8x32_epi32(
      _mm256_packus_epi16(_mm256_adds_epi16(ab, add), _mm256_adds_epi16(cd, add)),
      _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
}
TACO4J_INLINE Floats widen(const std::uint8_t* p) {
  return (Floats)_mm256_cvtepi32_ps(
      _mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p))));
}
using PlanePixels = __m128i;
TACO4J_INLINE PlanePixels plane_pixels(std::uint64_t bytes) {
  return _mm_cvtsi64_si128(static_cast<long long>(bytes));
}
TACO4J_INLINE Words interleave(PlanePixels a, PlanePixels b, PlanePixels c, PlanePixels d) {
  const __m128i ab = _mm_unpacklo_epi8(a, b);
  const __m128i cd = _mm_unpacklo_epi8(c, d);
  return (Words)_mm256_set_m128i(_mm_unpackhi_epi16(ab, cd), _mm_unpacklo_epi16(ab, cd));
}

#else

using Bytes = uint8x16_t;

TACO4J_INLINE Integers dot(Integers sums, Integers pixels, Integers weights) {
  const int8x16_t x = (int8x16_t)pixels;
  const int8x16_t w = (int8x16_t)weights;
#if defined(__ARM_FEATURE_DOTPROD)
  return (Integers)vdotq_s32((int32x4_t)sums, x, w);
#else
  const int32x4_t low = vpaddlq_s16(vmull_s8(vget_low_s8(x), vget_low_s8(w)));
  const int32x4_t high = vpaddlq_s16(vmull_high_s8(x, w));
  return (Integers)vaddq_s32((int32x4_t)sums, vpaddq_s32(low, high));
#endif
}
TACO4J_INLINE Floats round(Floats x) { return (Floats)vrndnq_f32((float32x4_t)x); }
TACO4J_INLINE Floats multiply_add(Floats x, Floats y, Floats z) {
  return (Floats)vfmaq_f32((float32x4_t)z, (float32x4_t)x, (float32x4_t)y);
}
TACO4J_INLINE Integers nearest(Floats x) { return (Integers)vcvtnq_s32_f32((float32x4_t)x); }
TACO4J_INLINE Bytes narrow(Integers a, Integers b, Integers c, Integers d, int zero_point) {
  const int16x8_t add = vdupq_n_s16(static_cast<std::int16_t>(zero_point));
  const int16x8_t ab = vqmovn_high_s32(vqmovn_s32((int32x4_t)a), (int32x4_t)b);
  const int16x8_t cd = vqmovn_high_s32(vqmovn_s32((int32x4_t)c), (int32x4_t)d);
  return vqmovun_high_s16(vqmovun_s16(vqaddq_s16(ab, add)), vqaddq_s16(cd, add));
}
TACO4J_INLINE Floats widen(const std::uint8_t* p) {
  std::uint32_t four;
  std::memcpy(&four, p, sizeof four);
  const uint16x8_t wide = vmovl_u8(vcreate_u8(four));
  return (Floats)vcvtq_f32_u32(vmovl_u16(vget_low_u16(wide)));
}
using PlanePixels = uint8x8_t;
TACO4J_INLINE PlanePixels plane_pixels(std::uint64_t bytes) { return vcreate_u8(bytes); }
TACO4J_INLINE Words interleave(PlanePixels a, PlanePixels b, PlanePixels c, PlanePixels d) {
  const uint8x8_t ab = vzip1_u8(a, b);
  const uint8x8_t cd = vzip1_u8(c, d);
  const uint16x8x2_t pixels = vzipq_u16(vreinterpretq_u16_u8(vcombine_u8(ab, ab)),
                                        vreinterpretq_u16_u8(vcombine_u8(cd, cd)));
  return (Words)vreinterpretq_u8_u16(pixels.val[0]);
}

#endif

#if !defined(__AVX512F__)
// The first n bytes, 1 <= n <= 8, in the lower bytes of the result; memory behind them is not touched.
TACO4J_INLINE std::uint64_t load_bytes(const std::uint8_t* p, int n) {
  if (n == 8) {
    std::uint64_t eight;
    std::memcpy(&eight, p, 8);
    return eight;
  }
  if (n >= 4) {
    std::uint32_t low, high;
    std::memcpy(&low, p, 4);
    std::memcpy(&high, p + n - 4, 4);
    return low | static_cast<std::uint64_t>(high) << (8 * (n - 4));
  }
  std::uint64_t few = p[0];
  if (n > 1) few |= static_cast<std::uint64_t>(p[n / 2]) << (8 * (n / 2));
  return few | static_cast<std::uint64_t>(p[n - 1]) << (8 * (n - 1));
}
// Bytes 0, 2, 4 and 6.
TACO4J_INLINE std::uint64_t even_bytes(std::uint64_t x) {
  x &= 0x00ff00ff00ff00ff;
  x = (x | x >> 8) & 0x0000ffff0000ffff;
  return (x | x >> 16) & 0xffffffff;
}
// Pixels of a plane from the lowest byte on, as many as a vector has lanes.
template <int kStride>
struct Pixels {
  std::uint64_t planes[4];
};
template <int kStride>
TACO4J_INLINE void load_lanes(Pixels<kStride>& x, const std::uint8_t* const (&planes)[4],
                              std::int64_t source, std::uint32_t lanes, int stride) {
  const int first = __builtin_ctz(lanes);
  const int count = __builtin_popcount(lanes);
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
    const std::uint8_t* const p = planes[i] + source + std::int64_t{first} * stride;
    std::uint64_t run = 0;
    if constexpr (kStride == 1) {
      run = load_bytes(p, count);
    } else {
      for (int j = 0; j < count; ++j) {
        run |= static_cast<std::uint64_t>(p[std::int64_t{j} * stride]) << (8 * j);
      }
    }
    x.planes[i] |= run << (8 * first);
  }
}
template <int kStride>
TACO4J_INLINE Pixels<kStride> load_pixels(const std::uint8_t* const (&planes)[4],
                                          std::int64_t source, int stride) {
  Pixels<kStride> x{};
  if constexpr (kStride == 2) {
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) {
      const std::uint8_t* const p = planes[i] + source;
      x.planes[i] = even_bytes(load_bytes(p, kLanes == 4 ? 7 : 8));
      // Of 15 bytes.
      if (kLanes == 8) x.planes[i] |= even_bytes(load_bytes(p + 7, 8) >> 8) << 32;
    }
  } else {
    load_lanes(x, planes, source, (1u << kLanes) - 1, stride);
  }
  return x;
}
template <int kStride>
TACO4J_INLINE Words interleave(const Pixels<kStride>& x) {
  return interleave(plane_pixels(x.planes[0]), plane_pixels(x.planes[1]),
                    plane_pixels(x.planes[2]), plane_pixels(x.planes[3])) ^
         (Words{} + kSignBits);
}
TACO4J_INLINE Words select(std::uint32_t lanes, Words x, Words other) {
#if TACO4J_KERNEL_LANES == 8
  const Words bits = {1, 2, 4, 8, 16, 32, 64, 128};
#else
  const Words bits = {1, 2, 4, 8};
#endif
  return ((Words{} + lanes) & bits) != Words{} ? x : other;
}
TACO4J_INLINE Bytes load_first(const std::uint8_t* p, int n) {
  Bytes x{};
  std::memcpy(&x, p, static_cast<std::size_t>(n < kVectorBytes ? n : kVectorBytes));
  return x;
}
TACO4J_INLINE void store_first(std::uint8_t* p, Bytes x, int n) {
  std::memcpy(p, &x, static_cast<std::size_t>(n < kVectorBytes ? n : kVectorBytes));
}
#endif

// Lanes of two vectors in turn, of their lower and of their upper halves.
#if TACO4J_KERNEL_LANES == 16
#define TACO4J_LOW 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23
#define TACO4J_HIGH 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31
#elif TACO4J_KERNEL_LANES == 8
#define TACO4J_LOW 0, 8, 1, 9, 2, 10, 3, 11
#define TACO4J_HIGH 4, 12, 5, 13, 6, 14, 7, 15
#else
#define TACO4J_LOW 0, 4, 1, 5
#define TACO4J_HIGH 2, 6, 3, 7
#endif

TACO4J_INLINE Integers shift_in(Integers current, Integers next) {
  return __builtin_shufflevector(current, next, TACO4J_SHIFTED);
}

TACO4J_INLINE Floats clamp(Floats x, Floats least, Floats most) {
  x = x < least ? least : x;
  return x > most ? most : x;
}

// ---- Results.

// A flat tile of bytes into the lines of an output plane, and the other way round. Lines are moved as
// whole chunks, so there is one more in the flat tile.
TACO4J_INLINE void scatter_lines(const TileArgs& a, const std::uint8_t* flat,
                                 std::uint8_t* plane) {
  for (int l = 0; l < a.line_count; ++l) {
    const Line& line = a.lines[l];
    for (int i = 0; i < line.length; i += kVectorBytes) {
      store_first(plane + line.destination + i,
                  load_first(flat + line.source + i, line.length - i), line.length - i);
    }
  }
}
TACO4J_INLINE void gather_lines(const TileArgs& a, const std::uint8_t* plane, std::uint8_t* flat) {
  for (int l = 0; l < a.line_count; ++l) {
    const Line& line = a.lines[l];
    for (int i = 0; i < line.length; i += kVectorBytes) {
      const Bytes chunk = load_first(plane + line.destination + i, line.length - i);
      std::memcpy(flat + line.source + i, &chunk, kVectorBytes);
    }
  }
}

#if defined(__AVX512VBMI2__)
// The same where lines follow one another in the plane: bytes between them are left out at once.
TACO4J_INLINE std::uint8_t* append_kept(std::uint8_t* to, Bytes chunk, std::uint64_t kept) {
  const int count = __builtin_popcountll(kept);
  store_first(to, _mm512_maskz_compress_epi8(kept, chunk), count);
  return to + count;
}
TACO4J_INLINE const std::uint8_t* expand_kept(const std::uint8_t* from, std::uint64_t kept,
                                              Bytes& chunk) {
  const int count = __builtin_popcountll(kept);
  chunk = _mm512_maskz_expand_epi8(kept, load_first(from, count));
  return from + count;
}
#endif

// With a residual, from sums in memory. Apart, so that constants stay in registers.
__attribute__((noinline)) void finish_adding(const TileArgs& a, const std::int32_t* sums,
                                             int vectors, std::size_t row) {
  const Floats scale = broadcast(a.scales[row]);
  const Floats least = broadcast(-a.product.zero_point);
  const Floats most = broadcast(255.0f - a.product.zero_point);
  const Floats product_scale = broadcast(a.product.scale);
  const Floats product_factor = broadcast(a.add.product);
  const Floats addend_factor = broadcast(a.add.addend);
  const Floats constant = broadcast(a.add.constant);
  const int zero_point = static_cast<int>(a.result.zero_point);
  const bool known = a.add.known;
  // Of one vector: (byte - zero point), saturated or not.
  const auto result_of = [&](const std::int32_t* from, const std::uint8_t* residual) {
    const Floats product =
        round(clamp(__builtin_convertvector(load(from), Floats) * scale, least, most));
    const Floats addend = widen(residual);
    if (known) {
      return nearest(
          multiply_add(product, product_factor, multiply_add(addend, addend_factor, constant)));
    }
    const Floats sum = product * product_scale +
                       (addend - broadcast(a.addend.zero_point)) * broadcast(a.addend.scale);
    return nearest(clamp(sum / broadcast(a.result.scale), broadcast(-a.result.zero_point),
                         broadcast(255.0f - a.result.zero_point)));
  };
  const auto chunk_of = [&](const std::int32_t* from, const std::uint8_t* residual) {
    return narrow(result_of(from, residual), result_of(from + kLanes, residual + kLanes),
                  result_of(from + 2 * kLanes, residual + 2 * kLanes),
                  result_of(from + 3 * kLanes, residual + 3 * kLanes), zero_point);
  };

  std::uint8_t* const output = a.output + static_cast<std::int64_t>(row) * a.plane;
  const std::uint8_t* const residual = a.residual + static_cast<std::int64_t>(row) * a.plane;
  alignas(kVectorBytes) std::uint8_t bytes[(kMostVectors / kChunkVectors + 2) * kVectorBytes];
#if defined(__AVX512VBMI2__)
  if (a.kept_bytes != nullptr) {
    std::uint8_t* to = output;
    const std::uint8_t* from = residual;
    for (int v = 0; v < vectors; v += kChunkVectors) {
      const std::uint64_t kept = a.kept_bytes[v / kChunkVectors];
      Bytes chunk;
      from = expand_kept(from, kept, chunk);
      std::memcpy(bytes, &chunk, kVectorBytes);
      to = append_kept(to, chunk_of(sums + v * kLanes, bytes), kept);
    }
    return;
  }
#endif
  if (a.line_count > 1) {
    gather_lines(a, residual, bytes);
    for (int v = 0; v < vectors; v += kChunkVectors) {
      std::uint8_t* const place = bytes + v * kLanes;
      const Bytes chunk = chunk_of(sums + v * kLanes, place);
      std::memcpy(place, &chunk, kVectorBytes);
    }
    scatter_lines(a, bytes, output);
    return;
  }
  const int pixels = a.lines[0].length;
  int i = 0;
  for (; i + kVectorBytes <= pixels; i += kVectorBytes) {
    store_first(output + i, chunk_of(sums + i, residual + i), kVectorBytes);
  }
  if (i < pixels) {
    const Bytes rest = load_first(residual + i, pixels - i);
    std::memcpy(bytes, &rest, kVectorBytes);
    store_first(output + i, chunk_of(sums + i, bytes), pixels - i);
  }
}

// Rounds the sums of one output channel to bytes and stores them.
template <int kVectors>
TACO4J_INLINE void finish(const TileArgs& a, const Integers* sums, std::size_t row) {
  constexpr int kChunks = (kVectors + kChunkVectors - 1) / kChunkVectors;
  if (a.residual != nullptr) {
    alignas(kVectorBytes) std::int32_t stored[kChunks * kChunkVectors * kLanes];
#pragma GCC unroll 28
    for (int v = 0; v < kVectors; ++v) store(stored + v * kLanes, sums[v]);
#pragma GCC unroll 3
    for (int v = kVectors; v < kChunks * kChunkVectors; ++v) store(stored + v * kLanes, Integers{});
    finish_adding(a, stored, kVectors, row);
    return;
  }
  const Floats scale = broadcast(a.scales[row]);
  const int zero_point = static_cast<int>(a.product.zero_point);
  Integers results[kChunks * kChunkVectors] = {};
  if (a.clamps) {
    const Floats least = broadcast(-a.product.zero_point);
    const Floats most = broadcast(255.0f - a.product.zero_point);
#pragma GCC unroll 28
    for (int v = 0; v < kVectors; ++v) {
      results[v] = nearest(clamp(__builtin_convertvector(sums[v], Floats) * scale, least, most));
    }
  } else {
#pragma GCC unroll 28
    for (int v = 0; v < kVectors; ++v) {
      results[v] = nearest(__builtin_convertvector(sums[v], Floats) * scale);
    }
  }
  std::uint8_t* const output = a.output + static_cast<std::int64_t>(row) * a.plane;
  if (a.line_count == 1) {
    const int pixels = a.lines[0].length;
#pragma GCC unroll 8
    for (int c = 0; c < kChunks; ++c) {
      const Integers* from = results + c * kChunkVectors;
      const int left = pixels - c * kVectorBytes;
      if (left <= 0) break;
      store_first(output + c * kVectorBytes,
                  narrow(from[0], from[1], from[2], from[3], zero_point), left);
    }
    return;
  }
#if defined(__AVX512VBMI2__)
  if (a.kept_bytes != nullptr) {
    std::uint8_t* to = output;
#pragma GCC unroll 8
    for (int c = 0; c < kChunks; ++c) {
      const Integers* from = results + c * kChunkVectors;
      to = append_kept(to, narrow(from[0], from[1], from[2], from[3], zero_point),
                       a.kept_bytes[c]);
    }
    return;
  }
#endif
  alignas(kVectorBytes) std::uint8_t bytes[(kChunks + 1) * kVectorBytes];
#pragma GCC unroll 8
  for (int c = 0; c < kChunks; ++c) {
    const Integers* from = results + c * kChunkVectors;
    const Bytes chunk = narrow(from[0], from[1], from[2], from[3], zero_point);
    std::memcpy(bytes + c * kVectorBytes, &chunk, kVectorBytes);
  }
  scatter_lines(a, bytes, output);
}

// kVectors: of the tile. kShifted: more than one group.
template <int kVectors, bool kShifted>
void tile(const TileArgs& a) {
  // Few vectors make few chains of additions: several sums of each hide their latency.
  constexpr int kSets = kVectors <= 3 ? 4 : kVectors <= 8 ? 2 : 1;
  const std::uint32_t* counts = a.rows.counts;
  const Word* weights = reinterpret_cast<const Word*>(a.rows.weights);
  const std::uint16_t* offsets = a.rows.offsets;
  const std::uint32_t* const panel = a.panel;
  for (std::size_t i = 0; i < a.rows.size; ++i) {
    const std::uint32_t flags = a.rows.blocks[i];
    const std::size_t row = flags >> 2;
    std::int32_t* const partial =
        a.partial_sums + (static_cast<std::int64_t>(row) - a.first_row) * (kVectors * kLanes);
    Integers sums[kSets][kVectors] = {};
    for (int group = kShifted ? a.groups - 1 : 0;; --group) {
      if (group == 0) {
        if ((flags & kFirst) != 0) {
          const Integers first = broadcast(a.first_sums[row]);
#pragma GCC unroll 28
          for (int v = 0; v < kVectors; ++v) {
            sums[0][v] = kShifted ? (Integers)((Words)sums[0][v] + (Words)first) : first;
          }
        } else {
#pragma GCC unroll 28
          for (int v = 0; v < kVectors; ++v) {
            const Integers before = load(partial + v * kLanes);
            sums[0][v] = kShifted ? (Integers)((Words)sums[0][v] + (Words)before) : before;
          }
        }
      }
      const auto multiply = [&](Integers(&set)[kVectors], std::int32_t four,
                                const std::uint32_t* x) __attribute__((always_inline)) {
        const Integers weight = broadcast(four);
#pragma GCC unroll 28
        for (int v = 0; v < kVectors; ++v) set[v] = dot(set[v], load(x + v * kLanes), weight);
      };
      const std::uint32_t count = *counts++;
      const std::uint16_t* const end = offsets + count;
      for (const std::uint16_t* fours = offsets + (count & ~3u); offsets != fours; offsets += 4) {
        std::uint64_t four;
        std::memcpy(&four, offsets, sizeof four);
#pragma GCC unroll 4
        for (int e = 0; e < 4; ++e) {
          multiply(sums[e % kSets], weights[e], panel + (four >> (16 * e) & 0xffff));
        }
        __builtin_prefetch(weights + kEntriesAhead, 0);
        __builtin_prefetch(offsets + kEntriesAhead, 0);
        weights += 4;
      }
      for (; offsets != end; ++offsets) multiply(sums[0], *weights++, panel + *offsets);
#pragma GCC unroll 4
      for (int s = 1; s < kSets; ++s) {
#pragma GCC unroll 28
        for (int v = 0; v < kVectors; ++v) {
          sums[0][v] = (Integers)((Words)sums[0][v] + (Words)sums[s][v]);
          sums[s][v] = Integers{};
        }
      }
      if (group == 0) break;
      // What has been summed so far is meant for the pixel to the left.
#pragma GCC unroll 28
      for (int v = 0; v < kVectors; ++v) {
        sums[0][v] = shift_in(sums[0][v], v + 1 < kVectors ? sums[0][v + 1] : Integers{});
      }
    }
    if ((flags & kLast) != 0 && !a.keeps_sums) {
      finish<kVectors>(a, sums[0], row);
    } else {
#pragma GCC unroll 28
      for (int v = 0; v < kVectors; ++v) store(partial + v * kLanes, sums[0][v]);
    }
  }
}

template <int kVectors>
void tile(const TileArgs& a) {
  if (a.groups == 1) {
    tile<kVectors, false>(a);
  } else {
    tile<kVectors, true>(a);
  }
}

// ---- Packing.

// The planes of a quad. Where a group has no more channels, the last one: its weights are zero.
TACO4J_INLINE void planes_of(const PackArgs& a, int quad, const std::uint8_t* (&planes)[4]) {
  const int group = quad / a.quads_per_group;
  const int first = (quad - group * a.quads_per_group) * 4;
  for (int i = 0; i < 4; ++i) {
    const int channel = first + i < a.channels_per_group ? first + i : a.channels_per_group - 1;
    planes[i] = a.input + (static_cast<std::int64_t>(group) * a.channels_per_group + channel) *
                              a.plane;
  }
}

// kStride: of the image, or 0 for any.
template <int kStride>
TACO4J_INLINE void pack(const PackArgs& a) {
  const Words padding = Words{} + ((a.padding * 0x01010101u) ^ kSignBits);
  const int vectors = a.quad_stride / kLanes;
  // Vectors that take a line.
  const int ahead = kLanes * a.stride >= kLineBytes ? 1 : kLineBytes / (kLanes * a.stride);
  for (int q = 0; q < a.quads; ++q) {
    const std::uint8_t* planes[4];
    planes_of(a, a.first_quad + q, planes);
    if (q + kQuadsAhead < a.quads) {
      const std::uint8_t* later[4];
      planes_of(a, a.first_quad + q + kQuadsAhead, later);
      for (int v = 0; v < vectors; v += ahead) {
        if (a.vectors[v].runs == 0) continue;
        for (const std::uint8_t* plane : later) {
          __builtin_prefetch(plane + a.runs[a.vectors[v].first_run].source, 0);
        }
      }
    }
    std::uint32_t* const part = a.panel + static_cast<std::int64_t>(q) * a.quad_stride;
    for (int v = 0; v < vectors; ++v) {
      const PackVector& vector = a.vectors[v];
      const PackRun* run = a.runs + vector.first_run;
      Words x = padding;
      if (vector.runs == 1 && vector.lanes == (1u << kLanes) - 1) {
        x = interleave(load_pixels<kStride>(planes, run->source, a.stride));
      } else if (vector.runs > 0) {
        Pixels<kStride> pixels{};
        for (int r = 0; r < vector.runs; ++r, ++run) {
          load_lanes(pixels, planes, run->source, run->lanes, a.stride);
        }
        x = select(vector.lanes, interleave(pixels), padding);
      }
      store(part + v * kLanes, (Integers)x);
    }
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

// ---- Tokens.

// x[i][j] and x[j][i] change places: as many times as a lane's number has bits, rows of the first
// half are interleaved with those of the second.
TACO4J_INLINE void transpose(Words (&x)[kLanes]) {
#pragma GCC unroll 4
  for (int step = 1; step < kLanes; step *= 2) {
    Words y[kLanes];
#pragma GCC unroll 8
    for (int i = 0; i < kLanes / 2; ++i) {
      y[2 * i] = __builtin_shufflevector(x[i], x[i + kLanes / 2], TACO4J_LOW);
      y[2 * i + 1] = __builtin_shufflevector(x[i], x[i + kLanes / 2], TACO4J_HIGH);
    }
#pragma GCC unroll 16
    for (int i = 0; i < kLanes; ++i) x[i] = y[i];
  }
}

void pack_tokens(const PackTokensArgs& a) {
  const std::int64_t first = a.first_quad * 4;
  for (int q = 0; q < a.quads; q += kLanes) {
    const int quads = a.quads - q < kLanes ? a.quads - q : kLanes;
    const std::int64_t left = a.features - (first + q * 4);
    const int bytes = static_cast<int>(left < quads * 4 ? left : quads * 4);
    for (int t = 0; t < a.quad_stride; t += kLanes) {
      Words x[kLanes];
#pragma GCC unroll 16
      for (int i = 0; i < kLanes; ++i) {
        x[i] = Words{};
        if (t + i >= a.tokens) continue;
        const Bytes features =
            load_first(a.input + (t + i) * a.features + first + q * 4, bytes);
        x[i] = (Words)features ^ (Words{} + kSignBits);
      }
      transpose(x);
      std::uint32_t* to = a.panel + static_cast<std::int64_t>(q) * a.quad_stride + t;
#pragma GCC unroll 16
      for (int i = 0; i < kLanes; ++i) {
        if (i < quads) store(to + i * a.quad_stride, (Integers)x[i]);
      }
    }
  }
}

// Features beside one another of kLanes tokens, from the sums of `features` of them.
TACO4J_INLINE void load_sums(const FinishTokensArgs& a, int feature, int token,
                             Words (&x)[kLanes]) {
#pragma GCC unroll 16
  for (int i = 0; i < kLanes; ++i) {
    x[i] = feature + i < a.features
               ? (Words)load(a.sums + static_cast<std::int64_t>(feature + i) * a.sum_stride + token)
               : Words{};
  }
  transpose(x);
}

TACO4J_INLINE Floats load_floats(const float* p, int n) {
  return (Floats)load_first(reinterpret_cast<const std::uint8_t*>(p), 4 * n);
}

void finish_bytes(const FinishTokensArgs& a) {
  const Floats least = broadcast(-a.zero_point);
  const Floats most = broadcast(255.0f - a.zero_point);
  for (int t = 0; t < a.tokens; t += kLanes) {
    const int tokens = a.tokens - t < kLanes ? a.tokens - t : kLanes;
    for (int f = 0; f < a.features; f += kVectorBytes) {
      Integers results[kChunkVectors][kLanes] = {};
      for (int c = 0; c < kChunkVectors && f + c * kLanes < a.features; ++c) {
        Words sums[kLanes];
        load_sums(a, f + c * kLanes, t, sums);
        const Floats scale = load_floats(a.scales + f + c * kLanes, a.features - (f + c * kLanes));
#pragma GCC unroll 16
        for (int i = 0; i < kLanes; ++i) {
          Floats scaled = __builtin_convertvector((Integers)sums[i], Floats) * scale;
          if (a.clamps) scaled = clamp(scaled, least, most);
          results[c][i] = nearest(scaled);
        }
      }
      std::uint8_t* output = static_cast<std::uint8_t*>(a.output) + t * a.all_features + f;
      for (int i = 0; i < tokens; ++i) {
        store_first(output + i * a.all_features,
                    narrow(results[0][i], results[1][i], results[2][i], results[3][i],
                           static_cast<int>(a.zero_point)),
                    a.features - f);
      }
    }
  }
}

void finish_floats(const FinishTokensArgs& a) {
  for (int t = 0; t < a.tokens; t += kLanes) {
    const int tokens = a.tokens - t < kLanes ? a.tokens - t : kLanes;
    for (int f = 0; f < a.features; f += kLanes) {
      const int features = a.features - f;
      Words sums[kLanes];
      load_sums(a, f, t, sums);
      const Floats scale = load_floats(a.scales + f, features);
      const Floats bias = load_floats(a.bias + f, features);
      for (int i = 0; i < tokens; ++i) {
        const std::int64_t at = (t + i) * a.all_features + f;
        Floats x = __builtin_convertvector((Integers)sums[i], Floats) * scale + bias;
        if (a.residual != nullptr) x += load_floats(a.residual + at, features);
        x = f32_vector::TACO4J_KERNEL_NAMESPACE::activate(a.epilogue, x);
        store_first(static_cast<std::uint8_t*>(a.output) + 4 * at, (Bytes)x, 4 * features);
      }
    }
  }
}

template <int kMost, int... kVectors>
constexpr Kernels kernels(std::uint8_t offset, std::integer_sequence<int, kVectors...>) {
  return {kLanes, kMost, offset, {nullptr, tile<kVectors + 1>...}, pack,
          pack_tokens, finish_bytes, finish_floats};
}

// With tiles of up to kMost vectors.
template <int kMost>
constexpr Kernels kernels(std::uint8_t offset = 0) {
  return kernels<kMost>(offset, std::make_integer_sequence<int, kMost>());
}

}  // namespace
}  // namespace TACO4J_KERNEL_NAMESPACE
}  // namespace taco4j::qu8_spconv
