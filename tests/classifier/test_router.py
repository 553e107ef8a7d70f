"""Routers: their scores in either arithmetic, the best of them, and what they read of inputs that are mostly zero."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fanin.classifier import router as under_test
from fanin.classifier.router import Router, multiplies_bfloat16, router_inputs
from fanin.kernels.active_inputs import ActiveInputs

R, Q, P, B = 70, 24, 9, 7


@pytest.fixture(params=[False, True], ids=["float32", "bfloat16"])
def multiplies(request, monkeypatch):
    monkeypatch.setattr(under_test, "multiplies_bfloat16", lambda: request.param)
    return request.param


def _router(projected):
    generator = torch.Generator().manual_seed(2)
    weight = torch.randn(R, P if projected else Q, generator=generator).bfloat16()
    projection = torch.randn(P, Q, generator=generator) if projected else None
    return Router(weight, torch.linspace(-9, 1, R), projection)


def _inputs():
    return torch.randint(-3, 4, (B, Q), generator=torch.Generator().manual_seed(1)).float()


@pytest.mark.parametrize("projected", [False, True], ids=["whole", "projected"])
def test_scores_with_and_without_products_of_bfloat16(multiplies, projected):
    router, x = _router(projected), _inputs()
    read = x.double() if router.projection is None else x.double() @ router.projection.double().T
    products = read @ router.weight.double().T  # (B, R)
    found = router.scores(x)
    assert found.dtype == torch.float32
    # Inputs and products are rounded to 8 bits, or neither; the bias is added in float32.
    sizes = read.abs() @ router.weight.double().abs().T
    allowed = (sizes + products.abs()) / 2**8 if multiplies else (sizes + 9) * 1e-6
    assert bool(((found - (products + router.bias)).abs() <= allowed).all())
    assert router.rank == router.weight.shape[1]


@pytest.mark.usefixtures("multiplies")
@pytest.mark.parametrize("projected", [False, True], ids=["whole", "projected"])
def test_the_best_are_those_with_the_highest_scores(projected):
    router, x = _router(projected), _inputs()
    for width in (1, 5, R):
        found = router.best(x, width)
        assert found.sort().values.tolist() == router.scores(x).topk(width).indices.sort().values.tolist()
    assert router.best(x[:0], 3).shape == (0, 3)


def test_torch_that_does_not_tell_what_the_processor_can_is_enough(monkeypatch):
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    assert not multiplies_bfloat16.__wrapped__()


@given(data=st.data())
def test_folded_inputs_are_signed_sums(data):
    dense, folded, sums = data.draw(st.integers(0, 5)), data.draw(st.integers(1, 30)), data.draw(st.integers(1, 6))
    draw = torch.Generator().manual_seed(data.draw(st.integers(0, 99)))
    fold = torch.randint(1, sums + 1, (folded,), generator=draw) * (2 * torch.randint(2, (folded,), generator=draw) - 1)
    x = torch.randint(-3, 4, (3, dense + folded), generator=draw).float()
    active = torch.rand(dense + folded, generator=draw) < 0.5
    x[:, ~active] = 0
    columns = active.nonzero().flatten()
    expected = torch.zeros(3, dense + int(fold.abs().max()))
    expected[:, :dense] = x[:, :dense]
    for i, target in enumerate(fold.tolist()):
        expected[:, dense - 1 + abs(target)] += x[:, dense + i] * (1 if target > 0 else -1)
    for given_x in (x, ActiveInputs(x[:, columns], columns, dense + folded)):
        assert torch.equal(router_inputs(given_x, fold.int()), expected)
