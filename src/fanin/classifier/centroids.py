"""Connections from label centroids: a start for labels so rare that random connections learn nothing of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch

if TYPE_CHECKING:
    from torch import Tensor

# A centroid that is nearer to the average text than this share of the texts' spread is not worth amplifying.
_NOISE_SHARE = 0.05


class Connections(NamedTuple):
    """Index sets, weights and biases of a range of labels."""

    inputs: Tensor  # (s, F) int64, ascending
    weight: Tensor  # (C, F)
    offset: Tensor  # (C,) to be added to the biases


def centroid_connections(
    sums: Tensor, counts: Tensor, mean: Tensor, spread: float, index: Tensor, group_size: int, gain: float
) -> Connections:
    """The F inputs in which the labels of each index set differ most from the average text, weighted by the difference.

    A label's weights are its centroid less the mean of all texts, on the chosen inputs, scaled so that its own training
    texts score nearly ``gain`` above the average text in the mean, and much less where the difference is no larger than
    chance would make it; the offset keeps the average text's score at the bias.

    Args:
        sums: (C, D) sum of x over the training texts of each label, for C labels from the first of an index set on.
        counts: (C,) number of these texts.
        mean: (D,) mean x of all training texts.
        spread: mean square of a feature's distance from its mean over all training texts.
        index: (s, F) the index sets of these labels so far; labels without texts keep them.
        group_size: G, labels that share an index set.
        gain: what a label's own texts score above the average one.

    >>> sums, counts = torch.tensor([[4.0, 0.0, -2.0]]), torch.tensor([2.0])
    >>> found = centroid_connections(sums, counts, torch.zeros(3), 0.0, torch.tensor([[0, 1]]), 1, gain=5.0)
    >>> found.inputs.tolist(), found.weight.tolist()
    ([[0, 2]], [[2.0, -1.0]])
    """
    (C, D), (s, F) = sums.shape, index.shape
    difference = _difference(sums, counts, mean)
    padded = torch.zeros(s * group_size, D, dtype=sums.dtype)
    padded[:C] = difference
    energy = padded.view(s, group_size, D).square().sum(1)  # (s, D)
    chosen = energy.topk(F, dim=1).indices.sort(dim=1).values  # (s, F)
    chosen = torch.where(energy.sum(1, keepdim=True) > 0, chosen, index)
    columns = chosen.repeat_interleave(group_size, dim=0)[:C]  # (C, F)
    weight = _amplified(difference.gather(1, columns), spread, gain)
    return Connections(chosen, weight, -(weight * mean[columns]).sum(1))


def centroid_rows(sums: Tensor, counts: Tensor, mean: Tensor, spread: float, gain: float) -> tuple[Tensor, Tensor]:
    """The weights (C, D) and offsets (C,) of :func:`centroid_connections` for labels that read all D inputs.

    >>> sums, counts, mean = torch.tensor([[4.0, 0.0]]), torch.tensor([2.0]), torch.tensor([1.0, 0.0])
    >>> rows, offset = centroid_rows(sums, counts, mean, 0.0, gain=5.0)
    >>> rows.tolist(), offset.tolist()
    ([[5.0, 0.0]], [-5.0])
    """
    weight = _amplified(_difference(sums, counts, mean), spread, gain)
    return weight, -(weight @ mean)


def _difference(sums: Tensor, counts: Tensor, mean: Tensor) -> Tensor:
    """(C, D) centroids less the mean of all texts, zero for a label without texts."""
    counts = counts.to(sums.dtype)
    return sums / counts.clamp_min(1)[:, None] - mean * (counts > 0)[:, None]


def _amplified(weight: Tensor, spread: float, gain: float) -> Tensor:
    """``weight`` (C, F), in place, such that a label's own texts score ``gain`` where it is more than noise."""
    noise = _NOISE_SHARE * weight.shape[1] * spread
    weight *= gain / (weight.square().sum(1, keepdim=True) + noise).clamp_min(torch.finfo(weight.dtype).tiny)
    return weight
