"""The dense layer with the same fused, chunked, in-place step: the honest baseline of every comparison."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional

from fanin.classifier.storage import rounding_seed_or, storage_settings
from fanin.classifier.stored_rows import StoredRows
from fanin.classifier.weighted import WeightedClassifier
from fanin.kernels.active_inputs import ActiveInputs
from fanin.kernels.losses import loss_and_gradient_inplace
from fanin.kernels.positives import sorted_by_label
from fanin.kernels.spec import SGD
from fanin.kernels.streaming_topk import StreamingTopK
from fanin.kernels.updates import apply_update

if TYPE_CHECKING:
    from fanin.classifier.shard import Shard
    from fanin.kernels.spec import Loss, Moments, Positives, Update

DENSE_CHUNK_SIZE = 4096


class DenseLinear(WeightedClassifier):
    """Every label reads every input. Trained chunk by chunk with in-place matrix products, never a (B, L) array.

    Args:
        in_features: D.
        out_features: L.
        bias: whether each label has a bias.
        reference_fan_in: R, to update at R / D times the learning rate
            (:class:`fanin.classifier.weighted.WeightedClassifier`); None for the whole rate.
        seed: of the weights.
        initial_scale: weights and bias start uniform within initial_scale / sqrt(D); 0 starts at zero.
        device: where the tensors lie.
        dtype: of the weights, as in :class:`fanin.classifier.sparse.SparseLinear`.
        rounding_seed: of the stochastic rounding of weights in fewer bits; None for one that ``seed`` determines.
        chunk_size: labels worked on at a time; never changes the result.
        shard: which labels of a larger layer these are (:meth:`part`); None for a layer of its own.

    Attributes:
        weight: (L, D); a parameter without a gradient where it is float8: only :meth:`train_step` can train that.
        bias: (L,) or None.

    >>> DenseLinear(16, 1000).nbytes()
    {'weight': 64000, 'bias': 4000}
    """

    fewer_bits = True

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        bias: bool = True,
        reference_fan_in: int | None = None,
        seed: int = 0,
        initial_scale: float = 1.0,
        device: torch.device | str | None = None,
        dtype: torch.dtype | str = torch.float32,
        rounding_seed: int | None = None,
        chunk_size: int = DENSE_CHUNK_SIZE,
        shard: Shard | None = None,
    ) -> None:
        super().__init__(in_features, out_features, reference_fan_in, shard)
        self.chunk_size = chunk_size
        self._start = {"seed": seed, "initial_scale": initial_scale}
        self._make_parameters(
            (out_features, in_features),
            bias=bias,
            device=device,
            dtype=dtype,
            rounding_seed=rounding_seed_or(rounding_seed, seed),
        )
        if not self.weight.is_meta:
            self._draw_weights(initial_scale, in_features, seed)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (..., L) of x (..., D), in fewer bits as :meth:`fanin.classifier.sparse.SparseLinear.forward`."""
        given, x = x.dtype, self._forward_input(x)
        return functional.linear(x, self.weight.to(x.dtype), self.bias).to(given)

    @torch.no_grad()
    def train_step(
        self, x: Tensor | ActiveInputs, positives: Positives, loss: Loss, update: Update, *, weight: float = 1.0
    ) -> tuple[float, Tensor]:
        """One fused step; see :meth:`Classifier.train_step`."""
        rows = self._dense_input(x)
        positives = self._checked_positives(positives, len(rows))
        moments, update = self._begin_step(len(rows), update)
        value, dx = self._make_step(rows, positives, loss, update, moments, weight / len(rows))
        return value, dx[:, x.columns] if isinstance(x, ActiveInputs) else dx

    def _make_step(
        self, x: Tensor, positives: Positives, loss: Loss, update: Update, moments: Moments, scale: float
    ) -> tuple[float, Tensor]:
        """The loss and its gradient by x (B, D), both times the scale; updates weights, bias and moments in place."""
        pairs = sorted_by_label(positives)
        bounds = torch.arange(0, self.out_features + self.chunk_size, self.chunk_size, device=pairs.labels.device)
        cuts = torch.searchsorted(pairs.labels, bounds).tolist()
        block = x.new_empty(len(x) * min(self.chunk_size, self.out_features))
        rows = self._rows()
        dx, total = torch.zeros_like(x), 0.0
        for i, start in enumerate(range(0, self.out_features, self.chunk_size)):
            inside = slice(start, min(start + self.chunk_size, self.out_features))
            chunk = rows.read(inside)  # (C, D)
            logits = block[: len(x) * len(chunk)].view(len(x), len(chunk))
            self._logits(x, chunk, inside, out=logits)
            total += loss_and_gradient_inplace(loss, logits, pairs.at(slice(cuts[i], cuts[i + 1])), start)
            grad = logits.mul_(scale)
            dx.addmm_(grad, chunk)
            self._update_weights(chunk, inside, grad, x, update, tuple(m[inside] for m in moments.weight))
            rows.write(inside, self.steps)
            if self.bias is not None:
                state = tuple(m[inside] for m in moments.bias)
                apply_update(update.without_decay(), self.bias[inside], grad.sum(0), state, self.steps)
        return scale * total, dx

    @torch.no_grad()
    def topk(self, x: Tensor | ActiveInputs, k: int, exclude: Positives | None = None) -> tuple[Tensor, Tensor]:
        """The k best labels a row; see :meth:`Classifier.topk`."""
        x = self._dense_input(x)
        exclude = None if exclude is None else self._checked_positives(exclude, len(x))
        best, rows = StreamingTopK(len(x), self._checked_k(k), x), self._rows()
        for start in range(0, self.out_features, self.chunk_size):
            inside = slice(start, min(start + self.chunk_size, self.out_features))
            best.add(self._logits(x, rows.read(inside), inside), start, exclude)
        return best.scores, best.labels

    def nbytes(self) -> dict[str, int]:
        """Bytes of weights and bias."""
        parts = {"weight": self.weight.nbytes}
        return parts if self.bias is None else parts | {"bias": self.bias.nbytes}

    def settings(self) -> dict[str, Any]:
        """Constructor arguments that fix the shapes."""
        settings = {"in_features": self.in_features, "out_features": self.out_features, "bias": self.bias is not None}
        return settings | storage_settings(self.weight.dtype, self.rounding_seed)

    def part(self, start: int, stop: int) -> DenseLinear:
        """The layer of the labels start to stop of this one, as it would be if it were made whole; on the CPU."""
        options = self._options_of_part(start)
        return DenseLinear(self.in_features, stop - start, chunk_size=self.chunk_size, **options)

    def _dense_input(self, x: Tensor | ActiveInputs) -> Tensor:
        """X with all its columns, (B, D)."""
        return self._checked_input(self._checked_active(x).dense() if isinstance(x, ActiveInputs) else x)

    def _rows(self) -> StoredRows:
        return StoredRows(self.weight, self.chunk_size, self.rounding_seed, first_row=self.shard.first)

    def _update_weights(
        self,
        chunk: Tensor,
        inside: slice,  # noqa: ARG002 - for layers that look at more than the weights there
        grad: Tensor,
        x: Tensor,
        update: Update,
        moments: tuple[Tensor, ...],
    ) -> None:
        """Update the weights of some labels, (C, D), in place with the gradient of their logits (B, C)."""
        if isinstance(update, SGD) and not update.momentum:
            keep = 1 - update.learning_rate * update.weight_decay
            chunk.addmm_(grad.T, x, beta=keep, alpha=-update.learning_rate)
        else:
            apply_update(update, chunk, grad.T @ x, moments, self.steps)

    def _logits(self, x: Tensor, chunk: Tensor, inside: slice, out: Tensor | None = None) -> Tensor:
        if self.bias is None:
            return torch.mm(x, chunk.T, out=out)
        return torch.addmm(self.bias[inside], x, chunk.T, out=out)
