"""Recall and speed of a beam beside the exact ranking."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from fanin.classifier.beam import Beam
    from fanin.data.batches import Batches
    from fanin.model import TextModel


@dataclass(frozen=True)
class BeamQuality:
    """How an approximate top-k compares with the exact one, on texts that the router was not taught with.

    Attributes:
        width: clusters a text; None for the exact ranking.
        recall: share of the exact k best labels that are found.
        texts_per_second: encoded and ranked.
        ratio: how many times faster than the exact ranking.
    """

    width: int | None
    recall: float
    texts_per_second: float
    ratio: float


@torch.no_grad()
def measure_beam(
    model: TextModel, beam: Beam, held_out: Batches, widths: Sequence[int], k: int = 10
) -> list[BeamQuality]:
    """Recall and speed of some widths on texts; the first entry is the exact ranking.

    Args:
        model: the model.
        beam: made for it.
        held_out: the texts.
        widths: clusters a text.
        k: labels a text.
    """
    exact: list[Tensor] = []
    results: list[BeamQuality] = []
    model.rank(next(iter(held_out.epoch())).inputs, k)  # memory is touched for the first time
    for width in (None, *widths):
        own = None if width is None else replace(beam, width=width)
        started = time.perf_counter()
        found = [model.rank(batch.inputs, k, beam=own)[1] for batch in held_out.epoch()]
        speed = held_out.n_rows / (time.perf_counter() - started)
        exact = exact or found
        wanted = sum(int((labels >= 0).sum()) for labels in exact)
        hits = sum(_hits(labels, best) for labels, best in zip(found, exact, strict=True))
        base = results[0].texts_per_second if results else speed
        results.append(BeamQuality(width, hits / wanted, speed, speed / base))
    return results


def _hits(found: Tensor, exact: Tensor) -> int:
    same = (found[:, :, None] == exact[:, None, :]) & (exact >= 0)[:, None, :]
    return int(same.any(1).sum())
