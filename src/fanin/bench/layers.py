"""What the measurements of single layers share: shapes, batches, a clock, and a number of threads for a while."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

import torch

from fanin.kernels.spec import Positives

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_POSITIVES_A_ROW = 5


class LayerShape(NamedTuple):
    """One layer to measure.

    Attributes:
        out_features: L.
        in_features: D.
        fan_in: F.
        group_size: G.
    """

    out_features: int
    in_features: int
    fan_in: int
    group_size: int = 1


def random_batch(shape: LayerShape, batch_size: int) -> tuple[torch.Tensor, Positives]:
    """The same random x (B, D) and positives each time.

    >>> x, positives = random_batch(LayerShape(100, 8, 2), 3)
    >>> x.shape, len(positives.indices)
    (torch.Size([3, 8]), 15)
    """
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(batch_size, shape.in_features, generator=generator)  # (B, D)
    labels = torch.randint(shape.out_features, (batch_size * _POSITIVES_A_ROW,), generator=generator)
    return x, Positives(torch.arange(batch_size + 1) * _POSITIVES_A_ROW, labels)


def seconds(work: Callable[[], object]) -> float:
    """How long some work takes."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


@contextmanager
def on_threads(count: int) -> Iterator[None]:
    """Let torch and the compiled core use ``count`` threads within."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
