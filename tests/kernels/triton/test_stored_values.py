"""Weights in few bits: every code is read as torch reads it, and rounding gives the bits that are defined."""

import pytest
import torch

from fanin.kernels.rounding import round_stochastically
from fanin.kernels.spec import SparseWeights

FORMATS = pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float8_e4m3fn], ids=["bf16", "fp8"])


def _codes(values):
    return values.view(torch.uint16 if values.dtype is torch.bfloat16 else torch.uint8)


@FORMATS
def test_codes_are_read_as_torch_reads_them(triton, dtype):
    """All of float8, and each sign and exponent of bfloat16 with some mantissas."""
    codes = torch.arange(2**8) if dtype is torch.float8_e4m3fn else torch.arange(0, 2**16, 37)
    weight = codes.to(torch.uint8 if dtype is torch.float8_e4m3fn else torch.uint16).view(dtype)[:, None]
    layer = SparseWeights(weight, torch.zeros(len(codes), 1, dtype=torch.uint16), None, 1, 1)
    logits = triton.forward(layer, torch.ones(1, 1))[0]
    torch.testing.assert_close(logits, weight[:, 0].float(), rtol=0, atol=0, equal_nan=True)


@FORMATS
@pytest.mark.parametrize("first", [0, 2**32 - 1000, 2**40 + 7])
def test_rounding_gives_the_defined_bits(triton, dtype, first):
    generator = torch.Generator().manual_seed(first % 1000)
    bits = torch.randint(-(2**31), 2**31, (3000,), generator=generator).to(torch.int32)
    usual = torch.randn(3000, generator=generator) * 10.0 ** torch.randint(-6, 4, (3000,), generator=generator)
    edges = torch.tensor([0.0, -0.0, 448, 449, 3.4e38, torch.inf, -torch.inf, torch.nan, 2**-6, 2**-9, 1e-45])
    values = torch.cat([bits.view(torch.float32), usual, edges, -edges])
    for seed, step in ((0, 1), (2**63 - 1, 2**31)):
        out = torch.empty(values.shape, dtype=dtype)
        triton.round_into(values, out, seed, step, first)
        assert torch.equal(_codes(out), _codes(round_stochastically(values, dtype, seed, step, first)))
