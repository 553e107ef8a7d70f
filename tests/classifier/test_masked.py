"""The masked layer: connections anywhere, as many as the fixed fan-in layer has."""

import copy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse

from fanin.classifier.masked import MaskedLinear
from fanin.classifier.sparse import SparseLinear
from fanin.errors import CheckpointError, ConfigError
from fanin.kernels.spec import SGD, AdamW, Loss, Prune

L, D, F = 40, 15, 4


def _as_csr(layer):
    return sparse.csr_array((layer.weight.detach() * layer.mask).numpy())


def _check(layer):
    assert int(layer.mask.sum()) == layer.connections == layer.out_features * layer.fan_in
    assert not layer.weight[~layer.mask].any()
    assert not any(t[~layer.mask].any() for n, t in layer.optimizer_state().items() if n.startswith("weight"))


def test_it_starts_from_the_connections_of_the_sparse_layer():
    layer, twin = MaskedLinear(D, L, F, seed=5), SparseLinear(D, L, F, seed=5)
    expected = torch.zeros(L, D, dtype=torch.bool).scatter(1, twin.index.long(), torch.ones(L, F, dtype=torch.bool))
    assert torch.equal(layer.mask, expected)
    _check(layer)


@pytest.mark.parametrize("chunk_size", [3, 1000])
def test_the_smallest_weights_of_the_layer_go_and_others_come_anywhere(chunk_size, make_positives):
    layer = MaskedLinear(D, L, F, chunk_size=chunk_size)
    layer.train_step(torch.randn(9, D), make_positives(9, L), Loss.BCE, AdamW(0.1))
    mask, weight = layer.mask.clone(), layer.weight.detach().clone()
    gained = layer.rewire(Prune(0.3), seed=1)
    count = int(0.3 * L * F)
    places = mask.flatten().nonzero().squeeze(1)
    weakest = places[weight.flatten()[places].abs().argsort(stable=True)[:count]]
    kept = mask.clone()
    kept.view(-1)[weakest] = False
    new = layer.mask & ~kept
    assert int(new.sum()) == int(gained.sum()) == count
    assert torch.equal(new.sum(1), gained.long())
    assert not (new & mask).any()  # what was pruned is not regrown at once
    assert torch.equal(layer.weight[kept], weight[kept])
    assert not layer.weight[new].any()
    assert len(layer.mask.sum(1).unique()) > 1
    _check(layer)


def test_regrowth_is_uniform_over_the_free_places():
    layer = MaskedLinear(6, 5, 2, initial_scale=1.0)
    free, counts = ~layer.mask, torch.zeros(5, 6)
    for seed in range(800):
        twin = copy.deepcopy(layer)
        twin.rewire(Prune(0.3), seed)
        counts += twin.mask & free
    share = counts[free] / 800
    assert share.sum().item() == pytest.approx(3)
    assert share.tolist() == pytest.approx([3 / 20] * 20, abs=0.055)  # 4 standard deviations
    assert not counts[~free].any()


def test_a_threshold_and_learned_inputs_alone():
    layer = MaskedLinear(D, L, F)
    with torch.no_grad():
        layer.weight.masked_fill_(layer.mask, 1.0)
        small = layer.mask.nonzero()[::7][:5]
        layer.weight[small[:, 0], small[:, 1]] = 0.01
    before = layer.mask.clone()
    assert int(layer.rewire(Prune(0.5, threshold=0.05), 3, inputs=6).sum()) == 5
    assert not layer.mask[small[:, 0], small[:, 1]].any()
    assert not (layer.mask & ~before)[:, 6:].any()


@pytest.mark.parametrize("inputs", [0, D + 1])
def test_impossible_inputs_are_refused(inputs):
    with pytest.raises(ConfigError, match=f"inputs={inputs} must lie in 1..{D}"):
        MaskedLinear(D, L, F).rewire(Prune(0.1), 0, inputs)


@given(
    st.integers(1, 6), st.integers(1, 9), st.floats(0, 1), st.integers(1, 4), st.integers(0, 2**62), st.integers(1, 9)
)
def test_any_rewiring_keeps_the_number_of_connections(D, L, fraction, chunk_size, seed, inputs):
    layer = MaskedLinear(D, L, max(1, D - 2), chunk_size=chunk_size, seed=seed)
    for step in range(3):
        before = layer.mask.clone()
        count = int(layer.rewire(Prune(fraction), seed + step, min(inputs, D)).sum())
        assert count <= int(fraction * layer.connections)
        assert int((layer.mask & ~before).sum()) == count
        _check(layer)


def test_full_fan_in_is_never_rewired():
    layer = MaskedLinear(5, 7, 5)
    before = layer.weight.detach().clone()
    assert not layer.rewire(Prune(1.0), 0).any()
    assert torch.equal(layer.weight, before)


def test_what_no_connection_ties_stays_zero_through_training_and_rewiring(make_positives):
    layer = MaskedLinear(D, L, F)
    generator, losses = torch.Generator().manual_seed(0), []
    x, positives = torch.randn(9, D, generator=generator), make_positives(9, L)
    for step in range(60):
        losses.append(layer.train_step(x, positives, Loss.BCE, AdamW(0.05, weight_decay=0.01))[0])
        if step % 10 == 0:
            layer.rewire(Prune(0.2), step)
        _check(layer)
    assert losses[-1] < losses[0] / 3


def test_bytes_are_those_of_compressed_rows():
    layer = MaskedLinear(D, L, F)
    rows = _as_csr(layer)
    sizes = layer.nbytes()
    assert sizes["values"] == rows.data.nbytes == 4 * L * F
    assert sizes["columns"] == rows.indices.nbytes == 4 * L * F
    assert sizes["pointers"] == 8 * (L + 1)
    assert sizes["bias"] == 4 * L
    assert layer.double().nbytes()["values"] == 8 * L * F


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda s: s | {"mask": torch.zeros_like(s["mask"])}, f"has 0 connections; this layer needs {L * F}"),
        (lambda s: s | {"mask": s["mask"].int()}, "must be torch.bool"),
        (lambda s: s | {"mask": s["mask"][:-1]}, rf"of shape \({L}, {D}\)"),
        (lambda s: s | {"weight": torch.ones(L, D)}, "weights where the mask has no connection"),
    ],
)
def test_a_state_that_is_no_masked_layer_is_refused(spoil, words):
    layer = MaskedLinear(D, L, F)
    with pytest.raises(CheckpointError, match=words):
        layer.load_state_dict(spoil(dict(layer.state_dict())))


def test_a_meta_layer_takes_a_state():
    layer = MaskedLinear(D, L, F)
    with torch.device("meta"):
        twin = MaskedLinear(**layer.settings())
    twin.load_state_dict(layer.state_dict(), assign=True)
    assert torch.equal(twin(torch.ones(1, D)), layer(torch.ones(1, D)))


def test_too_large_a_layer_is_refused():
    with pytest.raises(ConfigError, match="3,000,000 labels and 768 inputs"):
        MaskedLinear(768, 3_000_000, 32, device="meta")
    with pytest.raises(ConfigError, match="fan_in=16"):
        MaskedLinear(15, 3, 16)


def test_sgd_without_momentum_masks_its_gradient_too(make_positives):
    layer = MaskedLinear(D, L, F)
    layer.train_step(torch.randn(9, D), make_positives(9, L), Loss.SQUARED_HINGE, SGD(0.1, weight_decay=0.1))
    _check(layer)
