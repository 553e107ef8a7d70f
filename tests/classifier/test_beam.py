"""Two-stage search: every kind of layer finds among chosen clusters what sorting all of its labels finds there."""

import pytest
import torch

from fanin.classifier.banded import BandedLinear
from fanin.classifier.beam import Beam
from fanin.classifier.dense import DenseLinear
from fanin.classifier.head_tail import HeadTailLinear
from fanin.classifier.label_clusters import LabelClusters, unit_count, unit_size
from fanin.classifier.router import Router
from fanin.classifier.sparse import SparseLinear
from fanin.errors import CheckpointError, ConfigError
from fanin.kernels.active_inputs import ActiveInputs
from fanin.kernels.spec import Positives

D, L, B = 24, 203, 7


def _filled(layer):
    """Integer weights, so that scores are exact and ties certain, and an order where there is one."""
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.copy_(torch.randint(-3, 4, parameter.shape, generator=generator))
    order = getattr(layer, "order", None)
    if order is not None:
        order.assign(torch.randperm(L, generator=generator))
    return layer


KINDS = {
    "sparse": lambda **o: SparseLinear(D, L, 5, **o),
    "groups": lambda **o: SparseLinear(D, L, 5, group_size=8, ordered=True, **o),
    "clusters": lambda **o: SparseLinear(D, L, 5, group_size=4, cluster_size=6, cluster_inputs=9, ordered=True, **o),
    "bfloat16": lambda **o: SparseLinear(D, L, 5, cluster_size=16, dtype=torch.bfloat16, **o),
    "bands": lambda **o: BandedLinear(D, L, [(3, 24), (50, 9), (150, 4)], cluster_size=8, cluster_inputs=6, **o),
    "head/tail": lambda **o: HeadTailLinear(D, L, 4, head_labels=13, head_inputs=10, **o),
}


def _clusters(layer, size, seed=0):
    """Random clusters of up to ``size`` units of each part."""
    generator = torch.Generator().manual_seed(seed)
    members, sizes, parts = [], [], []
    for i, part in enumerate(layer.sparse_parts()):
        members.append(torch.randperm(unit_count(part.layer), generator=generator).int())
        own = torch.ones(len(members[-1])).split(size)
        sizes += map(len, own)
        parts += [i] * len(own)
    bounds = torch.tensor([0, *sizes]).cumsum(0)
    clusters = LabelClusters(torch.cat(members), bounds, torch.tensor(parts))
    clusters.check(layer.sparse_parts())
    return clusters


def _x(kind):
    x = torch.randint(-3, 4, (B, D), generator=torch.Generator().manual_seed(1)).float()
    if kind == "dense":
        return x
    columns = torch.tensor([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 12, 13, 20])
    return ActiveInputs(x[:, columns], columns, D, 10)


def _beam(layer, size=3, width=2):
    clusters = _clusters(layer, size)
    generator = torch.Generator().manual_seed(2)
    weight = torch.randn(clusters.count, D, generator=generator).bfloat16()
    return Beam(clusters, Router(weight, torch.zeros(clusters.count)), None, width)


def _labels_in(layer, clusters, numbers):
    """The labels of some clusters, and those that no sparse part serves."""
    parts = layer.sparse_parts()
    found = set(range(L)) - {int(label) for part in parts for label in part.labels}
    for number in numbers:
        part = parts[int(clusters.part[number])]
        size = unit_size(part.layer)
        for unit in clusters.members[clusters.bounds[number] : clusters.bounds[number + 1]].tolist():
            found |= set(part.labels[unit * size : (unit + 1) * size].tolist())
    return found


@pytest.mark.parametrize("inputs", ["dense", "active"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("exclude", [False, True], ids=["all", "exclude"])
def test_scores_of_what_is_chosen_are_exact(backend_name, kind, inputs, exclude):
    layer, x = _filled(KINDS[kind](backend=backend_name)), _x(inputs)
    dense = x.dense() if inputs == "active" else x
    beam = _beam(layer)
    barred = Positives(torch.arange(B + 1) * 40, torch.arange(B * 40) % L) if exclude else None
    scores, labels = beam.topk(layer, x, 9, barred)
    logits = layer(dense).detach()
    for row, chosen in enumerate(beam.choose(x).tolist()):
        allowed = _labels_in(layer, beam.clusters, chosen)
        if exclude:
            allowed -= set(barred.indices[row * 40 : row * 40 + 40].tolist())
        best = sorted((float(logits[row, label]) for label in allowed), reverse=True)[:9]
        found = [label for label in labels[row].tolist() if label >= 0]
        assert len(set(found)) == len(found) == len(best)
        assert set(found) <= allowed
        assert scores[row, : len(best)].tolist() == best == logits[row, found].tolist()


@pytest.mark.parametrize("kind", KINDS)
def test_all_clusters_give_the_exact_scores(backend_name, kind):
    layer, x = _filled(KINDS[kind](backend=backend_name)), _x("dense")
    clusters = _clusters(layer, 5)
    everything = torch.arange(clusters.count).expand(B, -1)
    scores, _ = layer.topk_among(x, 20, clusters.chosen(layer.sparse_parts(), everything))
    assert torch.equal(scores, layer.topk(x, 20)[0])
    wide = Beam(clusters, Router(torch.zeros(0, D).bfloat16(), torch.zeros(0)), None, clusters.count)
    assert torch.equal(wide.topk(layer, x, 20)[1], layer.topk(x, 20)[1])


def test_clusters_without_a_score_are_chosen_last():
    clusters = _clusters(KINDS["sparse"](), 20)
    weight = torch.tensor([[1.0], [3.0], [2.0]]).bfloat16()
    router = Router(weight, torch.tensor([0.0, 0.0, 5.0]))
    beam = Beam(clusters, router, None, 2)
    x = torch.tensor([[1.0], [9.0]])
    assert beam.choose(x).sort(1).values.tolist() == [[1, 2], [1, 2]]
    assert Beam(clusters, router, None, 1).choose(x).tolist() == [[2], [1]]
    assert Beam(clusters, router, None, 5).choose(x).sort(1).values.tolist() == [[0, 1, 2, 3, 4]] * 2
    unrouted = Beam(clusters, Router(weight[:0], router.bias[:0]), None, 3)
    assert unrouted.choose(x).tolist() == [[0, 1, 2]] * 2
    with pytest.raises(ConfigError, match="at least 1"):
        Beam(clusters, router, None, 0).choose(x)


def test_other_layers_refuse():
    with pytest.raises(ConfigError, match="DenseLinear has no fixed fan-in"):
        DenseLinear(D, L).topk_among(_x("dense"), 3, [])


def test_clusters_that_do_not_fit_are_refused():
    parts = KINDS["bands"]().sparse_parts()
    good = _clusters(KINDS["bands"](), 4)
    for bad in (
        LabelClusters(good.members.long(), good.bounds, good.part),
        LabelClusters(good.members, good.bounds[:-1], good.part),
        LabelClusters(good.members, good.bounds.flip(0), good.part),
        LabelClusters(good.members, good.bounds, good.part + 1),
        LabelClusters(good.members.clamp_min(1), good.bounds, good.part),
        LabelClusters(good.members[:0], torch.tensor([0]), good.part[:0]),
    ):
        with pytest.raises(CheckpointError, match=r"cluster|part"):
            bad.check(parts)
