"""Values of labels brought together by the index sets that they share: the mean or the largest of a group."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from fanin.classifier.rewiring_modes import GroupScore

BLOCK_VALUES = 1 << 20
"""Values of the largest temporary array of a rewiring."""


def group_scores(
    sets: Tensor,
    group_size: int,
    labels: int,
    width: int,
    how: GroupScore,
    values: Callable[[Tensor], Tensor],
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """A row for each index set out of a row for each of its labels.

    Args:
        sets: (s,) numbers of the sets, ascending.
        group_size: G, consecutive labels that share a set.
        labels: L; the last group may be short.
        width: values a row.
        how: mean or max over a group's labels.
        values: gives the rows (c, width), none negative, of some labels (c,), ascending; asked for piece by piece, so
            that no more than about ``BLOCK_VALUES`` exist at a time, however large the groups are.
        dtype: of the result and of the sums.

    Returns:
        (s, width).

    >>> weight = torch.tensor([[1.0], [3.0], [5.0]])
    >>> group_scores(torch.arange(2), 2, 3, 1, "mean", lambda labels: weight[labels]).tolist()
    [[2.0], [5.0]]
    """
    sets = sets.contiguous()
    members = (sets[:, None] * group_size + torch.arange(group_size, device=sets.device)).flatten()
    members = members[members < labels]
    if group_size == 1 and len(sets) * width <= BLOCK_VALUES:
        return values(members).to(dtype)
    scores = torch.zeros(len(sets), width, dtype=dtype, device=sets.device)
    for piece in torch.split(members, max(1, BLOCK_VALUES // width)):
        place = torch.searchsorted(sets, piece // group_size)[:, None].expand(-1, width)  # (c, width)
        scores.scatter_reduce_(0, place, values(piece).to(dtype), "sum" if how == "mean" else "amax")
    if how == "mean":
        scores /= (labels - sets * group_size).clamp_max(group_size)[:, None]
    return scores
