"""Growth towards separating features: where a label's positives lie apart from the average text."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch

from fanin.classifier.group_scores import BLOCK_VALUES, group_scores
from fanin.classifier.growth_gradient import first_inputs
from fanin.errors import CheckpointError
from fanin.kernels.positives import sorted_by_label

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor

    from fanin.classifier.rewiring_modes import GroupScore
    from fanin.classifier.sparse import SparseLinear
    from fanin.kernels.active_inputs import ActiveInputs
    from fanin.kernels.spec import Positives

_LARGEST = torch.finfo(torch.float16).max


class _Batch(NamedTuple):
    start: int
    stop: int
    rows: Tensor  # (P,) of the positives among all kept rows, each pair once
    places: Tensor  # (P,) their labels' places


class _Kept(NamedTuple):
    """What is known of all kept rows at a rewiring."""

    rows: Tensor  # (P,) of all positives
    places: Tensor  # (P,) ascending
    mean: Tensor  # (inputs,) float32
    per_spread: Tensor  # (inputs,) 1 / standard deviation, 0 where an input is constant


class SeparatingScores:
    """|mean of an input over a label's positives - mean over all texts|, in the input's standard deviations.

    Embeddings of the last training texts are kept in half precision, ``rows * inputs * 2`` bytes and their positives;
    sums over a label's positives are made of them at a rewiring, block by block of labels. Embeddings are those of the
    encoder of their own step.

    Args:
        layers: what is rewired.
        inputs: the first so many inputs are scored.
        rows: how many embeddings are kept; an epoch's are enough. At least one batch is kept.
        group_score: mean or max over the labels that share a set.
    """

    def __init__(
        self, layers: Sequence[SparseLinear], inputs: int, rows: int = 65_536, group_score: GroupScore = "mean"
    ) -> None:
        self._layers, self._inputs, self._rows, self._group_score = layers, inputs, rows, group_score
        self._x: Tensor | None = None  # (rows, inputs) float16, written round and round
        self._next = 0
        self._batches: list[_Batch] = []  # those whose rows were not written over
        self._kept: _Kept | None = None  # None where there is a batch that it does not know

    @torch.no_grad()
    def observe(self, x: Tensor | ActiveInputs, positives: Positives, ahead: int) -> None:  # noqa: ARG002 - all are kept
        """Keep a batch in the place of the oldest ones."""
        rows = first_inputs(x, self._inputs)
        if self._x is None or len(rows) > len(self._x):
            size = (max(self._rows, len(rows)), self._inputs)
            self._x, self._batches = torch.empty(size, dtype=torch.float16, device=rows.device), []
        start = self._next if self._next + len(rows) <= len(self._x) else 0
        stop = self._next = start + len(rows)
        self._x[start:stop] = rows.clamp(-_LARGEST, _LARGEST)
        pairs = sorted_by_label(positives)
        self._batches = [batch for batch in self._batches if batch.stop <= start or batch.start >= stop]
        self._batches.append(_Batch(start, stop, pairs.rows + start, pairs.labels))
        self._kept = None

    @torch.no_grad()
    def scores(self, layer: int, sets: Tensor) -> Tensor:
        """Scores (s, inputs); 0 for labels without a kept positive."""
        if self._x is None:
            return torch.zeros(len(sets), self._inputs, device=sets.device)
        x, kept = self._x, self._kept or self._summary(self._x)
        self._kept = kept
        before = sum(other.shard.of for other in self._layers[:layer]) + self._layers[layer].shard.first

        def distances(labels: Tensor) -> Tensor:
            return _distances(x, kept, labels + before)

        G, L = self._layers[layer].group_size, self._layers[layer].out_features
        return group_scores(sets, G, L, self._inputs, self._group_score, distances)

    def forget(self) -> None:
        """Drop the kept embeddings."""
        self._x, self._next, self._batches, self._kept = None, 0, [], None

    def state(self) -> dict[str, Tensor]:
        """The kept embeddings and their positives; see :meth:`fanin.classifier.growth.InputScores.state`."""
        if self._x is None:
            return {}
        bounds = [[batch.start, batch.stop, len(batch.rows)] for batch in self._batches]
        written = max(batch.stop for batch in self._batches)
        return {
            "x": self._x[:written],
            "sizes": torch.tensor([len(self._x), self._next]),
            "batches": torch.tensor(bounds),  # (n, 3): begin, end, positives
            "rows": torch.cat([batch.rows for batch in self._batches]),
            "places": torch.cat([batch.places for batch in self._batches]),
        }

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Take up a state of :meth:`state`; see :meth:`fanin.classifier.growth.InputScores.load_state`."""
        self.forget()
        if not state:
            return
        try:
            x, counts = state["x"], state["batches"][:, 2].tolist()
            size, self._next = state["sizes"].tolist()
            self._x = torch.empty((size, self._inputs), dtype=torch.float16, device=x.device)
            self._x[: len(x)] = x
            parts = [torch.split(state[name].clone(), counts) for name in ("rows", "places")]
            bounds = state["batches"][:, :2].tolist()
        except (KeyError, IndexError, ValueError, RuntimeError) as error:
            raise CheckpointError(f"state of growth towards separating features: damaged ({error!r})") from error
        self._batches = [_Batch(*bound, *pair) for bound, pair in zip(bounds, zip(*parts, strict=True), strict=True)]

    def _summary(self, x: Tensor) -> _Kept:
        count = sum(batch.stop - batch.start for batch in self._batches)
        parts = [x[batch.start : batch.stop] for batch in self._batches]
        # Two passes: the difference of two large sums would lose the spread of an input far from zero.
        mean = torch.stack([part.double().sum(0) for part in parts]).sum(0) / count
        variance = torch.stack([(part.double() - mean).square().sum(0) for part in parts]).sum(0) / count
        places = torch.cat([batch.places for batch in self._batches])
        places, order = places.sort()
        rows = torch.cat([batch.rows for batch in self._batches])[order]
        per_spread = torch.where(variance > 0, variance.rsqrt(), 0.0)
        return _Kept(rows, places, mean.float(), per_spread.float())


def _distances(x: Tensor, kept: _Kept, labels: Tensor) -> Tensor:
    """How far the mean of each label's kept positives lies from the mean, (c, inputs), for labels (c,) by place."""
    first, last = torch.searchsorted(kept.places, torch.stack([labels[0], labels[-1] + 1])).tolist()
    sums = kept.mean.new_zeros(len(labels), x.shape[1])
    counts = kept.mean.new_zeros(len(labels))
    size = max(1, BLOCK_VALUES // x.shape[1])
    for start in range(first, last, size):
        piece = slice(start, min(start + size, last))
        column = torch.searchsorted(labels, kept.places[piece])
        here = labels[column] == kept.places[piece]
        column = column[here]
        sums.index_add_(0, column, x[kept.rows[piece][here]].float())
        counts.index_add_(0, column, counts.new_ones(len(column)))
    distances = (sums / counts.clamp_min(1)[:, None]).sub_(kept.mean).mul_(kept.per_spread).abs_()
    return distances.mul_((counts > 0)[:, None])
