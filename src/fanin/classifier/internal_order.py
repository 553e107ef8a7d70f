"""The order in which a layer keeps its labels, so that related ones lie together; users see their own ids only."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from fanin.errors import CheckpointError, ConfigError

if TYPE_CHECKING:
    from fanin.kernels.spec import Positives


class InternalOrder(nn.Module):
    """A permutation of the labels, between the ids that users see and the places in a layer's tensors.

    Args:
        labels: L; the order starts as that of the ids.
        device: where the tensors lie.

    Attributes:
        outer: (L,) int32, the label id at every place.
        inner: (L,) int64, the place of every label id; made from ``outer``, not saved.

    >>> order = InternalOrder(3)
    >>> order.assign(torch.tensor([2, 0, 1]))
    >>> order.labels(torch.tensor([[0, -1]])).tolist()
    [[2, -1]]
    """

    outer: Tensor
    inner: Tensor

    def __init__(self, labels: int, device: torch.device | str | None = None) -> None:
        super().__init__()
        self.register_buffer("outer", torch.arange(labels, dtype=torch.int32, device=device))
        self.register_buffer("inner", torch.arange(labels, dtype=torch.int64, device=device), persistent=False)

    def assign(self, outer_of_inner: Tensor) -> None:
        """Take this order, (L,); the layer's tensors stay where they are, so do it before training.

        Raises:
            ConfigError: it is no permutation of the labels.
        """
        if not _is_permutation(outer_of_inner, len(self.outer)):
            raise ConfigError(f"the order of labels must hold each of the labels 0 to {len(self.outer) - 1} once")
        self.outer.copy_(outer_of_inner)
        self._invert()

    def positives(self, positives: Positives) -> Positives:
        """Pairs of rows and label ids as pairs of rows and places."""
        return positives._replace(indices=self.inner[positives.indices])

    def labels(self, places: Tensor) -> Tensor:
        """Label ids int64 of places; -1 stays -1."""
        return torch.where(places >= 0, self.outer[places.clamp_min(0)].long(), -1)

    def _invert(self) -> None:
        places = torch.arange(len(self.outer), device=self.outer.device)
        self.inner = torch.empty_like(places).scatter_(0, self.outer.long(), places)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        outer = state_dict.get(f"{prefix}outer")
        if outer is None or outer.is_meta:
            super()._load_from_state_dict(state_dict, prefix, *args)
            return
        if not _is_permutation(outer, len(self.outer)):
            raise CheckpointError(f"{prefix}outer does not hold each of the labels 0 to {len(self.outer) - 1} once")
        super()._load_from_state_dict(state_dict, prefix, *args)
        self._invert()


def _is_permutation(order: Tensor, count: int) -> bool:
    if order.shape != (count,) or order.is_floating_point():
        return False
    order = order.long()
    inside = bool(((order >= 0) & (order < count)).all())
    return inside and bool((torch.bincount(order, minlength=count) == 1).all())
