"""The k best labels of every row, from chunks of logits that come in label order."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch

from fanin.kernels.positives import dense_block

if TYPE_CHECKING:
    from torch import Tensor

    from fanin.kernels.spec import Positives


class StreamingTopK:
    """Keeps the k best (score, label) pairs a row; among equal scores the lower label comes first.

    Args:
        rows: B.
        k: how many to keep.
        like: a tensor of the dtype and device of the scores.

    Attributes:
        scores: (B, k), descending; -inf where nothing was found.
        labels: (B, k) int64; -1 where nothing was found.

    >>> best = StreamingTopK(1, 2, torch.empty(0))
    >>> best.add(torch.tensor([[1.0, 3.0, 3.0]]), 0, None)
    >>> best.labels.tolist()
    [[1, 2]]
    """

    def __init__(self, rows: int, k: int, like: Tensor) -> None:
        self.scores = like.new_full((rows, k), -math.inf)
        self.labels = torch.full((rows, k), -1, dtype=torch.int64, device=like.device)

    def add(self, logits: Tensor, start: int, exclude: Positives | None) -> None:
        """Merge the logits (B, C) of labels start, start + 1, ...; pairs in ``exclude`` and NaN are passed over."""
        barred = logits.isnan()
        if exclude is not None:
            barred |= dense_block(exclude, start, start + logits.shape[1], torch.bool)
        k = self.scores.shape[1]
        scores, columns = _best_columns(logits.masked_fill(barred, -math.inf), k)
        labels = (columns + start).masked_fill(scores == -math.inf, -1)
        scores, labels = torch.cat([self.scores, scores], dim=1), torch.cat([self.labels, labels], dim=1)
        order = scores.argsort(dim=1, descending=True, stable=True)[:, :k]
        self.scores, self.labels = scores.gather(1, order), labels.gather(1, order)


def _best_columns(scores: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k best columns a row, scores descending, the lower column first among equals."""
    if k >= scores.shape[1]:
        return scores.sort(dim=1, descending=True, stable=True)
    best, columns = scores.topk(k, dim=1)
    if int((scores >= best[:, -1:]).sum()) > best.numel():
        # Equal scores at the border: topk may have taken any of them, a stable sort takes the lowest columns.
        best, columns = scores.sort(dim=1, descending=True, stable=True)
        return best[:, :k], columns[:, :k]
    columns = columns.sort(dim=1).values
    best, order = scores.gather(1, columns).sort(dim=1, descending=True, stable=True)
    return best, columns.gather(1, order)
