"""One behavioural suite for all backends: drawing index sets, pruning and regrowing."""

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from fanin.kernels.drawing import mix_seed
from fanin.kernels.reference import ReferenceBackend
from fanin.kernels.spec import Moments, Prune, index_dtype

SEEDS = [0, 1, 2**31, 2**63 - 1]


@st.composite
def shapes(draw):
    """L, D, F, G."""
    D = draw(st.integers(1, 40))
    return draw(st.integers(1, 90)), D, draw(st.integers(1, D)), draw(st.sampled_from([1, 2, 3, 16, 32]))


def _has_duplicates(index):
    ordered = index.to(torch.int64).sort(dim=1).values
    return bool((ordered[:, 1:] == ordered[:, :-1]).any())


def _assert_uniform(counts, dependence=1.0):
    """Chi-square of counts that should be equal; ``dependence`` widens it for draws without replacement."""
    expected = counts.double().mean()
    statistic = float(((counts - expected) ** 2 / expected).sum()) * dependence
    assert stats.chi2.sf(statistic, len(counts) - 1) > 1e-3
    assert stats.chi2.sf(statistic, len(counts) - 1) < 1 - 1e-3, "more even than chance allows"


@pytest.mark.parametrize(
    ("sets", "F", "D"),
    [(1, 1, 1), (3, 5, 5), (1000, 7, 50), (33, 128, 768), (20, 31, 65_536), (20, 31, 65_537), (7, 3, 2_000_000_000)],
)
@pytest.mark.parametrize("seed", SEEDS)
def test_draw_index_is_the_same_on_every_backend(backend, sets, F, D, seed):
    index = backend.draw_index(sets, F, D, seed)
    assert index.shape == (sets, F)
    assert index.dtype == (torch.uint16 if D <= 65_536 else torch.int32)
    assert torch.equal(index, ReferenceBackend().draw_index(sets, F, D, seed))
    wide = index.to(torch.int64)
    assert 0 <= int(wide.min()) <= int(wide.max()) < D
    assert not _has_duplicates(index)


def test_draws_of_a_set_depend_on_seed_and_set_alone(backend):
    index = backend.draw_index(100, 6, 40, 5)
    assert torch.equal(backend.draw_index(30, 6, 40, 5), index[:30])
    assert not torch.equal(backend.draw_index(100, 6, 40, 6), index)
    assert not torch.equal(index[0], index[1])


def test_index_sets_are_uniform(backend):
    D, F = 50, 8
    index = backend.draw_index(20_000, F, D, 11).to(torch.int64)
    # Counts of draws without replacement vary less than multinomial ones, by (D - F) / (D - 1).
    _assert_uniform(index.flatten().bincount(minlength=D), (D - 1) / (D - F))
    pairs = backend.draw_index(30_000, 2, 6, 12).to(torch.int64).sort(dim=1).values
    counts = (pairs[:, 0] * 6 + pairs[:, 1]).bincount(minlength=36)
    _assert_uniform(counts[counts > 0])
    assert int((counts > 0).sum()) == 15


def test_regrown_inputs_are_uniform_over_the_unused(backend, make_layer):
    D, F = 12, 4
    layer = make_layer(20_000, D, F)
    layer = replace(layer, index=torch.tensor([[9, 0, 5, 2]], dtype=torch.uint16).repeat(20_000, 1))
    backend.rewire(layer, Moments(), Prune(0.5), 3)
    counts = layer.index.to(torch.int64).flatten().bincount(minlength=D)
    unused = [i for i in range(D) if i not in (9, 0, 5, 2)]
    assert int(counts[unused].sum()) == 40_000
    _assert_uniform(counts[unused], 7 / 6)


@pytest.mark.parametrize("D", [20, 70_000])
def test_regrown_inputs_are_uniform_over_the_unused_of_the_first(backend, make_layer, D):
    """Inputs in use beyond the first ones take nothing from what is drawn: the highest are drawn as often as others."""
    index = torch.tensor([[3, D - 1, 0, 15, 12]], dtype=index_dtype(D)).repeat(20_000, 1)
    layer = replace(make_layer(20_000, 20, 5), index=index.clone(), in_features=D)
    backend.rewire(layer, Moments(), Prune(0.6), 3, inputs=10)
    regrown = layer.index.to(torch.int64)[layer.index != index]
    counts = regrown.bincount(minlength=D)
    unused = [1, 2, 4, 5, 6, 7, 8, 9]
    assert int(counts[unused].sum()) == len(regrown) == 60_000
    _assert_uniform(counts[unused], 7 / 5)


def test_sets_with_fewer_spare_inputs_replace_fewer(backend, make_layer):
    layer = make_layer(3, 9, 4)
    layer = replace(layer, index=torch.tensor([[0, 1, 2, 3], [0, 5, 1, 8], [5, 6, 7, 8]], dtype=torch.uint16))
    assert backend.rewire(layer, Moments(), Prune(1.0), 3, inputs=4).tolist() == [0, 2, 4]
    assert [sorted(row) for row in layer.index.tolist()][2] == [0, 1, 2, 3]
    assert layer.index[0].tolist() == [0, 1, 2, 3]


def _state(layer, seed=0):
    """Moments without a zero, so that a zero shows a reset."""
    generator = torch.Generator().manual_seed(seed)
    return Moments(
        tuple(torch.rand(layer.weight.shape, generator=generator) + 0.5 for _ in range(2)),
        () if layer.bias is None else tuple(torch.rand(layer.bias.shape, generator=generator) for _ in range(2)),
    )


def _assert_rewired_as_specified(before, after, old_state, state, prune, replaced, inputs=None):
    """Check a rewiring set by set against the specification's words."""
    L, F = before.weight.shape
    G, inputs = before.group_size, before.in_features if inputs is None else inputs
    assert replaced.dtype == torch.int32
    assert replaced.shape == (len(before.index),)
    assert not _has_duplicates(after.index)
    for s in range(len(before.index)):
        old, new = before.index[s].tolist(), after.index[s].tolist()
        spare = inputs - sum(i < inputs for i in old)
        limit = min(math.floor(prune.fraction * F), spare)
        labels = slice(s * G, min((s + 1) * G, L))
        scores = before.weight[labels].double().abs().mean(0).tolist()
        weakest = sorted(range(F), key=lambda slot, scores=scores: (scores[slot], slot))[:limit]
        pruned = [slot for slot in weakest if prune.threshold is None or scores[slot] < prune.threshold]
        assert int(replaced[s]) == len(pruned) <= limit
        assert not {new[slot] for slot in pruned} & set(old), "an input in use before the step was regrown"
        assert all(0 <= new[slot] < inputs for slot in pruned)
        kept = [slot for slot in range(F) if slot not in pruned]
        assert [new[slot] for slot in kept] == [old[slot] for slot in kept]
        for then, now in zip((before.weight, *old_state.weight), (after.weight, *state.weight), strict=True):
            assert torch.equal(now[labels][:, kept], then[labels][:, kept])
            assert not now[labels][:, pruned].any()


def _copy(layer):
    return replace(layer, weight=layer.weight.clone(), index=layer.index.clone(), bias=layer.bias.clone())


@given(
    shapes(),
    st.floats(0, 1),
    st.sampled_from([None, 1e-9, 0.1, 0.3, math.inf]),
    st.sampled_from(SEEDS),
    st.booleans(),
    st.data(),
)
def test_rewire_as_specified(backend, make_layer, shape, fraction, threshold, seed, ties, data):
    layer = make_layer(*shape, seed=seed % 1000)
    inputs = data.draw(st.none() | st.integers(1, layer.in_features), "inputs")
    if ties:
        layer.weight.mul_(4).round_()
    state, prune = _state(layer), Prune(fraction, threshold)
    before, old_state = _copy(layer), _state(layer)
    replaced = backend.rewire(layer, state, prune, seed, inputs)
    _assert_rewired_as_specified(before, layer, old_state, state, prune, replaced, inputs)
    assert torch.equal(layer.bias, before.bias)
    assert all(map(torch.equal, state.bias, old_state.bias))
    twin, twin_state = _copy(before), _state(before)
    assert torch.equal(ReferenceBackend().rewire(twin, twin_state, prune, seed, inputs), replaced)
    assert torch.equal(twin.index, layer.index)
    assert torch.equal(twin.weight, layer.weight)


@pytest.mark.parametrize(
    ("L", "D", "F", "G", "inputs"),
    [
        (9000, 24, 8, 1, None),
        (9000, 24, 8, 1, 13),
        (4111, 24, 20, 16, None),
        (40, 65_537, 33, 1, None),
        (40, 65_537, 33, 1, 65_536),
        (40, 70_000, 33, 4, 100),
        (77, 65_536, 33, 32, None),
    ],
)
def test_rewire_large_and_wide_layers(backend, make_layer, L, D, F, G, inputs):
    layer, prune = make_layer(L, D, F, G), Prune(0.3)
    state, before, old_state = _state(layer), _copy(layer), _state(layer)
    replaced = backend.rewire(layer, state, prune, 8, inputs)
    if L < 1000:
        _assert_rewired_as_specified(before, layer, old_state, state, prune, replaced, inputs)
    twin, twin_state = _copy(before), _state(before)
    assert torch.equal(ReferenceBackend().rewire(twin, twin_state, prune, 8, inputs), replaced)
    for mine, other in zip(
        (layer.index, layer.weight, *state.weight), (twin.index, twin.weight, *twin_state.weight), strict=True
    ):
        assert torch.equal(mine, other)


@pytest.mark.parametrize("fraction", [k / 100 for k in range(101)])
def test_the_number_pruned_is_floor_of_the_share_in_double(backend, make_layer, fraction):
    layer = make_layer(2, 300, 100)
    assert backend.rewire(layer, Moments(), Prune(fraction), 1).tolist() == [math.floor(fraction * 100)] * 2


def test_full_fan_in_is_left_alone(backend, make_layer):
    layer = make_layer(20, 9, 9, 4)
    before = _copy(layer)
    assert not backend.rewire(layer, _state(layer), Prune(1.0), 1).any()
    assert torch.equal(layer.index, before.index)
    assert torch.equal(layer.weight, before.weight)


def test_fewer_spare_inputs_than_the_fraction(backend, make_layer):
    layer = make_layer(20, 10, 8)
    before, state = _copy(layer), _state(layer)
    replaced = backend.rewire(layer, state, Prune(1.0), 1)
    assert replaced.tolist() == [2] * 20
    _assert_rewired_as_specified(before, layer, _state(layer), state, Prune(1.0), replaced)


@pytest.mark.parametrize("G", [1, 4])
@pytest.mark.parametrize("threshold", [None, 0.2])
def test_non_finite_weights_count_as_the_strongest(backend, make_layer, G, threshold):
    layer = make_layer(16, 30, 6, G)
    layer.weight[3, 2], layer.weight[8, 0], layer.weight[9, 5] = math.nan, math.inf, -math.inf
    before, twin = _copy(layer), _copy(layer)
    prune = Prune(1.0, threshold)
    replaced = backend.rewire(layer, Moments(), prune, 4)
    kept = layer.index == before.index
    assert kept[3 // G, 2]
    assert kept[8 // G, 0]
    assert kept[9 // G, 5]
    assert torch.equal(ReferenceBackend().rewire(twin, Moments(), prune, 4), replaced)
    assert torch.equal(twin.index, layer.index)


@pytest.mark.parametrize(("D", "F", "G"), [(9, 4, 3), (768, 128, 1)])
def test_mistake_02_no_duplicates_at_the_start_and_after_1000_rewirings(backend, make_layer, D, F, G):
    layer = make_layer(8, D, F, G)
    layer = replace(layer, index=backend.draw_index(len(layer.index), F, D, 77))
    assert not _has_duplicates(layer.index)
    generator = torch.Generator().manual_seed(0)
    for step in range(1000):
        layer.weight.normal_(generator=generator)
        before = layer.index.to(torch.int64)
        replaced = backend.rewire(layer, Moments(), Prune(0.3), mix_seed(77, step))
        after = layer.index.to(torch.int64)
        assert replaced.tolist() == [math.floor(0.3 * F)] * len(before)
        assert not _has_duplicates(after)
        assert int(after.max()) < D
        changed = after != before
        assert changed.sum(1).tolist() == replaced.tolist()
        for s in range(len(before)):
            assert not torch.isin(after[s][changed[s]], before[s]).any()


def test_mistake_03_state_of_regrown_slots_is_reset(backend, make_layer):
    layer = make_layer(40, 20, 8, 4)
    state, index = _state(layer), layer.index.clone()
    backend.rewire(layer, state, Prune(0.25), 5)
    regrown = (layer.index != index).repeat_interleave(4, dim=0)
    assert int(regrown.sum()) == 40 * 2
    for tensor in (layer.weight, *state.weight):
        assert not tensor[regrown].any()
        assert tensor[~regrown].all()
