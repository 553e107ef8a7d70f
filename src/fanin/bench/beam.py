"""What a beam costs beside the exact ranking, by how many clusters it chooses.

Weights are random: the time does not depend on what a beam finds. How many clusters and dimensions a model needs, only
a trained one can tell (``fanin index``).
"""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch

from fanin.bench.layers import LayerShape, on_threads, random_batch
from fanin.classifier.beam import Beam
from fanin.classifier.label_clusters import LabelClusters, unit_count, unit_size
from fanin.classifier.router import Router
from fanin.classifier.sparse import SparseLinear

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

WIDTHS = (10, 30, 100)
RANKS = (512, 192, 128)
SHAPES = (LayerShape(3_000_000, 512, 32), LayerShape(3_000_000, 512, 32, 32))
_CLUSTER_LABELS = 64
_K = 10


@dataclass(frozen=True)
class BeamSpeed:
    """One width and router of one layer; times are medians, in milliseconds of processor time a row of x.

    Attributes:
        out_features: L.
        in_features: D.
        fan_in: F.
        group_size: G.
        batch_size: B.
        clusters: of 64 labels, all of which the router scores.
        width: clusters chosen a row.
        router_rank: dimensions that the router scores clusters in; D for the whole router.
        exact_cpu_ms: the ten best of all labels.
        routing_cpu_ms: the choice of clusters.
        beam_cpu_ms: the choice and the ten best of their labels.
        exact_over_beam_ratio: median of the rounds' own ratios.
    """

    out_features: int
    in_features: int
    fan_in: int
    group_size: int
    batch_size: int
    clusters: int
    width: int
    router_rank: int
    exact_cpu_ms: float
    routing_cpu_ms: float
    beam_cpu_ms: float
    exact_over_beam_ratio: float


def measure_beam_speed(
    shapes: Iterable[LayerShape] = SHAPES,
    widths: Sequence[int] = WIDTHS,
    ranks: Sequence[int] = RANKS,
    *,
    batch_size: int = 512,
    rounds: int = 7,
    done: Callable[[BeamSpeed], None] = lambda _: None,
) -> list[BeamSpeed]:
    """Time the exact ranking and the beams in turn, on one thread, layer by layer.

    Args:
        shapes: the layers.
        widths: clusters chosen a row.
        ranks: dimensions that the router scores clusters in; with D and more it is the whole one.
        batch_size: B.
        rounds: how often each has its turn.
        done: called with each row as soon as it is measured.
    """
    rows = []
    with on_threads(1):
        for shape in shapes:
            for row in _measure(shape, widths, ranks, batch_size, rounds):
                rows.append(row)
                done(row)
    return rows


@torch.no_grad()
def _measure(
    shape: LayerShape, widths: Sequence[int], ranks: Sequence[int], batch_size: int, rounds: int
) -> list[BeamSpeed]:
    layer = SparseLinear(shape.in_features, shape.out_features, shape.fan_in, shape.group_size)
    x, _ = random_batch(shape, batch_size)
    routed = [_random_beam(layer, rank) for rank in sorted({min(rank, shape.in_features) for rank in ranks})[::-1]]
    beams = [replace(beam, width=width) for width in widths for beam in routed]

    def a_row(work: Callable[[], object]) -> float:
        started = time.process_time()  # which other processes on the machine change less than the clock's
        work()
        return 1e3 * (time.process_time() - started) / batch_size

    def one_round() -> list[tuple[float, float, float]]:
        exact = a_row(lambda: layer.topk(x, _K))
        return [(exact, a_row(lambda: beam.choose(x)), a_row(lambda: beam.topk(layer, x, _K))) for beam in beams]  # noqa: B023

    one_round()  # memory is touched and code loaded before anything counts
    found = [one_round() for _ in range(rounds)]  # rounds, beams, three times
    results = []
    for number, beam in enumerate(beams):
        exact, routing, whole = zip(*(times[number] for times in found), strict=True)
        results.append(
            BeamSpeed(
                *shape,
                batch_size=batch_size,
                clusters=beam.clusters.count,
                width=beam.width,
                router_rank=beam.router.rank,
                exact_cpu_ms=statistics.median(exact),
                routing_cpu_ms=statistics.median(routing),
                beam_cpu_ms=statistics.median(whole),
                exact_over_beam_ratio=statistics.median(e / b for e, b in zip(exact, whole, strict=True)),
            )
        )
    return results


def _random_beam(layer: SparseLinear, rank: int) -> Beam:
    """Clusters of neighbours, and a router that draws among all of them."""
    units = unit_count(layer)
    each = max(1, _CLUSTER_LABELS // unit_size(layer))
    bounds = torch.arange(0, units + each, each).clamp_max(units)
    count = len(bounds) - 1
    generator = torch.Generator().manual_seed(0)
    members = torch.randperm(units, generator=generator).int()
    D = layer.in_features
    projection = None if rank == D else torch.randn(rank, D, generator=generator) / D**0.5
    weight = torch.randn(count, rank, generator=generator).bfloat16()
    clusters = LabelClusters(members, bounds, torch.zeros(count, dtype=torch.int64))
    return Beam(clusters, Router(weight, torch.zeros(count), projection), None, 1)
