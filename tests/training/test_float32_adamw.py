"""AdamW on float32 parameters is torch's, bit for bit, and does not bring torch's compiler with it."""

import subprocess
import sys

import pytest
import torch

from fanin.training.float32_adamw import Float32AdamW

SHAPES = [(7, 5), (5,), (3, 4, 2), (300,)]


def parameters():
    generator = torch.Generator().manual_seed(1)
    return [torch.nn.Parameter(torch.randn(shape, generator=generator)) for shape in SHAPES]


def groups(own, *, fused):
    return [{"params": own[:2], "weight_decay": 0.1, "fused": fused}, {"params": own[2:], "weight_decay": 0.0}]


def steps(optimizer, own, first, last):
    """Steps with rates of their own; the second parameter has no gradient in some of them."""
    for step in range(first, last):
        for number, group in enumerate(optimizer.param_groups):
            group["lr"] = 0.01 * (1 + number) / step
        generator = torch.Generator().manual_seed(step)
        for number, parameter in enumerate(own):
            gradient = torch.randn(parameter.shape, generator=generator)
            parameter.grad = None if number == 1 and step % 3 == 0 else gradient
        optimizer.step()


@pytest.mark.parametrize("fused", [False, True])
def test_it_is_torchs(fused):
    own, expected = parameters(), parameters()
    optimizer, truth = Float32AdamW(groups(own, fused=fused)), torch.optim.AdamW(groups(expected, fused=fused), lr=0.0)
    for optimiser, values in ((optimizer, own), (truth, expected)):
        steps(optimiser, values, 1, 20)
    for parameter, other in zip(own, expected, strict=True):
        assert torch.equal(parameter, other)
    found, wanted = optimizer.state_dict()["state"], truth.state_dict()["state"]
    assert found.keys() == wanted.keys()
    for number, state in found.items():
        assert state.keys() == wanted[number].keys() == {"step", *optimizer.state_names}
        assert all(torch.equal(state[name], wanted[number][name]) for name in state)


@pytest.mark.parametrize("fused", [False, True])
def test_it_goes_on_from_its_state(fused):
    whole, half = parameters(), parameters()
    optimizer, before = (Float32AdamW(groups(own, fused=fused)) for own in (whole, half))
    steps(optimizer, whole, 1, 9)
    steps(before, half, 1, 5)
    after, saved = Float32AdamW(groups(half, fused=fused)), before.state_dict()
    copies = {number: {name: t.clone() for name, t in own.items()} for number, own in saved["state"].items()}
    after.load_state_dict(saved)
    steps(after, half, 5, 9)
    for parameter, other in zip(whole, half, strict=True):
        assert torch.equal(parameter, other)
    # What was given is not written to.
    assert all(
        torch.equal(t, copies[number][name]) for number, own in saved["state"].items() for name, t in own.items()
    )


def test_gradients_are_forgotten():
    own = parameters()
    optimizer = Float32AdamW(groups(own, fused=False))
    steps(optimizer, own, 1, 2)
    optimizer.zero_grad()
    assert all(parameter.grad is None for parameter in own)


def test_the_compiler_is_not_imported_for_a_step_of_training():
    code = (
        "import sys; from fanin.memory.base import base_bytes; from fanin.recipes.recipe import BagSection; "
        "base_bytes(BagSection()); "  # it makes one
        "assert 'torch._dynamo' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
