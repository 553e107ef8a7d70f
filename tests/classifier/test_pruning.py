"""Which connections are pruned, against sorting all of them in float64."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fanin.classifier import group_scores as group_scores_module
from fanin.classifier.group_scores import group_scores
from fanin.classifier.pruning import Pruning
from fanin.kernels.spec import Prune


@st.composite
def shapes(draw):
    """L, D, F, G."""
    D = draw(st.integers(1, 20))
    return draw(st.integers(1, 40)), D, draw(st.integers(1, D)), draw(st.sampled_from([1, 2, 3, 16, 50]))


def pruned(layer, pruning, prune, inputs, block_sets=None):
    blocks = list(pruning.slots(layer, prune, inputs, block_sets))
    starts = torch.tensor([0, *[len(mask) for _, mask in blocks]]).cumsum(0)
    assert [first for first, _ in blocks] == starts[:-1].tolist()
    mask = torch.cat([mask for _, mask in blocks])
    assert mask.shape == layer.index.shape
    return mask


def slot_scores(layer, how):
    """Lists of float64 scores, a list a set."""
    groups = layer.weight.double().abs().split(layer.group_size)
    return [(group.mean(0) if how == "mean" else group.amax(0)).tolist() for group in groups]


def spare(layer, inputs):
    return [inputs - sum(i < inputs for i in row) for row in layer.index.tolist()]


def expected(layer, pruning, prune, inputs):
    """Slots (set, slot) to prune, by the words of the documentation."""
    F = layer.weight.shape[1]
    share, below = math.floor(prune.fraction * F), math.inf if prune.threshold is None else prune.threshold
    scores, room = slot_scores(layer, pruning.group_score), spare(layer, inputs)
    if pruning.scope == "layer":
        scores = [torch.tensor(row).float().tolist() for row in scores]  # as it compares them
    cap = [min(share, n) if pruning.scope == "set" else min(F - 1, n) for n in room]
    found = []
    for s, row in enumerate(scores):
        weakest = sorted((score, s, slot) for slot, score in enumerate(row))[: cap[s]]
        found += [slot for slot in weakest if slot[0] < below]
    if pruning.scope == "layer":
        found = sorted(found)[: sum(min(share, n) for n in room)]
    return {(s, slot) for _, s, slot in found}


@given(
    shapes(),
    st.sampled_from(["set", "layer"]),
    st.sampled_from(["mean", "max"]),
    st.floats(0, 1),
    st.sampled_from([None, 0.1, 0.5]),
    st.booleans(),
    st.sampled_from([None, 1, 3]),
    st.data(),
)
def test_the_weakest_are_pruned(make_layer, shape, scope, how, fraction, threshold, ties, block_sets, data):
    L, D, F, G = shape
    layer = make_layer(L, D, F, G, seed=L)
    if ties:
        layer.weight.mul_(3).round_()
    inputs = data.draw(st.integers(1, D))
    pruning, prune = Pruning(scope, how), Prune(fraction, threshold)
    mask = pruned(layer, pruning, prune, inputs, block_sets)
    assert {tuple(slot) for slot in mask.nonzero().tolist()} == expected(layer, pruning, prune, inputs)


def test_the_layer_prunes_as_many_as_the_sets_would_but_elsewhere(make_layer):
    layer = make_layer(200, 64, 10)
    layer.weight[:50] *= 0.01
    by_set = pruned(layer, Pruning(), Prune(0.2), 64)
    by_layer = pruned(layer, Pruning("layer"), Prune(0.2), 64)
    assert int(by_set.sum()) == int(by_layer.sum()) == 400
    assert int(by_layer[:50].sum()) > 380
    assert int(by_layer.sum(1).max()) == 9, "a whole set was pruned"


def test_what_is_not_finite_stays(make_layer):
    layer = make_layer(30, 40, 5)
    layer.weight[4] = math.nan
    layer.weight[9, 2] = -math.inf
    for scope in ("set", "layer"):
        mask = pruned(layer, Pruning(scope), Prune(1.0), 40)
        assert not mask[4].any()
        assert not mask[9, 2]
        assert mask[9].sum() == 4


@pytest.mark.parametrize("how", ["mean", "max"])
@pytest.mark.parametrize(("L", "G"), [(50, 1), (50, 3), (50, 50), (7, 100)])
@pytest.mark.parametrize("block", [1, 24, 10_000])
def test_groups_speak_with_one_voice_whatever_the_blocks(how, L, G, block, monkeypatch):
    monkeypatch.setattr(group_scores_module, "BLOCK_VALUES", block)
    values = torch.rand(L, 4, generator=torch.Generator().manual_seed(0))
    sets = torch.arange(-(-L // G))[::2]
    asked = []

    def some(labels):
        asked.append(len(labels))
        return values[labels]

    found = group_scores(sets, G, L, 4, how, some)
    truth = [group.mean(0) if how == "mean" else group.amax(0) for group in values.split(G)]
    torch.testing.assert_close(found, torch.stack(truth)[sets])
    assert max(asked) * 4 <= max(block, 4)
