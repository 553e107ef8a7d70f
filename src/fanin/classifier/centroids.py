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
    counts = counts.to(sums.dtype)
    difference = sums / counts.clamp_min(1)[:, None] - mean * (counts > 0)[:, None]  # (C, D)
    padded = torch.zeros(s * group_size, D, dtype=sums.dtype)
    padded[:C] = difference
    energy = padded.view(s, group_size, D).square().sum(1)  # (s, D)
    chosen = energy.topk(F, dim=1).indices.sort(dim=1).values  # (s, F)
    chosen = torch.where(energy.sum(1, keepdim=True) > 0, chosen, index)
    columns = chosen.repeat_interleave(group_size, dim=0)[:C]  # (C, F)
    weight = difference.gather(1, columns)
    noise = _NOISE_SHARE * F * spread
    weight *= gain / (weight.square().sum(1, keepdim=True) + noise).clamp_min(torch.finfo(sums.dtype).tiny)
    return Connections(chosen, weight, -(weight * mean[columns]).sum(1))
