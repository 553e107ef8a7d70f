"""Index sets drawn, pruned and regrown bit for bit as the reference does."""

import math
from dataclasses import replace

import pytest
import torch

from fanin.kernels.reference import ReferenceBackend
from fanin.kernels.spec import Moments, Prune
from kernel_checks import clone


@pytest.mark.parametrize(
    ("sets", "F", "D"), [(1, 1, 1), (3, 5, 5), (700, 7, 50), (5, 9, 65_537), (7, 3, 2_000_000_000)]
)
@pytest.mark.parametrize("seed", [0, 2**31, 2**63 - 1])
def test_draws_are_those_of_the_reference(triton, sets, F, D, seed):
    index = triton.draw_index(sets, F, D, seed)
    expected = ReferenceBackend().draw_index(sets, F, D, seed)
    assert index.dtype == expected.dtype
    assert torch.equal(index, expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float8_e4m3fn], ids=["fp32", "bf16", "fp8"])
@pytest.mark.parametrize(
    ("shape", "prune", "inputs"),
    [
        ((40, 20, 8, 1), Prune(0.3), None),
        ((41, 20, 8, 4), Prune(1.0, 0.2), 9),
        ((16, 70_000, 5, 3), Prune(0.7, 0.1), None),
        ((20, 9, 9, 4), Prune(1.0), None),
    ],
    ids=str,
)
def test_rewiring_is_that_of_the_reference(triton, make_layer, shape, prune, inputs, dtype):
    layer = make_layer(*shape)
    layer.weight[1, 0], layer.weight[2, 1], layer.weight[3] = math.nan, math.inf, 0
    layer = replace(layer, weight=layer.weight.to(dtype))
    twin = clone(layer)
    states = [Moments(tuple(torch.ones(layer.weight.shape) for _ in range(2))) for _ in range(2)]
    replaced = triton.rewire(layer, states[0], prune, 5, inputs)
    assert torch.equal(replaced, ReferenceBackend().rewire(twin, states[1], prune, 5, inputs))
    assert torch.equal(layer.index, twin.index)
    torch.testing.assert_close(layer.weight.float(), twin.weight.float(), rtol=0, atol=0, equal_nan=True)
    assert all(map(torch.equal, states[0].weight, states[1].weight))
