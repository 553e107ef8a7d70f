"""One behavioural suite for the backends: top-k among chosen clusters, against the top-k of all labels by sorting."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fanin.errors import BackendError
from fanin.kernels.chosen_clusters import ChosenClusters, SharedVectors
from fanin.kernels.reference import ReferenceBackend
from fanin.kernels.spec import Positives, SharedScores
from kernel_checks import SHAPES, assert_close, integer_layer, random_input
from triton_under_test import triton_backend

pytestmark = pytest.mark.usefixtures("poisoned_memory")
STORED = [torch.float32, torch.bfloat16, torch.float8_e4m3fn]


TRITON = pytest.param("triton", marks=[pytest.mark.gpu] if torch.cuda.is_available() else [])


@pytest.fixture(params=["reference", "cpu-1-thread", "cpu-2-threads", TRITON], scope="module")
def among_backend(request, compiled_backend):
    if request.param == "triton":
        return triton_backend()
    return ReferenceBackend() if request.param == "reference" else compiled_backend(int(request.param[4]))


def _clusters(L, B, unit, count, beam, seed=0):
    """Random clusters of uneven sizes, and a choice of ``beam`` for every row; some of both are empty."""
    generator = torch.Generator().manual_seed(seed)
    units = -(-L // unit)
    members = torch.randperm(units, generator=generator).int()
    inner = torch.randint(units + 1, (count - 1,), generator=generator).sort().values
    bounds = torch.cat([torch.tensor([0]), inner, torch.tensor([units])])
    chosen = torch.stack([torch.randperm(count, generator=generator)[:beam] for _ in range(B)])
    return ChosenClusters(members, bounds, chosen.masked_fill(torch.rand(B, beam, generator=generator) < 0.2, -1), unit)


def _integers(shape, seed):
    return torch.randint(-3, 4, shape, generator=torch.Generator().manual_seed(seed)).float()


def _shared(L, D, cluster_size, dtype=torch.float32):
    """Vectors on the first inputs whose products with integers are exact."""
    return SharedVectors(_integers((-(-L // cluster_size), max(1, D - 2)), 5).to(dtype), cluster_size)


def _truth(layer, x, k, clusters, exclude, shared):
    """The ranking of all labels with those that no chosen cluster holds struck out."""
    added = None
    if shared is not None:
        vectors = shared.weight.to(x.dtype)
        added = SharedScores((x[:, : vectors.shape[1]] @ vectors.T).T.contiguous(), shared.cluster_size)
    logits = ReferenceBackend().forward(layer, x, added)
    rows = []
    for row in range(len(x)):
        chosen = [c for c in clusters.chosen[row].tolist() if c >= 0]
        units = {u for c in chosen for u in clusters.members[clusters.bounds[c] : clusters.bounds[c + 1]].tolist()}
        barred = set()
        if exclude is not None:
            barred = set(exclude.indices[exclude.indptr[row] : exclude.indptr[row + 1]].tolist())
        ranked = sorted(
            (-z, label)
            for label, z in enumerate(logits[row].tolist())
            if label // clusters.unit in units and label not in barred and z > -math.inf
        )[:k]
        rows.append([(-z, label) for z, label in ranked] + [(-math.inf, -1)] * (k - len(ranked)))
    return rows


def _assert_ranked(backend, layer, x, k, clusters, exclude=None, shared=None):
    scores, labels = backend.topk_among(layer, x, k, clusters, exclude, shared)
    found = [list(zip(*row, strict=True)) for row in zip(scores.tolist(), labels.tolist(), strict=True)]
    assert found == _truth(layer, x, k, clusters, exclude, shared)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("dtype", STORED, ids=str)
def test_exact_among_what_is_chosen(among_backend, make_layer, make_positives, shape, dtype):
    L, D, F, G, B = shape
    B = min(B, 20)
    layer = integer_layer(make_layer, L, D, F, G, bias=L != 37)
    layer = type(layer)(**{**vars(layer), "weight": layer.weight.to(dtype)})
    x, clusters = _integers((B, D), 1), _clusters(L, B, 3 * G, 5, 3)
    _assert_ranked(among_backend, layer, x, min(10, L), clusters)
    _assert_ranked(among_backend, layer, x, min(10, L), clusters, make_positives(B, L), _shared(L, D, 4, dtype))


@given(data=st.data())
def test_any_sizes(among_backend, make_layer, make_positives, data):
    draw = data.draw
    L, G, D = draw(st.integers(1, 60)), draw(st.integers(1, 9)), draw(st.integers(1, 40))
    F, B, unit = draw(st.integers(1, D)), draw(st.integers(0, 5)), G * draw(st.integers(1, 4))
    count = draw(st.integers(1, 8))
    beam = draw(st.integers(0, count))
    layer = integer_layer(make_layer, L, D, F, G)
    shared = _shared(L, D, draw(st.integers(1, 70))) if draw(st.booleans()) else None
    clusters = _clusters(L, B, unit, count, beam) if B else _clusters(L, 1, unit, count, beam)
    clusters = clusters._replace(chosen=clusters.chosen[:B])
    exclude = make_positives(B, L) if B and draw(st.booleans()) else None
    _assert_ranked(among_backend, layer, _integers((B, D), 2), draw(st.integers(1, L)), clusters, exclude, shared)


@pytest.mark.parametrize(("L", "D", "F", "G"), [(301, 96, 40, 1), (301, 96, 33, 16)])
def test_all_clusters_give_the_exact_ranking(among_backend, make_layer, L, D, F, G):
    layer, x = make_layer(L, D, F, G), random_input(9, D)
    clusters = _clusters(L, 9, G, 6, 6)._replace(chosen=torch.arange(6).expand(9, -1).contiguous())
    expected_scores, expected = ReferenceBackend().topk(layer, x, 10, None)
    scores, labels = among_backend.topk_among(layer, x, 10, clusters, None)
    assert torch.equal(labels, expected)
    assert_close(scores, expected_scores)


def test_not_a_number_and_minus_infinity_are_never_chosen(among_backend, make_layer):
    layer, x = make_layer(9, 4, 2), random_input(2, 4)
    layer.bias[:7] = torch.tensor([math.nan, -math.inf, math.inf, math.nan, 0, 0, math.nan])
    clusters = ChosenClusters(torch.arange(9).int(), torch.tensor([0, 9]), torch.zeros(2, 1).long(), 1)
    scores, labels = among_backend.topk_among(layer, x, 9, clusters, None)
    assert labels[:, 0].tolist() == [2, 2]
    assert [sorted(row) for row in labels.tolist()] == [[-1, -1, -1, -1, 2, 4, 5, 7, 8]] * 2
    assert bool((scores[:, 5:] == -math.inf).all())


def test_mistakes_are_refused(compiled_backend, make_layer):
    backend, layer, x = compiled_backend(1), make_layer(20, 8, 3, 4), random_input(2, 8)
    good = _clusters(20, 2, 4, 3, 2)
    for bad, message in (
        (good._replace(unit=6), "whole groups"),
        (good._replace(chosen=torch.full((2, 1), 3)), "does not exist"),
        (good._replace(chosen=good.chosen[:1]), "beam"),
        (good._replace(members=good.members.long()), "members"),
    ):
        with pytest.raises(BackendError, match=message):
            backend.topk_among(layer, x, 2, bad, None)
    with pytest.raises(BackendError, match="vectors"):
        backend.topk_among(layer, x, 2, good, None, SharedVectors(torch.zeros(3, 8), 4))
    with pytest.raises(BackendError, match="top-k among"):
        backend.topk_among(layer, x, 2, good, Positives(torch.tensor([0, 1, 1]), torch.tensor([20])))
