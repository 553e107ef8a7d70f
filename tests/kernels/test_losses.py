"""Values and gradients of the losses against torch's own, and where float32 is easily lost."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional

from fanin.kernels.losses import loss_and_gradient, loss_and_gradient_inplace
from fanin.kernels.positives import Pairs
from fanin.kernels.spec import Loss

LOGITS = st.lists(st.floats(-50, 50, width=32), min_size=6, max_size=6)
TARGETS = st.lists(st.booleans(), min_size=6, max_size=6)
WEIGHTS = st.none() | st.lists(st.floats(0, 20, width=32), min_size=6, max_size=6)
MARGINS = st.none() | st.lists(st.floats(-5, 5, width=32), min_size=6, max_size=6)
NONE = Pairs(torch.zeros(0, dtype=torch.int64), torch.zeros(0, dtype=torch.int64), None, None)


def _truth(loss, logits, target, weights=None, margins=None):
    """Value and gradient by float64 autograd."""
    z, y = logits.double().requires_grad_(), target.double()
    shifted = z if margins is None else z - y * margins.double()
    if loss is Loss.BCE:
        values = functional.binary_cross_entropy_with_logits(shifted, y, reduction="none")
    else:
        values = (1 - (2 * y - 1) * shifted).clamp_min(0) ** 2
    value = (values if weights is None else torch.where(y == 1, weights.double(), 1) * values).sum()
    value.backward()
    return value.item(), z.grad


@pytest.mark.parametrize("loss", list(Loss))
@given(LOGITS, TARGETS, WEIGHTS, MARGINS)
def test_both_forms_agree_with_autograd(loss, logits, target, weights, margins):
    z, y = torch.tensor(logits).view(2, 3), torch.tensor(target, dtype=torch.float32).view(2, 3)
    w, m = (None if values is None else torch.tensor(values).view(2, 3) for values in (weights, margins))
    expected, expected_gradient = _truth(loss, z, y, w, m)
    weight_block = None if w is None else torch.where(y == 1, w, 1)
    value, gradient = loss_and_gradient(loss, z, y, weight_block, None if m is None else m * y)
    assert value.dtype == torch.float64
    inplace, places = z.clone(), y.nonzero(as_tuple=True)
    pairs = Pairs(places[0], places[1] + 7, *(None if values is None else values[places] for values in (w, m)))
    inplace_value = loss_and_gradient_inplace(loss, inplace, pairs, first_label=7)
    # With weights the sum in place is made of the unweighted loss and what weights add to or take from it.
    unweighted, _ = _truth(loss, z, y, None, m)
    assert value.item() == pytest.approx(expected, rel=1e-6)
    assert inplace_value == pytest.approx(expected, rel=1e-6, abs=1e-6 * unweighted)
    for actual in (gradient, inplace):
        torch.testing.assert_close(actual.double(), expected_gradient, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("loss", list(Loss))
def test_a_block_without_relevant_labels(loss):
    z = torch.tensor([[0.5, -3.0]])
    expected, gradient = _truth(loss, z, torch.zeros(1, 2))
    assert loss_and_gradient_inplace(loss, z, NONE) == pytest.approx(expected)
    torch.testing.assert_close(z.double(), gradient)


def test_mistake_06_the_loss_of_a_million_easy_negatives_is_not_lost():
    z = torch.full((1000, 1000), -18.0)
    expected = 1e6 * math.log1p(math.exp(-18))
    value, _ = loss_and_gradient(Loss.BCE, z, torch.zeros_like(z))
    assert value.item() == pytest.approx(expected, rel=1e-5)
    assert loss_and_gradient_inplace(Loss.BCE, z, NONE) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("loss", list(Loss))
def test_nan_propagates(loss):
    z = torch.tensor([[math.nan, 1.0]])
    value, gradient = loss_and_gradient(loss, z, torch.zeros(1, 2))
    inplace = z.clone()
    inplace_value = loss_and_gradient_inplace(loss, inplace, Pairs(torch.tensor([0]), torch.tensor([1]), None, None))
    assert value.isnan()
    assert math.isnan(inplace_value)
    for found in (gradient, inplace):
        assert found.isnan().tolist() == [[True, False]]
