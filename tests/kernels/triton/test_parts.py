"""A part of a layer, as several processes have them, is to the bit what the whole layer has there."""

from dataclasses import replace
from itertools import pairwise

import pytest
import torch

from fanin.kernels.positives import kept_pairs
from fanin.kernels.reference import ReferenceBackend
from fanin.kernels.spec import SGD, AdamW, Loss, Moments, Prune, SharedScores
from fanin.kernels.updates import zero_moments
from kernel_checks import assert_close, clone, emphasised, random_input

FORMATS = pytest.mark.parametrize(
    "dtype", [torch.float32, torch.bfloat16, torch.float8_e4m3fn], ids=["fp32", "bf16", "fp8"]
)
FAR = 2**33 * 3 * 32  # a label whose elements are beyond 32 bits, where groups of any size here begin
# L, D, F, G, and where the layer is cut.
SHAPES = [
    (43, 33, 5, 1, (0, 13, 43)),
    (40, 20, 4, 3, (0, 33, 40)),
    (70, 24, 5, 16, (0, 48, 70)),
    (70, 48, 3, 32, (0, 32, 70)),
]


def _same_bits(one, other):
    return one.dtype == other.dtype and torch.equal(one.view(torch.uint8), other.view(torch.uint8))


def _part(layer, start, stop):
    """The labels start to stop as a layer of their own; whole groups."""
    G = layer.group_size
    return replace(
        layer,
        weight=layer.weight[start:stop].clone(),
        index=layer.index[start // G : -(-stop // G)].clone(),
        bias=layer.bias[start:stop].clone(),
        first_label=layer.first_label + start,
    )


@FORMATS
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_steps_of_parts_are_that_of_the_whole(triton, make_layer, make_positives, shape, dtype):
    L, D, F, G, cuts = shape
    B, update, cluster = 11, AdamW(0.02, eps=1e-4, weight_decay=0.1), G
    whole = make_layer(L, D, F, G)
    whole = replace(whole, weight=whole.weight.to(dtype), rounding_seed=7)
    parts = [_part(whole, *ends) for ends in pairwise(cuts)]
    x, positives = random_input(B, D), emphasised(make_positives(B, L), L)
    shared = SharedScores(random_input(-(-L // cluster), B), cluster)
    moments = zero_moments(update, whole.weight, whole.bias)
    options = {"loss": Loss.BCE, "update": update, "step": 3, "scale": 1 / B}
    expected = triton.train_step(whole, moments, x, positives, shared=shared, **options)
    results = []
    for (start, stop), part in zip(pairwise(cuts), parts, strict=True):
        inside = (positives.indices >= start) & (positives.indices < stop)
        pairs = kept_pairs(positives._replace(indices=positives.indices - start), inside)
        clusters = slice(start // cluster, -(-stop // cluster))
        state = zero_moments(update, part.weight, part.bias)
        own_shared = SharedScores(shared.scores[clusters].contiguous(), cluster)
        results.append(triton.train_step(part, state, x, pairs, shared=own_shared, **options))
        assert _same_bits(part.weight, whole.weight[start:stop])
        assert _same_bits(part.bias, whole.bias[start:stop])
        for own, of_whole in zip(state.weight + state.bias, moments.weight + moments.bias, strict=True):
            assert _same_bits(own, of_whole[start:stop])
        assert_close(results[-1].shared_grad, expected.shared_grad[clusters])
    assert sum(result.loss for result in results) == pytest.approx(expected.loss, rel=1e-6)
    assert_close(sum(result.dx for result in results), expected.dx, 5e-6)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float8_e4m3fn], ids=["bf16", "fp8"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("first", [96, FAR])
def test_weights_are_rounded_by_their_numbers_in_the_whole(triton, make_layer, make_positives, shape, dtype, first):
    """Without a gradient the update is exact, w - w / 8, and what is stored is the rounding's alone."""
    L, D, F, G, _ = shape
    layer = make_layer(L, D, F, G)
    layer = replace(layer, weight=layer.weight.to(dtype), rounding_seed=2**62 + 5, first_label=first)
    twin, elsewhere = clone(layer), replace(clone(layer), first_label=0)
    x, positives = random_input(2, D), make_positives(2, L)
    options = {"loss": Loss.BCE, "update": SGD(0.5, weight_decay=0.25), "step": 9, "scale": 0.0}
    for backend, own in ((triton, layer), (ReferenceBackend(), twin), (triton, elsewhere)):
        backend.train_step(own, Moments(), x, positives, **options)
    assert torch.equal(layer.weight.float(), twin.weight.float())  # zero may be of either sign
    assert not torch.equal(layer.weight.float(), elsewhere.weight.float())


@FORMATS
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_parts_are_rewired_as_the_whole(triton, make_layer, shape, dtype):
    L, D, F, G, cuts = shape
    prune, whole = Prune(0.6), make_layer(L, D, F, G)
    whole = replace(whole, weight=whole.weight.to(dtype), first_label=FAR if G in {1, 16} else 0)
    parts, twin = [_part(whole, *ends) for ends in pairwise(cuts)], clone(whole)
    replaced = triton.rewire(whole, Moments(), prune, 5)
    assert torch.equal(replaced, ReferenceBackend().rewire(twin, Moments(), prune, 5))
    assert torch.equal(whole.index, twin.index)
    assert torch.equal(torch.cat([triton.rewire(part, Moments(), prune, 5) for part in parts]), replaced)
    assert torch.equal(torch.cat([part.index for part in parts]), whole.index)
    assert _same_bits(torch.cat([part.weight for part in parts]), whole.weight)


@pytest.mark.parametrize(("sets", "F", "D"), [(7, 1, 1), (700, 7, 50), (5, 9, 65_537)])
def test_index_sets_are_drawn_by_their_numbers_in_the_whole(triton, sets, F, D):
    whole = triton.draw_index(sets, F, D, 3)
    assert torch.equal(triton.draw_index(sets - 2, F, D, 3, 2), whole[2:])
    for first in (1, 16, 2**31 - 2, 2**40):
        assert torch.equal(triton.draw_index(sets, F, D, 3, first), ReferenceBackend().draw_index(sets, F, D, 3, first))
