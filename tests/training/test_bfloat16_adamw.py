"""AdamW on bfloat16 parameters follows float64 and loses no update; its state goes on from where it was."""

import math

import pytest
import torch

from fanin.training import bfloat16_adamw
from fanin.training.bfloat16_adamw import BFloat16AdamW

MASTERS = ["kahan", "fp32"]


def gradients(steps, size, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [(torch.randn(size, generator=generator) + 1).bfloat16() for _ in range(steps)]


def trained(start, given, master, *, rate=1e-4, decay=0.0, optimizer=None):
    """A parameter and its optimizer after some steps."""
    parameter = torch.nn.Parameter(start.clone())
    optimizer = optimizer or BFloat16AdamW([{"params": [parameter], "weight_decay": decay, "lr": rate}], master)
    for gradient in given:
        parameter.grad = gradient.clone()
        optimizer.step()
        assert parameter.grad is None
    return parameter.detach(), optimizer


def truth(start, given, *, rate=1e-4, decay=0.0):
    """What torch's AdamW makes of the same in float64."""
    wide = torch.nn.Parameter(start.double())
    optimizer = torch.optim.AdamW([wide], rate, weight_decay=decay)
    for gradient in given:
        wide.grad = gradient.double()
        optimizer.step()
    return wide.detach()


def exact(parameter, optimizer, master):
    """The parameter with what is kept beside it."""
    [state] = optimizer.state_dict()["state"].values()
    return state["master"].double() if master == "fp32" else parameter.double() + state["lost"].double()


@pytest.mark.parametrize("decay", [0.0, 0.1])
@pytest.mark.parametrize("master", MASTERS)
def test_it_follows_float64(master, decay):
    start, given = torch.linspace(0.5, 2, 300).bfloat16(), gradients(200, 300)
    parameter, optimizer = trained(start, given, master, decay=decay)
    expected = truth(start, given, decay=decay)
    moved = (expected - start.double()).abs().mean()
    error = (exact(parameter, optimizer, master) - expected).abs()
    # Moments in bfloat16 leave steps a percent or two off; in float32 nothing is.
    assert error.mean() <= moved * (0.02 if master == "kahan" else 1e-4)
    assert error.max() <= moved * (0.1 if master == "kahan" else 1e-3)
    # What the next forward pass reads is that, rounded.
    assert (parameter.double() - expected).abs().max() <= 2**-8 + error.max()


@pytest.mark.parametrize("master", MASTERS)
def test_many_tiny_updates_are_not_lost(master):
    """Each step is 1/40 of bfloat16's spacing: without the master nothing would move."""
    start, given = torch.ones(50, dtype=torch.bfloat16), [torch.ones(50, dtype=torch.bfloat16)] * 400
    parameter, optimizer = trained(start, given, master)
    assert (start - 1e-4).eq(start).all()
    torch.testing.assert_close(exact(parameter, optimizer, master), torch.full((50,), 0.96).double(), rtol=0, atol=1e-3)
    torch.testing.assert_close(parameter.double(), torch.full((50,), 0.96).double(), rtol=0, atol=2**-8)


@pytest.mark.parametrize("master", MASTERS)
def test_the_second_moment_decays(master):
    """A decay of a thousandth is less than half of bfloat16's spacing: to the nearest it would stay where it was."""
    start, big = torch.zeros(400, dtype=torch.bfloat16), torch.full((400,), 8.0).bfloat16()
    _, optimizer = trained(start, [big, *[torch.zeros_like(big)] * 700], master)
    [state] = optimizer.state_dict()["state"].values()
    expected = 64 * 0.001 * 0.999**700
    assert state["exp_avg_sq"].double().mean().item() == pytest.approx(expected, rel=0.02)


@pytest.mark.parametrize("master", MASTERS)
def test_pieces_do_not_matter(master, monkeypatch):
    start, given = torch.linspace(-1, 1, 37).bfloat16().reshape(37, 1), [g[:, None] for g in gradients(5, 37)]
    whole, one = trained(start, given, master)
    monkeypatch.setattr(bfloat16_adamw, "_PIECE", 8)
    pieces, other = trained(start, given, master)
    assert torch.equal(whole, pieces)
    assert_same_state(one, other)


@pytest.mark.parametrize("master", MASTERS)
def test_it_goes_on_from_its_state_bit_for_bit(master):
    start, given = torch.linspace(-1, 1, 40).bfloat16(), gradients(12, 40)
    whole, optimizer = trained(start, given, master)
    half, before = trained(start, given[:5], master)
    parameter = torch.nn.Parameter(half.clone())
    after = BFloat16AdamW([{"params": [parameter], "weight_decay": 0.0, "lr": 1e-4}], master)
    saved = {number: {k: t.clone() for k, t in own.items()} for number, own in before.state_dict()["state"].items()}
    after.load_state_dict({"state": saved})
    for gradient in given[5:]:
        parameter.grad = gradient.clone()
        after.step()
    assert torch.equal(parameter.detach(), whole)
    assert_same_state(after, optimizer)
    assert_same_tensors(saved[0], before.state_dict()["state"][0])  # what was given is not written to


def test_groups_have_their_own_rates_and_parameters_without_gradient_stay():
    first, second, idle = (torch.nn.Parameter(torch.ones(4, dtype=torch.bfloat16)) for _ in range(3))
    optimizer = BFloat16AdamW(
        [{"params": [first, idle], "weight_decay": 0.0}, {"params": [second], "weight_decay": 0.5}], "fp32"
    )
    optimizer.param_groups[0]["lr"], optimizer.param_groups[1]["lr"] = 0.25, 0.5
    first.grad, second.grad = torch.ones_like(first), torch.zeros_like(second)
    optimizer.step()
    assert first.tolist() == [0.75] * 4
    assert second.tolist() == [0.75] * 4  # half of a rate of 0.5 is taken off
    assert idle.tolist() == [1.0] * 4
    assert set(optimizer.state_dict()["state"]) == {0, 2}


@pytest.mark.parametrize(("master", "bytes_each"), [("kahan", 6), ("fp32", 12)])
def test_bytes_of_the_state(master, bytes_each):
    _, optimizer = trained(torch.ones(100, dtype=torch.bfloat16), gradients(1, 100), master)
    [state] = optimizer.state_dict()["state"].values()
    assert sum(tensor.nbytes for name, tensor in state.items() if name != "step") == 100 * bytes_each
    assert math.isclose(float(state["step"]), 1)


def assert_same_state(one, other):
    first, second = (optimizer.state_dict()["state"] for optimizer in (one, other))
    assert first.keys() == second.keys()
    for number in first:
        assert_same_tensors(first[number], second[number])


def assert_same_tensors(first, second):
    assert first.keys() == second.keys()
    for name in first:
        assert torch.equal(first[name], second[name]), name
