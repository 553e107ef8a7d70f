// Weights stored in fewer bits than float: widening, and the stochastic rounding that fanin/kernels/rounding.py defines,
// bit for bit. Code of every instruction set includes this, so nothing here may leave a function behind for the linker
// to choose among.
#pragma once

#include <cstdint>

#include "fanin/layer.h"

#define FANIN_LOCAL static inline __attribute__((always_inline))

namespace fanin {
namespace {

FANIN_LOCAL std::uint32_t bits_of(float value) { return __builtin_bit_cast(std::uint32_t, value); }
FANIN_LOCAL float float_of(std::uint32_t bits) { return __builtin_bit_cast(float, bits); }

// `value` mixed in two rounds, with `between` put in after the first one.
FANIN_LOCAL std::uint32_t mix32(std::uint32_t value, std::uint32_t between = 0) {
  value ^= value >> 16;
  value *= 0x7FEB352Du;
  value ^= value >> 15;
  value = (value ^ between) * 0x846CA68Bu;
  return value ^ (value >> 16);
}

constexpr std::uint32_t kInfinityBits = 0x7F800000u;

struct Bfloat16 {
  using Code = std::uint16_t;

  FANIN_LOCAL float widen(Code code) { return float_of(static_cast<std::uint32_t>(code) << 16); }

  FANIN_LOCAL Code round(float value, std::uint32_t random) {
    constexpr std::uint32_t kLargest = 0x7F7F0000u;
    const std::uint32_t raw = bits_of(value), magnitude = raw & 0x7FFFFFFFu;
    std::uint32_t code = (magnitude < kLargest ? magnitude : kLargest) + (random >> 16);
    code = magnitude == kInfinityBits ? kInfinityBits : code;
    code = (code | (raw & 0x80000000u)) >> 16;
    return static_cast<Code>(magnitude > kInfinityBits ? 0x7FC0u : code);
  }
};

struct Float8 {
  using Code = std::uint8_t;
  static constexpr std::uint32_t kSmallestNormal = 0x3C800000u;       // 2^-6
  static constexpr std::uint32_t kExponent = (127u - 7u) << 23;  // difference of the exponents' biases

  // Below the smallest normal number the code counts steps of 2^-9, as the mantissa does between 2^-6 and 2^-5. No
  // denormal float is met on the way: the processor may have been told to take those for zero.
  FANIN_LOCAL float widen(Code code) {
    const std::uint32_t magnitude = (code & 0x7Fu) << 20;
    const float small = float_of(magnitude + kSmallestNormal) - float_of(kSmallestNormal);
    std::uint32_t bits = magnitude < (8u << 20) ? bits_of(small) : magnitude + kExponent;
    bits = magnitude == 0x7F00000u ? 0x7FC00000u : bits;
    return float_of(bits | (code & 0x80u) << 24);
  }

  FANIN_LOCAL Code round(float value, std::uint32_t random) {
    constexpr std::uint32_t kLargest = 0x43E00000u;  // 448
    const std::uint32_t raw = bits_of(value), magnitude = raw & 0x7FFFFFFFu;
    const std::uint32_t capped = magnitude < kLargest ? magnitude : kLargest;
    const std::uint32_t moved = bits_of(float_of(capped) + float_of(kSmallestNormal));
    const std::uint32_t aligned = capped < kSmallestNormal ? moved - kSmallestNormal : capped - kExponent;
    const std::uint32_t code = ((aligned + (random >> 12)) >> 20) | (raw >> 31 << 7);
    return static_cast<Code>(magnitude >= kInfinityBits ? 0x7Fu : code);
  }
};

// Where weight number `at` of a layer lies.
FANIN_LOCAL void* weight_place(const Layer& layer, std::int64_t at) {
  return static_cast<char*>(layer.weight) + at * bytes_of(layer.storage);
}

template <class Format>
FANIN_LOCAL void widen_as(const void* in, std::int64_t n, float* out) {
  const auto* __restrict codes = static_cast<const typename Format::Code*>(in);
  float* __restrict values = out;
  for (std::int64_t i = 0; i < n; ++i) values[i] = Format::widen(codes[i]);
}

// The floats that n codes stand for.
FANIN_LOCAL void widen_codes(Storage storage, const void* codes, std::int64_t n, float* out) {
  if (storage == Storage::bf16) {
    widen_as<Bfloat16>(codes, n, out);
  } else {
    widen_as<Float8>(codes, n, out);
  }
}

// Numbers of elements have 64 bits, those of a loop 32: it stops where the upper half changes.
template <class Format>
FANIN_LOCAL void round_as(const float* values, std::uint64_t key, std::int64_t first, std::int64_t n, void* out) {
  auto* codes = static_cast<typename Format::Code*>(out);
  while (n > 0) {
    const auto low = static_cast<std::uint32_t>(first);
    const std::uint32_t high = mix32(static_cast<std::uint32_t>(first >> 32));
    const std::uint32_t before = static_cast<std::uint32_t>(key) ^ high;
    const std::uint32_t between = static_cast<std::uint32_t>(key >> 32) ^ high;
    const std::int64_t to_next = (std::int64_t{1} << 32) - low;
    const std::int64_t count = n < to_next ? n : to_next;
    const float* __restrict from = values;
    typename Format::Code* __restrict to = codes;
    for (std::int64_t i = 0; i < count; ++i) {
      to[i] = Format::round(from[i], mix32((low + static_cast<std::uint32_t>(i)) ^ before, between));
    }
    values += count;
    codes += count;
    first += count;
    n -= count;
  }
}

// Rounds n values, the elements first, first + 1, ..., to the codes `out`; key is that of the step.
FANIN_LOCAL void round_values(Storage storage, const float* values, std::uint64_t key, std::int64_t first,
                              std::int64_t n, void* out) {
  if (storage == Storage::bf16) {
    round_as<Bfloat16>(values, key, first, n, out);
  } else {
    round_as<Float8>(values, key, first, n, out);
  }
}

}  // namespace
}  // namespace fanin
