"""Shared cluster weights: one dense vector a cluster of related labels, under the sparse weights of each label."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from fanin.errors import ConfigError
from fanin.kernels.spec import SharedScores, moment_count
from fanin.kernels.updates import apply_update

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Self

    from fanin.kernels.spec import Update

_CHUNK_BYTES = 1 << 23  # of the gradient that exists at a time


class ClusterWeights(nn.Module):
    """The dense part of ``score(l) = x . c[cluster(l)] + (sparse score of l)``.

    Clusters are consecutive in the layer's internal order: the label at place ``i`` belongs to cluster
    ``i // cluster_size``. The vectors start at zero, so that at first the layer is the sparse one.

    Args:
        in_features: inputs that a vector reads, the first ones of x.
        labels: L.
        cluster_size: labels a cluster.
        device: where the tensors lie.
        dtype: of the vectors.

    Attributes:
        weight: (K, in_features) with K = ceil(L / cluster_size).

    Raises:
        ConfigError: the cluster size is below 1.

    >>> ClusterWeights(8, 100, cluster_size=16).weight.shape
    torch.Size([7, 8])
    """

    def __init__(
        self,
        in_features: int,
        labels: int,
        cluster_size: int,
        device: torch.device | str | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__()
        if cluster_size < 1:
            raise ConfigError(f"cluster_size={cluster_size} must be at least 1 label")
        self.cluster_size = cluster_size
        self.labels = labels
        self.weight = nn.Parameter(torch.zeros(-(-labels // cluster_size), in_features, device=device, dtype=dtype))
        self.moments: tuple[Tensor, ...] | None = None

    def forward(self, x: Tensor) -> Tensor:
        """The shared part of the logits, (B, L) by place; differentiable."""
        scores = self._inputs(x) @ self.weight.T
        return scores.repeat_interleave(self.cluster_size, dim=1)[:, : self.labels]

    @torch.no_grad()
    def scores(self, x: Tensor) -> SharedScores:
        """What a kernel adds to its logits, for x (B, D)."""
        return SharedScores(self.weight @ self._inputs(x).T, self.cluster_size)

    @torch.no_grad()
    def step(self, x: Tensor, shared_grad: Tensor, dx: Tensor, update: Update, step: int) -> None:
        """Add this part's share to ``dx``, then update the vectors; chunk by chunk of clusters.

        Args:
            x: (B, D), as given to :meth:`scores`.
            shared_grad: (K, B) gradient by the shared scores.
            dx: (B, D), added to in place with the vectors from before the update.
            update: the rule with its learning rate.
            step: number of this step, from 1.
        """
        if self.moments is None:
            self.moments = tuple(torch.zeros_like(self.weight) for _ in range(moment_count(update)))
        x = self._inputs(x)
        K, D = self.weight.shape
        self._inputs(dx).addmm_(shared_grad.T, self.weight)
        size = max(1, _CHUNK_BYTES // (D * self.weight.element_size()))
        for start in range(0, K, size):
            part = slice(start, start + size)
            moments = tuple(moment[part] for moment in self.moments)
            apply_update(update, self.weight[part], shared_grad[part] @ x, moments, step)

    def _inputs(self, x: Tensor) -> Tensor:
        return x[:, : self.weight.shape[1]]

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        if self.moments is not None:
            self.moments = tuple(map(fn, self.moments))
        return self
