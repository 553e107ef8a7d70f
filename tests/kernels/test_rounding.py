"""Stochastic rounding: exact neighbours and probabilities, the generator against Python integers, its streams."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fanin.kernels.drawing import mix_seed
from fanin.kernels.rounding import random_bits, round_stochastically

BF16, FP8 = torch.bfloat16, torch.float8_e4m3fn
FORMATS = pytest.mark.parametrize("dtype", [BF16, FP8], ids=["bf16", "fp8"])
_WORD = 2**32 - 1


def _numbers(dtype):
    """All finite numbers of a format, ascending, float64; by torch's own conversion, which is exact."""
    codes = torch.arange(2**16, dtype=torch.int32).to(torch.uint16) if dtype is BF16 else torch.arange(256).byte()
    values = codes.view(dtype).double()
    return values[values.isfinite()].unique()


NUMBERS = {dtype: _numbers(dtype) for dtype in (BF16, FP8)}


def _mix32(value, between=0):
    value ^= value >> 16
    value = value * 0x7FEB352D & _WORD
    value ^= value >> 15
    value = (value ^ between) * 0x846CA68B & _WORD
    return value ^ value >> 16


def _bits(seed, step, element):
    key, high = mix_seed(seed, step), _mix32(element >> 32)
    return _mix32(element & _WORD ^ key & _WORD ^ high, key >> 32 ^ high)


def _neighbours(value, dtype):
    """The numbers of the format below and above a value (the value itself twice where it is one of them)."""
    numbers = NUMBERS[dtype]
    above = min(int(torch.searchsorted(numbers, torch.tensor(value, dtype=torch.float64))), len(numbers) - 1)
    if numbers[above] == value:
        return value, value
    return numbers[max(above - 1, 0)].item(), numbers[above].item()


def _rounded(value, dtype, bits, monkeypatch):
    """A value rounded once for each of the given random bits."""
    monkeypatch.setattr("fanin.kernels.rounding.random_bits", lambda *_: bits)
    return round_stochastically(torch.full(bits.shape, value), dtype, 0, 1).double()


def _every_draw(dtype):
    """Each value of the bits that are added, once: 16 of them for bfloat16, 20 for float8."""
    return torch.arange(2**16) << 16 if dtype is BF16 else torch.arange(2**20) << 12


# Both signs, every size: normal numbers, below the smallest normal of each format, just below a power of two, ends.
VALUES = [0.0, 1 + 2**-5, math.pi, -math.e, 1 - 2**-24, 447.9, -433.21, 240.5, 2**-6, -(2**-6) * 1.3, 2**-6 - 2**-30]
VALUES += [0.011, -0.0071, 2**-9, 2**-9 * 0.3, -(2**-10), 2**-20 * 1.7, 3e-5, 1e-3, -(2**-9) * 7.5]


@FORMATS
@pytest.mark.parametrize("value", VALUES, ids=str)
def test_the_expectation_is_the_value(monkeypatch, dtype, value):
    """Over all random bits, not a sample of them."""
    value = torch.tensor(value).item()  # a float32
    low, high = _neighbours(value, dtype)
    rounded = _rounded(value, dtype, _every_draw(dtype), monkeypatch)
    assert set(rounded.unique().tolist()) <= {low, high}
    # Below 2^-6 the sum with 2^-6 rounds a float8 value to a multiple of 2^-29 first; everywhere else nothing is lost.
    lost = 2**-30 if dtype is FP8 and abs(value) < 2**-6 else 0
    assert abs(rounded.mean().item() - value) <= lost


@FORMATS
def test_numbers_of_the_format_stay_themselves(monkeypatch, dtype):
    numbers = NUMBERS[dtype].float()
    for draw in (0, 2**31, _WORD):
        monkeypatch.setattr("fanin.kernels.rounding.random_bits", lambda *_, draw=draw: torch.full(numbers.shape, draw))
        assert torch.equal(round_stochastically(numbers, dtype, 0, 1).float(), numbers)
    monkeypatch.undo()
    zeros = torch.tensor([0.0, -0.0])
    assert round_stochastically(zeros, dtype, 0, 1).float().signbit().tolist() == [False, True]


@FORMATS
@given(st.floats(width=32, allow_nan=False, allow_infinity=False), st.integers(0, 2**63 - 1), st.integers(0, 10**6))
def test_every_value_goes_to_a_neighbour(dtype, value, seed, step):
    largest = NUMBERS[dtype][-1].item()
    capped = min(max(value, -largest), largest)
    rounded = round_stochastically(torch.tensor([value]), dtype, seed, step).double().item()
    assert rounded in _neighbours(capped, dtype)


@FORMATS
def test_saturation_and_what_is_not_finite(dtype):
    largest = NUMBERS[dtype][-1].item()
    beyond = torch.tensor([largest, 448.0001, 465.0, 479.9, 1e30, 3.4e38]).clamp_min(largest)
    for sign in (1, -1):
        rounded = round_stochastically((sign * beyond).expand(100, 6), dtype, 3, 7).float()
        assert (rounded == sign * largest).all()
    bad = torch.tensor([math.nan, math.inf, -math.inf, -math.nan])
    bad = torch.cat([bad, torch.tensor([0x7F800001, -1], dtype=torch.int32).view(torch.float32)])  # NaNs, other bits
    for step in range(50):
        rounded = round_stochastically(bad, dtype, 0, step).view(torch.uint16 if dtype is BF16 else torch.uint8)
        expected = [0x7FC0, 0x7F80, 0xFF80, 0x7FC0, 0x7FC0, 0x7FC0] if dtype is BF16 else [0x7F] * 6
        assert rounded.tolist() == expected


@FORMATS
@pytest.mark.parametrize("size", [2.0**-12, 2.0**-10, 2.0**-8, 2.0**-6, 0.1, 1.0, 20.0, 400.0])
def test_mistake_05_means_are_unbiased_at_every_size(dtype, size):
    """With the bits that training uses: over elements and steps together, and over steps for each element."""
    N, steps = 500, 256
    values = (torch.rand(N, generator=torch.Generator().manual_seed(1)) * 2.24 - 1.12) * size
    values = values.clamp(-448, 448)
    rounded = torch.stack([round_stochastically(values, dtype, 5, step).double() for step in range(1, steps + 1)])
    errors = rounded - values  # (steps, N)
    low, high = torch.tensor([_neighbours(value, dtype) for value in values.tolist()], dtype=torch.float64).T
    variance = (high - values) * (values - low)  # of one rounding
    assert errors.mean().abs() <= 5 * (variance.mean() / errors.numel()).sqrt() + 2**-30
    assert (errors.mean(0).abs() <= 6 * (variance / steps).sqrt() + 2**-30).all()


def test_the_generator_is_the_one_described():
    cases = [
        (0, 1, 0),
        (7, 1, 5),
        (2**62 + 11, 123_456, 2**32 - 1),
        (3, 2, 2**32),
        (3, 2, 2**32 + 1),
        (9, 0, 2**45 + 7),
    ]
    for seed, step, element in cases:
        assert random_bits(seed, step, torch.tensor([element])).tolist() == [_bits(seed, step, element)]


def test_one_by_one_or_together_makes_no_difference():
    values = torch.randn(40, 3, generator=torch.Generator().manual_seed(0))
    for dtype in (BF16, FP8):
        whole = round_stochastically(values, dtype, 4, 9, first=2**32 - 50).float()
        rows = [
            round_stochastically(row, dtype, 4, 9, first=2**32 - 50 + 3 * i).float() for i, row in enumerate(values)
        ]
        assert torch.equal(whole, torch.stack(rows))


def _uniform(seed, step, elements):
    return (random_bits(seed, step, elements).double() + 0.5) / 2**32


def _correlation(a, b):
    return float(torch.corrcoef(torch.stack([a, b]))[0, 1])


@pytest.mark.parametrize("first", [0, 2**31 - 500, 2**32 - 100_000, 2**40])
def test_bits_are_uniform(first):
    n = 200_000
    elements = torch.arange(first, first + n)
    bits = random_bits(1, 1, elements)
    for bit in range(32):
        assert abs((bits >> bit & 1).double().mean() - 0.5) < 5 * 0.5 / n**0.5, bit
    counts = torch.bincount(bits >> 24, minlength=256).double()
    chi_square = ((counts - n / 256) ** 2 / (n / 256)).sum()
    assert abs(chi_square - 255) < 5 * math.sqrt(2 * 255)


@pytest.mark.parametrize(
    ("other_seed", "other_step", "shift"),
    [(1, 2, 0), (1, 3, 0), (1, 2**20 + 1, 0), (2, 1, 0), (1, 1, 1), (1, 1, 64), (1, 1, 2**16), (1, 1, 2**32)]
    + [(1, 2, shift) for shift in (1, 2, 64, 2**32)],
)
def test_streams_are_independent(other_seed, other_step, shift):
    """Of steps that follow each other, of other seeds, of neighbours, of a row and the next, beyond 2^32."""
    n = 100_000
    a, b = _uniform(1, 1, torch.arange(n)), _uniform(other_seed, other_step, torch.arange(n) + shift)
    assert abs(_correlation(a, b)) < 5 / n**0.5
    joint = torch.histogramdd(torch.stack([a, b], 1), bins=[8, 8], range=[0.0, 1.0, 0.0, 1.0]).hist
    chi_square = ((joint - n / 64) ** 2 / (n / 64)).sum()
    assert abs(chi_square - 63) < 5 * math.sqrt(2 * 63)


@pytest.mark.parametrize("F", [1, 3, 32, 64, 768])
def test_no_bias_by_position(F):
    """The mean over many labels is the same for every slot, and the mean over slots and steps for every label."""
    labels, steps = 4096 // F + 64, 32
    elements = torch.arange(labels * F).view(labels, F)
    draws = torch.stack([_uniform(11, step, elements) for step in range(1, steps + 1)])  # (steps, labels, F)
    deviation = 1 / math.sqrt(12)
    assert (draws.mean((0, 1)) - 0.5).abs().max() < 5 * deviation / math.sqrt(steps * labels)
    assert (draws.mean((0, 2)) - 0.5).abs().max() < 5 * deviation / math.sqrt(steps * F)


def test_mistake_04_the_same_element_draws_anew_every_step():
    steps = torch.stack([_uniform(0, step, torch.arange(64)) for step in range(2000)])  # (steps, elements)
    following = torch.stack([torch.corrcoef(torch.stack([s[:-1], s[1:]]))[0, 1] for s in steps.T])
    assert following.abs().max() < 5 / 2000**0.5
    assert len(np.unique(steps.numpy())) > 0.99 * steps.numel()
