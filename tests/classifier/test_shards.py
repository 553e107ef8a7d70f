"""A part of a layer is what the whole layer has there: drawn, trained, rounded and rewired."""

from itertools import pairwise

import pytest
import torch

from fanin.classifier.dense import DenseLinear
from fanin.classifier.growth import Growth
from fanin.classifier.growth_gradient import GradientScores
from fanin.classifier.growth_separating import SeparatingScores
from fanin.classifier.pruning import Pruning
from fanin.classifier.rewiring import Rewiring
from fanin.classifier.rewiring_schedule import RewiringSchedule
from fanin.classifier.sparse import SparseLinear, SparsePart
from fanin.kernels.positives import kept_pairs
from fanin.kernels.spec import SGD, Loss, Prune

D, L, CUTS = 24, 50, (0, 12, 36, 50)
UPDATE = SGD(0.5, momentum=0.9)  # AdamW would move all regrown weights alike, and which is smaller be chance
LAYERS = {
    "sparse": lambda **more: SparseLinear(D, L, 6, seed=3, **more),
    "groups": lambda **more: SparseLinear(D, L, 6, 4, seed=3, **more),
    "clusters": lambda **more: SparseLinear(D, L, 6, cluster_size=6, cluster_inputs=20, seed=3, **more),
    "groups and clusters": lambda **more: SparseLinear(
        D, L, 6, 4, cluster_size=6, cluster_rate=0.3, reference_fan_in=3, seed=3, **more
    ),
    "no bias": lambda **more: SparseLinear(D, L, 6, bias=False, initial_scale=2.0, seed=3, **more),
    "one group": lambda **more: SparseLinear(D, L, 6, 100, seed=3, **more),
    "dense": lambda **more: DenseLinear(D, L, seed=3, **more),
}


def cuts_of(layer):
    return (0, L) if getattr(layer, "group_size", 1) >= L else CUTS


def in_place(layer, name, start, stop):
    """The range of a tensor's rows that the labels from start to stop own."""
    size = {"index": getattr(layer, "group_size", 1), "clusters.weight": 6, "clusters": 6}.get(
        name.removesuffix(".0").removesuffix(".1"), 1
    )
    return slice(start // size, -(-stop // size))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float8_e4m3fn])
@pytest.mark.parametrize("name", LAYERS)
def test_as_the_whole_layer(name, dtype, backend_name, make_positives):
    options = {} if name == "dense" else {"backend": backend_name}
    whole = LAYERS[name](dtype=dtype, **options)
    parts = [(cut, LAYERS[name](dtype=dtype, device="meta", **options).part(*cut)) for cut in pairwise(cuts_of(whole))]
    same_tensors(whole, parts, exact=True)
    generator = torch.Generator().manual_seed(1)
    for step in range(2):
        x, positives = torch.randn(5, D, generator=generator), make_positives(5, L, seed=step)
        loss, dx = whole.train_step(x, positives, Loss.BCE, UPDATE)
        shares = []
        for (start, stop), part in parts:
            inside = (positives.indices >= start) & (positives.indices < stop)
            own = kept_pairs(positives._replace(indices=positives.indices - start), inside)
            shares.append(part.train_step(x, own, Loss.BCE, UPDATE))
        assert sum(share for share, _ in shares) == pytest.approx(loss)
        torch.testing.assert_close(sum(gradient for _, gradient in shares), dx)
        # What is rounded alike differs nowhere by more than what float32 sums in another order may turn.
        same_tensors(whole, parts, exact=False)
        if isinstance(whole, SparseLinear):
            replaced = whole.rewire(Prune(0.4), seed=step)
            assert torch.equal(torch.cat([part.rewire(Prune(0.4), seed=step) for _, part in parts]), replaced)
            same_tensors(whole, parts, exact=False)


def same_tensors(whole, parts, *, exact):
    expected = {**whole.state_dict(), **whole.optimizer_state()}
    for cut, part in parts:
        found = {**part.state_dict(), **part.optimizer_state()}
        assert found.keys() == expected.keys()
        for name, tensor in found.items():
            rows = expected[name][in_place(whole, name, *cut)]
            assert tensor.dtype == rows.dtype
            if exact or name == "index":
                assert torch.equal(tensor.view(torch.uint8), rows.view(torch.uint8)), name
            else:
                differ = (tensor.float() - rows.float()).abs() > 1e-5
                assert differ.float().mean() < (0.01 if tensor.element_size() < 4 else 1e-9), name


@pytest.mark.parametrize("grow", ["random", "gradient", "separating"])
def test_rewiring_of_parts_is_that_of_the_whole(grow, make_positives):
    labels, schedule = torch.randperm(L, generator=torch.Generator().manual_seed(2)), RewiringSchedule(2, 0.5, 100)
    make = lambda **more: SparseLinear(D, L, 6, 2, seed=3, **more)  # noqa: E731
    whole, counted = make(), []

    def rewiring(layer):
        measures = {"gradient": GradientScores([layer], Loss.BCE, 20), "separating": SeparatingScores([layer], 20, 64)}
        growth = Growth(
            20,
            {grow: 0.75, "random": 0.25} if grow != "random" else None,
            {grow: measures[grow]} if grow != "random" else None,
        )
        pruning = Pruning("set", "max")  # not the backend's
        return Rewiring(
            [SparsePart(layer, labels)], schedule, 5, pruning, growth, lambda counts: counted.append(counts) or counts
        )

    layers = [whole, *(make(device="meta").part(*cut) for cut in pairwise(CUTS))]
    rewirings = [rewiring(layer) for layer in layers]
    generator = torch.Generator().manual_seed(1)
    for step in (1, 2):
        x, positives = torch.randn(7, D, generator=generator), make_positives(7, L, seed=step)
        for one in rewirings:
            one.observe(step, x, positives)
    for one, other in zip(*(one.state().values() for one in rewirings[:2]), strict=True):
        assert torch.equal(one, other)  # so a checkpoint needs that of one process only
    report = rewirings[0].rewire(2)
    shares = [one.rewire(2) for one in rewirings[1:]]
    assert torch.equal(torch.cat([layer.index for layer in layers[1:]]), whole.index)
    assert torch.equal(torch.cat([layer.weight for layer in layers[1:]]), whole.weight)
    assert report.replaced == sum(share.replaced for share in shares) > 0
    assert report.share == pytest.approx(sum(share.share for share in shares))
    assert torch.equal(sum(counted[1:]), counted[0])


def test_parts_that_grow_at_random_for_want_of_anything_better_report_alike(make_positives):
    """Labels without a positive have nothing to separate: their part draws at random, and the other one does not."""
    counted, reports, positives = [], [], make_positives(7, 12)
    for cut in ((0, 12), (12, 36)):
        layer = SparseLinear(D, L, 6, 2, seed=3, device="meta").part(*cut)
        growth = Growth(20, {"separating": 1.0}, {"separating": SeparatingScores([layer], 20, 64)})
        rewiring = Rewiring(
            [SparsePart(layer, torch.arange(L))],
            RewiringSchedule(1, 0.5, 100),
            5,
            growth=growth,
            added_up=lambda counts: counted.append(counts.clone()) or counts,
        )
        rewiring.observe(1, torch.randn(7, D, generator=torch.Generator().manual_seed(1)), positives)
        reports.append(rewiring.rewire(1))
    assert len({counts.shape for counts in counted}) == 1
    assert reports[1].grown == {"separating": 0, "random": reports[1].replaced}


def test_sgd_without_state_keeps_none(make_positives):
    part = SparseLinear(D, L, 6, device="meta").part(12, 36)
    part.train_step(torch.randn(3, D), make_positives(3, 24), Loss.SQUARED_HINGE, SGD(0.1))
    assert part.optimizer_state() == {}
