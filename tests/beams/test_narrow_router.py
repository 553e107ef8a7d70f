"""Routers in fewer dimensions: the best approximation of the scores, and what a beam does with it."""

from dataclasses import replace

import pytest
import torch

from fanin.beams import widths
from fanin.beams.narrow_router import narrow_routers
from fanin.beams.widths import narrowest
from fanin.classifier.beam import Beam
from fanin.classifier.label_clusters import LabelClusters
from fanin.classifier.router import Router

N, R, Q = 300, 80, 64


@pytest.fixture(autouse=True)
def in_float32(monkeypatch):
    monkeypatch.setattr("fanin.classifier.router.multiplies_bfloat16", lambda: False)


def _normal(*shape, seed):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def _router(bias=0.0):
    return Router(_normal(R, Q, seed=1).bfloat16(), torch.full((R,), bias))


def _inputs(dimensions, seed=0):
    """Texts in so many of the dimensions, not around zero and of different spread along each."""
    spread = torch.linspace(0.5, 3, dimensions)[:, None] * _normal(dimensions, Q, seed=2)
    return _normal(N, dimensions, seed=seed) @ spread + _normal(Q, seed=3)


def test_as_many_dimensions_as_the_texts_have_lose_nothing():
    router, inputs = _router(-3.0), _inputs(12)
    (narrow,) = narrow_routers(router, inputs, [12])
    assert (narrow.rank, narrow.projection.shape) == (12, (12, Q))
    scores = router.scores(inputs)
    # The narrow weights are rounded to bfloat16 once more.
    assert float((narrow.scores(inputs) - scores).norm() / (scores - scores.mean(0)).norm()) < 2**-8


def test_no_scores_of_that_rank_are_nearer():
    router, inputs = _router(), _inputs(40)
    scores = router.scores(inputs).double()
    centred = scores - scores.mean(0)
    errors = torch.linalg.svdvals(centred).square().flip(0).cumsum(0).flip(0).sqrt()  # of the best of each rank
    for narrow in narrow_routers(router, inputs, [4, 16, 32]):
        error = (narrow.scores(inputs).double() - scores).norm()
        assert errors[narrow.rank] * 0.999 <= error <= errors[narrow.rank] + centred.norm() * 2**-8


def test_texts_that_are_all_the_same_are_no_harm():
    inputs = torch.ones(N, Q)
    for narrow in narrow_routers(_router(), inputs, [5]):
        assert torch.allclose(narrow.scores(inputs), _router().scores(inputs), atol=1e-3)


@pytest.fixture
def beam():
    clusters = LabelClusters(torch.arange(R).int(), torch.arange(R + 1), torch.zeros(R, dtype=torch.int64))
    return Beam(clusters, _router(), None, 1)


def _recall(beam, inputs, targets):
    return float((beam.choose(inputs)[:, :, None] == targets[:, None]).any(1).double().mean())


@pytest.mark.parametrize("recall", [0.5, 0.9])
def test_many_clusters_get_the_least_rank_that_reaches_the_recall(beam, recall, monkeypatch):
    taught, inputs = _inputs(30), _inputs(30, seed=9)
    targets = beam.router.scores(inputs).topk(5).indices
    whole = narrowest(beam, taught, inputs, targets, recall)
    assert whole.router is beam.router
    monkeypatch.setattr(widths, "LEAST_CLUSTERS", R)
    monkeypatch.setattr(widths, "_RANK_STEP", 2)
    made = narrowest(beam, taught, inputs, targets, recall)
    assert made.router.rank <= 30
    assert made.width <= 1.1 * whole.width
    for of in (whole, made):
        assert _recall(of, inputs, targets) >= recall
        assert of.width == 1 or _recall(replace(of, width=of.width - 1), inputs, targets) < recall
    widest = replace(beam, width=int(1.1 * whole.width))
    for router in narrow_routers(beam.router, taught, range(2, made.router.rank, 2)):
        assert _recall(replace(widest, router=router), inputs, targets) < recall


def test_a_router_that_needs_all_dimensions_stays_whole(beam, monkeypatch):
    monkeypatch.setattr(widths, "LEAST_CLUSTERS", R)
    inputs = _normal(N, Q, seed=5)
    targets = beam.router.scores(inputs).topk(1).indices
    assert narrowest(beam, inputs, inputs, targets, 1.0).router is beam.router


def test_clusters_that_are_always_found_or_not_routed_to_count(beam, monkeypatch):
    monkeypatch.setattr(widths, "LEAST_CLUSTERS", 1)
    inputs = _inputs(10)
    assert narrowest(beam, inputs, inputs, torch.full((N, 2), -1), 0.9).width == 1
    beyond = replace(beam, router=Router(beam.router.weight[:60], beam.router.bias[:60]))
    found = narrowest(beyond, inputs, inputs, torch.full((N, 2), 70), 0.9)
    assert (found.width, found.router) == (71, beyond.router)
