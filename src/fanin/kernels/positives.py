"""The relevant labels of a batch (CSR) as dense blocks and as a membership test, in plain torch."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

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
    rows = torch.arange(len(counts), device=counts.device)
    return torch.repeat_interleave(rows, counts, output_size=len(positives.indices))  # its size known, no GPU is asked


def dense_block(
    positives: Positives, start: int, stop: int, dtype: torch.dtype, values: Tensor | None = None, elsewhere: float = 0
) -> Tensor:
    """One number a row and label: targets, or what belongs to the positives.

    Args:
        positives: the relevant labels; duplicates count once.
        start: the first label.
        stop: the label after the last.
        dtype: of the block.
        values: (P,) what stands where a label is relevant; by default 1.
        elsewhere: what stands where it is not.

    Returns:
        (B, stop - start).
    """
    rows, labels = rows_of(positives), positives.indices
    inside = (labels >= start) & (labels < stop)
    block = torch.full((len(positives.indptr) - 1, stop - start), elsewhere, dtype=dtype, device=labels.device)
    block[rows[inside], labels[inside] - start] = 1 if values is None else values[inside].to(dtype)
    return block


def on_device(positives: Positives, device: torch.device) -> Positives:
    """The same pairs on a device."""
    return positives._replace(
        **{name: tensor.to(device) for name, tensor in positives._asdict().items() if tensor is not None}
    )


def kept_pairs(positives: Positives, keep: Tensor) -> Positives:
    """Some of the pairs, of the same rows.

    >>> from fanin.kernels.spec import Positives
    >>> kept_pairs(Positives(torch.tensor([0, 2, 3]), torch.tensor([5, 7, 5])), torch.tensor([True, False, True]))[:2]
    (tensor([0, 1, 2]), tensor([5, 5]))

    Args:
        positives: the pairs.
        keep: (P,) bool.
    """
    before = torch.nn.functional.pad(keep.cumsum(0), (1, 0))  # (P + 1,)
    return positives._replace(
        indptr=before[positives.indptr],
        indices=positives.indices[keep],
        weights=_part(positives.weights, keep),
        margins=_part(positives.margins, keep),
    )


def row_range(positives: Positives, part: slice) -> Positives:
    """The pairs of a range of rows.

    >>> from fanin.kernels.spec import Positives
    >>> row_range(Positives(torch.tensor([0, 2, 2, 3]), torch.tensor([5, 7, 4])), slice(1, 3))[:2]
    (tensor([0, 0, 1]), tensor([4]))

    Args:
        positives: the pairs of B rows.
        part: which of the rows, in steps of 1.
    """
    start, stop, _ = part.indices(len(positives.indptr) - 1)
    indptr = positives.indptr[start : stop + 1]
    own = slice(int(indptr[0]), int(indptr[-1]))
    return positives._replace(
        indptr=indptr - indptr[0],
        indices=positives.indices[own],
        weights=_part(positives.weights, own),
        margins=_part(positives.margins, own),
    )


class Pairs(NamedTuple):
    """Distinct pairs of a row and a relevant label, with the weights and margins of :class:`spec.Positives`."""

    rows: Tensor  # (P',) int64
    labels: Tensor  # (P',) int64
    weights: Tensor | None  # (P',)
    margins: Tensor | None  # (P',)

    def at(self, places: Tensor | slice) -> Pairs:
        """Some of the pairs."""
        return Pairs(self.rows[places], self.labels[places], _part(self.weights, places), _part(self.margins, places))


def _part(values: Tensor | None, places: Tensor | slice) -> Tensor | None:
    return None if values is None else values[places]


def sorted_by_label(positives: Positives) -> Pairs:
    """The distinct pairs in the order of the labels, and of the rows within a label."""
    B = len(positives.indptr) - 1
    keys, place = torch.unique(positives.indices * B + rows_of(positives), return_inverse=True)  # (P',) ascending, (P,)

    def distinct(values: Tensor | None) -> Tensor | None:
        return None if values is None else values.new_empty(len(keys)).index_copy_(0, place, values)

    return Pairs(keys % B, keys // B, distinct(positives.weights), distinct(positives.margins))
