"""The relevant labels of a batch (CSR) as dense blocks and as a membership test, in plain torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor

    from fanin.kernels.spec import Positives


def rows_of(positives: Positives) -> Tensor:
    """The row of every entry, (P,) int64.

    >>> from fanin.kernels.spec import Positives
    >>> rows_of(Positives(torch.tensor([0, 2, 2, 3]), torch.tensor([5, 7, 5]))).tolist()
    [0, 0, 2]
    """
    counts = positives.indptr.diff()
    return torch.repeat_interleave(torch.arange(len(counts), device=counts.device), counts)


def dense_block(positives: Positives, start: int, stop: int, dtype: torch.dtype) -> Tensor:
    """Targets (B, stop - start): 1 where a label in [start, stop) is relevant, 0 elsewhere; duplicates count once."""
    rows, labels = rows_of(positives), positives.indices
    inside = (labels >= start) & (labels < stop)
    block = torch.zeros(len(positives.indptr) - 1, stop - start, dtype=dtype, device=labels.device)
    block[rows[inside], labels[inside] - start] = 1
    return block


def sorted_by_label(positives: Positives) -> tuple[Tensor, Tensor]:
    """Rows (P',) and labels (P',) of the distinct pairs, in the order of the labels."""
    B = len(positives.indptr) - 1
    keys = torch.unique(positives.indices * B + rows_of(positives))  # (P',) ascending
    return keys % B, keys // B
