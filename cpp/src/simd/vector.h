// Vectors of FANIN_LANES floats through the compiler's vector extensions (GCC and Clang), the few operations that
// differ by instruction set, and the in-register transposes. Included by kernels.cpp only, once per instruction set.
//
// Everything that is compiled per instruction set lives in namespace fanin::FANIN_ISA, and nothing here may use
// inline functions of the standard library: the linker keeps one copy of those, perhaps the one for AVX-512.
#pragma once

#include <cstdint>

#if defined(__AVX512F__)
#include <immintrin.h>
#define FANIN_LANES 16
#elif defined(__AVX2__)
#define FANIN_LANES 8
#else
#define FANIN_LANES 4
#endif

#define FANIN_INLINE inline __attribute__((always_inline))
#define FANIN_LAMBDA_INLINE __attribute__((always_inline))

#if defined(__clang__)
#define FANIN_SHUFFLE(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
#define FANIN_SHUFFLE(a, b, ...) __builtin_shuffle(a, b, VecI{__VA_ARGS__})
#endif

namespace fanin {
namespace FANIN_ISA {

constexpr int kLanes = FANIN_LANES;

typedef float Vec __attribute__((vector_size(4 * FANIN_LANES)));
typedef std::int32_t VecI __attribute__((vector_size(4 * FANIN_LANES)));
typedef float UnalignedVec __attribute__((vector_size(4 * FANIN_LANES), aligned(4), may_alias));

FANIN_INLINE Vec load(const float* p) { return *reinterpret_cast<const UnalignedVec*>(p); }
FANIN_INLINE void store(float* p, Vec v) { *reinterpret_cast<UnalignedVec*>(p) = v; }
FANIN_INLINE Vec splat(float value) { return Vec{} + value; }

// Lane i: x[index[i]].
FANIN_INLINE Vec gather(const float* x, const std::int32_t* index) {
#if FANIN_LANES == 16
  return reinterpret_cast<Vec>(_mm512_mask_i32gather_ps(_mm512_setzero_ps(), static_cast<__mmask16>(-1),
                                                        _mm512_loadu_si512(index), x, 4));
#else
  Vec v{};
  for (int i = 0; i < kLanes; ++i) v[i] = x[index[i]];
  return v;
#endif
}
FANIN_INLINE Vec gather(const float* x, const std::uint16_t* index) {
#if FANIN_LANES == 16
  const __m512i wide = _mm512_maskz_cvtepu16_epi32(
      static_cast<__mmask16>(-1), _mm256_loadu_si256(reinterpret_cast<const __m256i*>(index)));
  return reinterpret_cast<Vec>(_mm512_mask_i32gather_ps(_mm512_setzero_ps(), static_cast<__mmask16>(-1), wide, x, 4));
#else
  Vec v{};
  for (int i = 0; i < kLanes; ++i) v[i] = x[index[i]];
  return v;
#endif
}

// Lane i: 0, 1, 2, ...
FANIN_INLINE VecI lane_numbers() {
  VecI v{};
  for (int i = 0; i < kLanes; ++i) v[i] = i;
  return v;
}

// True where any lane of a comparison's result is set.
FANIN_INLINE bool any(VecI mask) {
#if FANIN_LANES == 16
  return _mm512_test_epi32_mask(reinterpret_cast<__m512i>(mask), reinterpret_cast<__m512i>(mask)) != 0;
#else
  std::int32_t bits = 0;
  for (int i = 0; i < kLanes; ++i) bits |= mask[i];
  return bits != 0;
#endif
}

// The greater of the two; NaN in v stays NaN.
FANIN_INLINE Vec at_least(float floor, Vec v) {
#if FANIN_LANES == 16
  const __m512 low = _mm512_set1_ps(floor);
  return reinterpret_cast<Vec>(_mm512_maskz_max_ps(static_cast<__mmask16>(-1), low, reinterpret_cast<__m512>(v)));
#else
  return splat(floor) > v ? splat(floor) : v;
#endif
}

// -|v|.
FANIN_INLINE Vec negative_magnitude(Vec v) {
  return reinterpret_cast<Vec>(reinterpret_cast<VecI>(v) | (-2147483647 - 1));
}

// 1 / v for v in [1, 2].
FANIN_INLINE Vec reciprocal(Vec v) {
#if FANIN_LANES == 16
  Vec r = reinterpret_cast<Vec>(_mm512_maskz_rcp14_ps(static_cast<__mmask16>(-1), reinterpret_cast<__m512>(v)));
  return r * (2.0f - v * r);  // one Newton step: 14 bits -> 28
#else
  return 1.0f / v;
#endif
}

// interleave<d>(a, b): lanes without bit d from a, lanes with bit d from b moved up by d;
// exchange<d>(a, b): lanes without bit d from a moved down by d, lanes with bit d from b.
template <int d>
FANIN_INLINE Vec interleave(Vec a, Vec b);
template <int d>
FANIN_INLINE Vec exchange(Vec a, Vec b);

#define FANIN_INTERLEAVE(d, ...)                                                     \
  template <>                                                                  \
  FANIN_INLINE Vec interleave<d>(Vec a, Vec b) {                               \
    return FANIN_SHUFFLE(a, b, __VA_ARGS__);                                   \
  }
#define FANIN_EXCHANGE(d, ...)                                                  \
  template <>                                                                  \
  FANIN_INLINE Vec exchange<d>(Vec a, Vec b) {                                 \
    return FANIN_SHUFFLE(a, b, __VA_ARGS__);                                   \
  }
#if FANIN_LANES == 16
FANIN_INTERLEAVE(8, 0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23)
FANIN_EXCHANGE(8, 8, 9, 10, 11, 12, 13, 14, 15, 24, 25, 26, 27, 28, 29, 30, 31)
FANIN_INTERLEAVE(4, 0, 1, 2, 3, 16, 17, 18, 19, 8, 9, 10, 11, 24, 25, 26, 27)
FANIN_EXCHANGE(4, 4, 5, 6, 7, 20, 21, 22, 23, 12, 13, 14, 15, 28, 29, 30, 31)
FANIN_INTERLEAVE(2, 0, 1, 16, 17, 4, 5, 20, 21, 8, 9, 24, 25, 12, 13, 28, 29)
FANIN_EXCHANGE(2, 2, 3, 18, 19, 6, 7, 22, 23, 10, 11, 26, 27, 14, 15, 30, 31)
FANIN_INTERLEAVE(1, 0, 16, 2, 18, 4, 20, 6, 22, 8, 24, 10, 26, 12, 28, 14, 30)
FANIN_EXCHANGE(1, 1, 17, 3, 19, 5, 21, 7, 23, 9, 25, 11, 27, 13, 29, 15, 31)
#elif FANIN_LANES == 8
FANIN_INTERLEAVE(4, 0, 1, 2, 3, 8, 9, 10, 11)
FANIN_EXCHANGE(4, 4, 5, 6, 7, 12, 13, 14, 15)
FANIN_INTERLEAVE(2, 0, 1, 8, 9, 4, 5, 12, 13)
FANIN_EXCHANGE(2, 2, 3, 10, 11, 6, 7, 14, 15)
FANIN_INTERLEAVE(1, 0, 8, 2, 10, 4, 12, 6, 14)
FANIN_EXCHANGE(1, 1, 9, 3, 11, 5, 13, 7, 15)
#else
FANIN_INTERLEAVE(2, 0, 1, 4, 5)
FANIN_EXCHANGE(2, 2, 3, 6, 7)
FANIN_INTERLEAVE(1, 0, 4, 2, 6)
FANIN_EXCHANGE(1, 1, 5, 3, 7)
#endif
#undef FANIN_INTERLEAVE
#undef FANIN_EXCHANGE

// Transposes the square of kLanes vectors in place.
template <int d = kLanes / 2>
FANIN_INLINE void transpose(Vec* v) {
  for (int i = 0; i < kLanes; ++i) {
    if (i & d) continue;
    Vec low = interleave<d>(v[i], v[i + d]);
    v[i + d] = exchange<d>(v[i], v[i + d]);
    v[i] = low;
  }
  if constexpr (d > 1) transpose<d / 2>(v);
}

// Lane i of the result is the sum of the lanes of v[i]; overwrites v.
template <int d = kLanes / 2>
FANIN_INLINE Vec sum_lanes(Vec* v) {
  for (int i = 0; i < d; ++i) v[i] = interleave<d>(v[i], v[i + d]) + exchange<d>(v[i], v[i + d]);
  if constexpr (d > 1) return sum_lanes<d / 2>(v);
  return v[0];
}

// Sum of the lanes of one vector.
template <int d = kLanes / 2>
FANIN_INLINE float sum_lanes(Vec v) {
  v += exchange<d>(v, v);
  if constexpr (d > 1) return sum_lanes<d / 2>(v);
  return v[0];
}

}  // namespace FANIN_ISA
}  // namespace fanin
