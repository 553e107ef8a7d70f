"""The state of every classifier: saved, loaded, copied, moved."""

import copy
import io

import pytest
import torch

from classifier_kinds import UPDATES, D, L, make_batches, same, state_of
from fanin.errors import CheckpointError
from fanin.kernels.spec import SGD, AdamW, Loss


@pytest.mark.parametrize("update", UPDATES, ids=str)
def test_mistake_09_training_continues_bit_for_bit_from_saved_state(make, make_positives, update):
    batches = make_batches(make_positives, 6)
    layer = make(seed=3)
    for x, positives in batches[:3]:
        layer.train_step(x, positives, Loss.BCE, update)
    stream = io.BytesIO()
    torch.save((layer.state_dict(), layer.optimizer_state(), layer.steps), stream)
    stream.seek(0)
    parameters, moments, steps = torch.load(stream, weights_only=True)
    other = make(seed=4)
    other.load_state_dict(parameters)
    other.load_optimizer_state(moments, steps)
    for x, positives in batches[3:]:
        value, dx = layer.train_step(x, positives, Loss.BCE, update)
        value_there, dx_there = other.train_step(x, positives, Loss.BCE, update)
        assert value == value_there
        assert torch.equal(dx, dx_there)
    assert all(map(torch.equal, layer.state_dict().values(), other.state_dict().values()))
    assert all(map(torch.equal, layer.optimizer_state().values(), other.optimizer_state().values()))
    assert layer.steps == other.steps == 6


def test_loaded_state_is_a_copy(make, make_positives):
    (x, positives), update = make_batches(make_positives, 1)[0], SGD(0.1, 0.9)
    layer, other = make(), make()
    layer.train_step(x, positives, Loss.BCE, update)
    other.load_optimizer_state(layer.optimizer_state(), layer.steps)
    before = {name: tensor.clone() for name, tensor in other.optimizer_state().items()}
    layer.train_step(x, positives, Loss.BCE, update)
    assert same(other.optimizer_state(), before)
    assert not same(layer.optimizer_state(), before)


def test_the_state_of_an_untrained_layer_binds_it_to_no_update(make, make_positives):
    layer = make()
    layer.load_optimizer_state(make().optimizer_state(), 0)
    x, positives = make_batches(make_positives, 1)[0]
    layer.train_step(x, positives, Loss.BCE, AdamW(0.1))
    assert layer.steps == 1


def test_a_deep_copy_trains_alike_and_alone(make, make_positives):
    (first, second), update = make_batches(make_positives, 2), AdamW(0.1)
    layer = make()
    layer.train_step(*first, Loss.BCE, update)
    twin = copy.deepcopy(layer)
    value, _ = layer.train_step(*second, Loss.BCE, update)
    after = state_of(layer)
    assert not same(twin.state_dict(), after)
    assert twin.train_step(*second, Loss.BCE, update)[0] == value
    assert same(twin.state_dict(), after)


def test_moments_follow_a_move_to_another_dtype(make, make_positives):
    (x, positives), update = make_batches(make_positives, 1)[0], AdamW(0.1)
    layer = make()
    layer.train_step(x, positives, Loss.BCE, update)
    layer.double()
    assert all(tensor.dtype == torch.float64 for tensor in layer.optimizer_state().values())
    layer.train_step(x.double(), positives, Loss.BCE, update)
    assert layer.float().dtype == torch.float32
    layer.train_step(x, positives, Loss.BCE, update)
    assert layer.steps == 3


def test_settings_build_a_layer_that_takes_the_state(make):
    layer = make(seed=1)
    twin = type(layer)(**layer.settings())
    twin.load_state_dict(layer.state_dict())
    x = torch.ones(2, D)
    torch.testing.assert_close(twin(x), layer(x))
    assert f"out_features={L}" in repr(layer)


def test_a_foreign_optimizer_state_is_refused(make, make_positives):
    layer, (x, positives) = make(), make_batches(make_positives, 1)[0]
    layer.train_step(x, positives, Loss.BCE, AdamW(0.1))
    good = layer.optimizer_state()
    for name in good:
        cut = {**good, name: good[name][:-1]}
        with pytest.raises(CheckpointError, match="optimizer state"):
            make().load_optimizer_state(cut, 1)
    for name in (name for name in good if name.endswith(".0")):
        missing = {other: tensor for other, tensor in good.items() if other != name}
        with pytest.raises(CheckpointError, match="optimizer state"):
            make().load_optimizer_state(missing, 1)
    for name in ("steps.0", "index.0", "head.0", "weight.7", "projection.x"):
        with pytest.raises(CheckpointError, match="optimizer state"):
            make().load_optimizer_state({**good, name: torch.ones(L, 5)}, 1)
