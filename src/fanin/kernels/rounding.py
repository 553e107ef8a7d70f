"""Stochastic rounding to bfloat16 and float8 (e4m3), defined exactly: every backend rounds a float32 to the same bits.

Rounding up with the probability of the part that is cut off keeps the expectation, so weights can be stored in few bits
and updated in place without a float32 copy (Gupta et al., ICML 2015). The random bits are counter-based: those of an
element depend on (seed, step, number of the element) alone, so they are fresh every step, need no state but the
step's number, and are the same for any chunk, any number of threads and any backend.

bfloat16: 16 random bits are added below the mantissa, then the lower half is cut off. float8 has four exponent bits and
three of mantissa; its step halves with every binade down to 2^-6, and below it stays 2^-9. Adding 20 random bits below
the mantissa is unbiased for normal numbers only, so a magnitude below 2^-6 is moved up by 2^-6 first, into the binade
whose step is 2^-9, and its code down by as much. The sum rounds it to a multiple of 2^-29, as float32 weights of that
size are rounded in every update.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from fanin.kernels.drawing import mix_seed

if TYPE_CHECKING:
    from torch import Tensor

_WORD = 0xFFFF_FFFF
_MULTIPLY_1 = 0x7FEB_352D
_MULTIPLY_2 = 0x846C_A68B
_INFINITY = 0x7F80_0000  # bits of a float32
_LARGEST_BFLOAT16 = 0x7F7F_0000
_LARGEST_FLOAT8 = 0x43E0_0000  # 448
_SMALLEST_NORMAL_FLOAT8 = 0x3C80_0000  # 2^-6
_FLOAT8_EXPONENT = (127 - 7) << 23  # difference of the exponents' biases


def random_bits(seed: int, step: int, elements: Tensor) -> Tensor:
    """The 32 random bits of each element in one step.

    With the halves k0 (lower) and k1 of ``mix_seed(seed, step)``, and low and high of the element's number::

        h = mix32(high)
        v = low ^ k0 ^ h;  v ^= v >> 16;  v *= 0x7feb352d;  v ^= v >> 15
        v ^= k1 ^ h;       v *= 0x846ca68b;  v ^= v >> 16

    modulo 2^32, where mix32 is the same with k0 = k1 = h = 0 (the lowbias32 function of Wellons' hash prospector).
    mix32(0) is 0, so a layer of fewer than 2^32 weights needs no more than the last two lines.

    Args:
        seed: of the layer, 63 bits.
        step: number of the step, from 1; 0 for the weights at the start.
        elements: int64, any shape: ``label * F + slot`` for the weight (label, slot) of an (L, F) layer.

    Returns:
        int64 of the same shape, in [0, 2^32).

    >>> random_bits(0, 1, torch.arange(3)).tolist() == random_bits(0, 1, torch.arange(5))[:3].tolist()
    True
    """
    key = mix_seed(seed, step)
    high = _mix32(elements >> 32)
    return _mix32((elements & _WORD) ^ (key & _WORD) ^ high, (key >> 32) ^ high)


def _mix32(value: Tensor, between: Tensor | int = 0) -> Tensor:
    """``value`` (int64, in [0, 2^32)) mixed in two rounds, with ``between`` put in after the first one."""
    value = value ^ (value >> 16)
    value = (value * _MULTIPLY_1) & _WORD
    value = value ^ (value >> 15)
    value = ((value ^ between) * _MULTIPLY_2) & _WORD
    return value ^ (value >> 16)


def round_stochastically(values: Tensor, dtype: torch.dtype, seed: int, step: int, first: int = 0) -> Tensor:
    """``values`` rounded to one of the two neighbours in ``dtype``, each with the nearness of the other.

    The expectation is the value itself wherever the value lies between the largest numbers of ``dtype``; beyond it
    saturates there (448 in float8). NaN stays NaN, of the bits 0x7fc0 or 0x7f; infinity stays infinity in bfloat16 and
    becomes NaN in float8, which has none. The sign of zero stays.

    Args:
        values: float32, any shape.
        dtype: torch.bfloat16 or torch.float8_e4m3fn.
        seed: of the layer, 63 bits.
        step: number of the step, from 1; 0 for the weights at the start.
        first: number of the first value among the layer's elements; the others follow in row-major order.

    Returns:
        Of ``dtype`` and the same shape.

    >>> values = torch.full((4000,), 1 + 2**-5)
    >>> rounded = round_stochastically(values, torch.float8_e4m3fn, seed=0, step=1).float()
    >>> rounded.unique().tolist(), round(rounded.mean().item(), 2)
    ([1.0, 1.125], 1.03)
    """
    elements = torch.arange(first, first + values.numel(), device=values.device)
    bits = random_bits(seed, step, elements).view(values.shape)
    raw = values.contiguous().view(torch.int32)
    magnitude = raw & 0x7FFF_FFFF
    if dtype is torch.bfloat16:
        code = (magnitude.clamp_max(_LARGEST_BFLOAT16) + (bits >> 16).int()) >> 16
        code |= (raw >> 16) & 0x8000
        code = torch.where(magnitude == _INFINITY, raw >> 16 & 0xFFFF, code)
        code = torch.where(magnitude > _INFINITY, 0x7FC0, code)
        return code.to(torch.uint16).view(dtype)
    assert dtype is torch.float8_e4m3fn
    capped = magnitude.clamp_max(_LARGEST_FLOAT8)
    moved = (capped.view(torch.float32) + 2.0**-6).view(torch.int32)
    small = capped < _SMALLEST_NORMAL_FLOAT8
    aligned = torch.where(small, moved - _SMALLEST_NORMAL_FLOAT8, capped - _FLOAT8_EXPONENT)
    code = (aligned + (bits >> 12).int()) >> 20
    code |= (raw >> 24) & 0x80
    code = torch.where(magnitude >= _INFINITY, 0x7F, code)
    return code.to(torch.uint8).view(dtype)
