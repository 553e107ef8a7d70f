"""Values and gradients of the losses against torch's own, and where float32 is easily lost."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional

from fanin.kernels.losses import loss_and_gradient, loss_and_gradient_inplace
from fanin.kernels.spec import Loss

LOGITS = st.lists(st.floats(-50, 50, width=32), min_size=6, max_size=6)
TARGETS = st.lists(st.booleans(), min_size=6, max_size=6)


def _truth(loss, logits, target):
    """Value and gradient by float64 autograd."""
    z = logits.double().requires_grad_()
    if loss is Loss.BCE:
        value = functional.binary_cross_entropy_with_logits(z, target.double(), reduction="sum")
    else:
        value = sum((1 - s * v).clamp_min(0) ** 2 for v, s in zip(z.flatten(), (2 * target - 1).flatten(), strict=True))
    value.backward()
    return value.item(), z.grad


@pytest.mark.parametrize("loss", list(Loss))
@given(LOGITS, TARGETS)
def test_both_forms_agree_with_autograd(loss, logits, target):
    z, y = torch.tensor(logits).view(2, 3), torch.tensor(target, dtype=torch.float32).view(2, 3)
    expected, expected_gradient = _truth(loss, z, y)
    value, gradient = loss_and_gradient(loss, z, y)
    assert value.dtype == torch.float64
    inplace = z.clone()
    inplace_value = loss_and_gradient_inplace(loss, inplace, *y.nonzero(as_tuple=True))
    assert value.item() == pytest.approx(expected, rel=1e-6)
    assert inplace_value == pytest.approx(expected, rel=1e-6)
    for actual in (gradient, inplace):
        torch.testing.assert_close(actual.double(), expected_gradient, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("loss", list(Loss))
def test_a_block_without_relevant_labels(loss):
    z, none = torch.tensor([[0.5, -3.0]]), torch.zeros(0, dtype=torch.int64)
    expected, gradient = _truth(loss, z, torch.zeros(1, 2))
    assert loss_and_gradient_inplace(loss, z, none, none) == pytest.approx(expected)
    torch.testing.assert_close(z.double(), gradient)


def test_mistake_06_the_loss_of_a_million_easy_negatives_is_not_lost():
    z, none = torch.full((1000, 1000), -18.0), torch.zeros(0, dtype=torch.int64)
    expected = 1e6 * math.log1p(math.exp(-18))
    value, _ = loss_and_gradient(Loss.BCE, z, torch.zeros_like(z))
    assert value.item() == pytest.approx(expected, rel=1e-5)
    assert loss_and_gradient_inplace(Loss.BCE, z, none, none) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("loss", list(Loss))
def test_nan_propagates(loss):
    z = torch.tensor([[math.nan, 1.0]])
    value, gradient = loss_and_gradient(loss, z, torch.zeros(1, 2))
    inplace = z.clone()
    inplace_value = loss_and_gradient_inplace(loss, inplace, torch.tensor([0]), torch.tensor([1]))
    assert value.isnan()
    assert math.isnan(inplace_value)
    for found in (gradient, inplace):
        assert found.isnan().tolist() == [[True, False]]
