"""Shared cluster weights: one dense vector a cluster of related labels, under the sparse weights of each label."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from fanin.classifier.storage import moved, settle_gradient, takes_gradients
from fanin.classifier.stored_rows import StoredRows
from fanin.errors import ConfigError
from fanin.kernels.spec import SharedScores, compute_dtype
from fanin.kernels.updates import apply_update, zero_moments

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Self

    from fanin.kernels.spec import Update

_CHUNK_BYTES = 1 << 23  # of the gradient that exists at a time, and of vectors in fewer bits that are widened


class ClusterWeights(nn.Module):
    """The dense part of ``score(l) = x . c[cluster(l)] + (sparse score of l)``.

    Clusters are consecutive in the layer's internal order: the label at place ``i`` belongs to cluster
    ``i // cluster_size``. The vectors start at zero, so that at first the layer is the sparse one.

    Args:
        in_features: inputs that a vector reads, the first ones of x.
        labels: L.
        cluster_size: labels a cluster.
        device: where the tensors lie.
        dtype: of the vectors, which may be in fewer bits, as the layer's weights.
        rounding_seed: of the stochastic rounding of vectors in fewer bits.
        backend: "reference" or "cpu" to force one for vectors in fewer bits.
        first_cluster: number of cluster 0 in the layer that this is a part of.
        rate: learning rate of the vectors as a multiple of the layer's.

    Attributes:
        weight: (K, in_features) with K = ceil(L / cluster_size); a parameter without a gradient where it is float8.

    Raises:
        ConfigError: the cluster size is below 1, or the rate not above 0.

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
        rounding_seed: int = 0,
        backend: str | None = None,
        first_cluster: int = 0,
        rate: float = 1.0,
    ) -> None:
        super().__init__()
        if cluster_size < 1:
            raise ConfigError(f"cluster_size={cluster_size} must be at least 1 label")
        if not 0 < rate < math.inf:
            raise ConfigError(f"cluster_rate={rate} must be above 0")
        self.cluster_size = cluster_size
        self.labels = labels
        self.rounding_seed = rounding_seed
        self.backend = backend
        self.first_cluster = first_cluster
        self.rate = rate
        weight = torch.zeros(-(-labels // cluster_size), in_features, device=device, dtype=dtype)
        self.weight = nn.Parameter(weight, takes_gradients(dtype))
        self.moments: tuple[Tensor, ...] | None = None

    def forward(self, x: Tensor) -> Tensor:
        """The shared part of the logits, (B, L) by place; differentiable."""
        scores = self._inputs(x) @ self.weight.to(x.dtype).T
        return scores.repeat_interleave(self.cluster_size, dim=1)[:, : self.labels]

    @torch.no_grad()
    def scores(self, x: Tensor) -> SharedScores:
        """What a kernel adds to its logits, for x (B, D)."""
        scores, x = x.new_empty(len(self.weight), len(x)), self._inputs(x)
        size = self._part_size()
        rows = self.rows(size)
        for start in range(0, len(self.weight), size):
            part = slice(start, start + size)
            torch.mm(rows.read(part), x.T, out=scores[part])
        return SharedScores(scores, self.cluster_size)

    def rows(self, most: int) -> StoredRows:
        """The vectors, to be read as they are computed with, at most so many at a time."""
        return StoredRows(self.weight, most, self.rounding_seed, self.backend, self.first_cluster)

    @torch.no_grad()
    def step(self, x: Tensor, shared_grad: Tensor, dx: Tensor, update: Update, step: int) -> None:
        """Add this part's share to ``dx``, then update the vectors; chunk by chunk of clusters.

        Args:
            x: (B, D), as given to :meth:`scores`.
            shared_grad: (K, B) gradient by the shared scores.
            dx: (B, D), added to in place with the vectors from before the update.
            update: the layer's rule with its learning rate.
            step: number of this step, from 1.
        """
        update = update.scaled(self.rate)
        if self.moments is None:
            self.moments = zero_moments(update, self.weight, None).weight
        x, dx = self._inputs(x), self._inputs(dx)
        size = self._part_size()
        rows = self.rows(size)
        for start in range(0, len(self.weight), size):
            part = slice(start, start + size)
            vectors = rows.read(part)
            dx.addmm_(shared_grad[part].T, vectors)
            moments = tuple(moment[part] for moment in self.moments)
            apply_update(update, vectors, shared_grad[part] @ x, moments, step)
            rows.write(part, step)

    def _part_size(self) -> int:
        """Clusters that are worked on at a time."""
        return max(1, _CHUNK_BYTES // (self.weight.shape[1] * compute_dtype(self.weight.dtype).itemsize))

    def _inputs(self, x: Tensor) -> Tensor:
        return x[:, : self.weight.shape[1]]

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        before = self.weight.dtype
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        settle_gradient(self.weight, before)
        if self.moments is not None:
            dtype = compute_dtype(self.weight.dtype)
            self.moments = tuple(moved(fn, moment, dtype) for moment in self.moments)
        return self
