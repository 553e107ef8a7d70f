"""Weights as they are stored: float32, bfloat16 or float8 (e4m3) in, float32 out, and stochastically rounded back.

The bits of a format are taken apart by integer arithmetic, the same on every device and in Triton's interpreter, so
that rounding gives what :func:`fanin.kernels.rounding.round_stochastically` gives, bit for bit.
"""

from __future__ import annotations

import triton
import triton.language as tl

FLOAT32 = tl.constexpr(0)
BFLOAT16 = tl.constexpr(1)
FLOAT8 = tl.constexpr(2)

_INFINITY = tl.constexpr(0x7F80_0000)
_LARGEST_BFLOAT16 = tl.constexpr(0x7F7F_0000)
_LARGEST_FLOAT8 = tl.constexpr(0x43E0_0000)  # 448
_SMALLEST_NORMAL_FLOAT8 = tl.constexpr(0x3C80_0000)  # 2^-6
_FLOAT8_EXPONENT = tl.constexpr((127 - 7) << 23)  # difference of the exponents' biases


@triton.jit
def widened(bits, FORMAT: tl.constexpr):
    """The float32 values of stored weights."""
    if FORMAT == FLOAT32:
        return bits
    elif FORMAT == BFLOAT16:
        return (bits.to(tl.uint32) << 16).to(tl.float32, bitcast=True)
    else:
        code = bits.to(tl.uint32)
        magnitude = code & 0x7F
        normal = ((magnitude << 20) + _FLOAT8_EXPONENT).to(tl.float32, bitcast=True)
        value = tl.where(magnitude < 8, magnitude.to(tl.float32) * 0.001953125, normal)  # 2^-9 apart below 2^-6
        value = tl.where(magnitude == 0x7F, float("nan"), value)
        return tl.where(code >= 0x80, -value, value)


@triton.jit
def narrowed(values, elements, key_low, key_high, FORMAT: tl.constexpr):
    """Float32 values rounded stochastically to the bits that are stored.

    Args:
        values: float32.
        elements: int64 of the same shape, numbers of the values among the layer's weights.
        key_low: of :func:`fanin.kernels.triton.arguments.halves_of_key`; a kernel must not specialise on its value.
        key_high: likewise.
        FORMAT: FLOAT32, BFLOAT16 or FLOAT8.
    """
    if FORMAT == FLOAT32:
        return values
    elif FORMAT == BFLOAT16:
        return _to_bfloat16(values.to(tl.uint32, bitcast=True), random_bits(elements, key_low, key_high))
    else:
        return _to_float8(values.to(tl.uint32, bitcast=True), random_bits(elements, key_low, key_high))


@triton.jit
def _to_bfloat16(raw, random):
    magnitude = raw & 0x7FFF_FFFF
    code = (tl.minimum(magnitude, _LARGEST_BFLOAT16) + (random >> 16)) >> 16
    code = code | ((raw >> 16) & 0x8000)
    code = tl.where(magnitude == _INFINITY, raw >> 16, code)
    return tl.where(magnitude > _INFINITY, 0x7FC0, code).to(tl.uint16)


@triton.jit
def _to_float8(raw, random):
    magnitude = raw & 0x7FFF_FFFF
    capped = tl.minimum(magnitude, _LARGEST_FLOAT8)
    moved = (capped.to(tl.float32, bitcast=True) + 0.015625).to(tl.uint32, bitcast=True)
    small = capped < _SMALLEST_NORMAL_FLOAT8
    aligned = tl.where(small, moved - _SMALLEST_NORMAL_FLOAT8, capped - _FLOAT8_EXPONENT)
    code = (aligned + (random >> 12)) >> 20
    code = code | ((raw >> 24) & 0x80)
    return tl.where(magnitude >= _INFINITY, 0x7F, code).to(tl.uint8)


@triton.jit
def random_bits(elements, key_low, key_high):
    """The 32 random bits of each element, as :func:`fanin.kernels.rounding.random_bits` defines them."""
    high = _mix32((elements >> 32).to(tl.uint32), 0)
    low = elements.to(tl.uint32) ^ tl.cast(key_low, tl.int32).to(tl.uint32) ^ high
    return _mix32(low, tl.cast(key_high, tl.int32).to(tl.uint32) ^ high)


@triton.jit
def _mix32(value, between):
    value = value ^ (value >> 16)
    value = value * 0x7FEB352D
    value = value ^ (value >> 15)
    value = (value ^ between) * 0x846CA68B
    return value ^ (value >> 16)
