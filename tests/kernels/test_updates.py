"""The update rules against torch.optim."""

import pytest
import torch

from fanin.kernels.spec import SGD, AdamW, moment_count
from fanin.kernels.updates import apply_update, zero_moments

RULES = [
    (SGD(0.1), lambda p: torch.optim.SGD([p], lr=0.1)),
    (SGD(0.1, weight_decay=0.3), lambda p: torch.optim.SGD([p], lr=0.1, weight_decay=0.3)),
    (SGD(0.1, 0.9), lambda p: torch.optim.SGD([p], lr=0.1, momentum=0.9)),
    (SGD(0.1, 0.9, 0.3), lambda p: torch.optim.SGD([p], lr=0.1, momentum=0.9, weight_decay=0.3)),
    (AdamW(0.1), lambda p: torch.optim.AdamW([p], lr=0.1, weight_decay=0.0)),
    (
        AdamW(0.1, 0.8, 0.95, 1e-3, 0.2),
        lambda p: torch.optim.AdamW([p], lr=0.1, betas=(0.8, 0.95), eps=1e-3, weight_decay=0.2),
    ),
]


@pytest.mark.parametrize(("update", "optimizer"), RULES, ids=[str(update) for update, _ in RULES])
def test_updates_are_those_of_torch(update, optimizer):
    generator = torch.Generator().manual_seed(0)
    start = torch.randn(5, 3, dtype=torch.float64, generator=generator)
    theirs, mine = start.clone().requires_grad_(), start.clone()
    optimizer, moments = optimizer(theirs), zero_moments(update, mine, None)
    for step in range(1, 8):
        gradient = torch.randn(5, 3, dtype=torch.float64, generator=generator)
        theirs.grad = gradient.clone()
        optimizer.step()
        apply_update(update, mine, gradient, moments.weight, step)
        torch.testing.assert_close(mine, theirs.detach(), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize(("update", "count"), [(SGD(1.0), 0), (SGD(1.0, 0.5), 1), (AdamW(1.0), 2)])
def test_state_has_the_shapes_of_the_parameters(update, count):
    weight, bias = torch.ones(4, 3, dtype=torch.float64), torch.ones(4, dtype=torch.float64)
    moments = zero_moments(update, weight, bias)
    assert moment_count(update) == len(moments.weight) == len(moments.bias) == count
    assert all(torch.equal(state, torch.zeros_like(weight)) for state in moments.weight)
    assert all(torch.equal(state, torch.zeros_like(bias)) for state in moments.bias)
    assert zero_moments(update, weight, None).bias == ()


@pytest.mark.parametrize("update", [SGD(0.1, 0.9, 0.3), AdamW(0.1, 0.8, 0.95, 1e-3, 0.2)])
def test_without_decay_changes_nothing_else(update):
    bare = update.without_decay()
    assert bare.weight_decay == 0
    assert {**vars(bare), "weight_decay": update.weight_decay} == vars(update)
