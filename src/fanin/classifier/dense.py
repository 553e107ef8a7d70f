"""The dense layer with the same fused, chunked, in-place step: the honest baseline of every comparison."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from fanin.classifier.weighted import WeightedClassifier
from fanin.kernels.active_inputs import ActiveInputs
from fanin.kernels.losses import loss_and_gradient_inplace
from fanin.kernels.positives import sorted_by_label
from fanin.kernels.spec import SGD
from fanin.kernels.streaming_topk import StreamingTopK
from fanin.kernels.updates import apply_update

if TYPE_CHECKING:
    from fanin.kernels.spec import Loss, Positives, Update

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
        dtype: of weights and bias, float32 by default.
        chunk_size: labels worked on at a time; never changes the result.

    Attributes:
        weight: (L, D).
        bias: (L,) or None.

    >>> DenseLinear(16, 1000).nbytes()
    {'weight': 64000, 'bias': 4000}
    """

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
        dtype: torch.dtype = torch.float32,
        chunk_size: int = DENSE_CHUNK_SIZE,
    ) -> None:
        super().__init__(in_features, out_features, reference_fan_in)
        self.chunk_size = chunk_size
        self.weight = nn.Parameter(torch.empty(out_features, in_features, device=device, dtype=dtype))
        self.bias = nn.Parameter(torch.empty(out_features, device=device, dtype=dtype)) if bias else None
        if not self.weight.is_meta:
            self._draw_weights(initial_scale, in_features, seed)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (..., L) of x (..., D)."""
        self._check_features(x)
        return functional.linear(x, self.weight, self.bias)

    @torch.no_grad()
    def train_step(
        self, x: Tensor | ActiveInputs, positives: Positives, loss: Loss, update: Update, *, weight: float = 1.0
    ) -> tuple[float, Tensor]:
        """One fused step; see :meth:`Classifier.train_step`."""
        if isinstance(x, ActiveInputs):
            x = self._checked_active(x)
            value, dx = self.train_step(x.dense(), positives, loss, update, weight=weight)
            return value, dx[:, x.columns]
        x = self._checked_input(x)
        positives = self._checked_positives(positives, len(x))
        moments, update = self._begin_step(len(x), update)
        scale = weight / len(x)
        pairs = sorted_by_label(positives)
        bounds = torch.arange(0, self.out_features + self.chunk_size, self.chunk_size, device=pairs.labels.device)
        cuts = torch.searchsorted(pairs.labels, bounds).tolist()
        block = x.new_empty(len(x) * min(self.chunk_size, self.out_features))
        dx, total = torch.zeros_like(x), 0.0
        for i, start in enumerate(range(0, self.out_features, self.chunk_size)):
            inside = slice(start, min(start + self.chunk_size, self.out_features))
            chunk = self.weight[inside]  # (C, D)
            logits = block[: len(x) * len(chunk)].view(len(x), len(chunk))
            self._logits(x, inside, out=logits)
            total += loss_and_gradient_inplace(loss, logits, pairs.at(slice(cuts[i], cuts[i + 1])), start)
            grad = logits.mul_(scale)
            dx.addmm_(grad, chunk)
            self._update_weights(inside, grad, x, update, tuple(m[inside] for m in moments.weight))
            if self.bias is not None:
                state = tuple(m[inside] for m in moments.bias)
                apply_update(update.without_decay(), self.bias[inside], grad.sum(0), state, self.steps)
        return scale * total, dx

    @torch.no_grad()
    def topk(self, x: Tensor | ActiveInputs, k: int, exclude: Positives | None = None) -> tuple[Tensor, Tensor]:
        """The k best labels a row; see :meth:`Classifier.topk`."""
        x = self._checked_input(self._checked_active(x).dense() if isinstance(x, ActiveInputs) else x)
        exclude = None if exclude is None else self._checked_positives(exclude, len(x))
        best = StreamingTopK(len(x), self._checked_k(k), x)
        for start in range(0, self.out_features, self.chunk_size):
            inside = slice(start, min(start + self.chunk_size, self.out_features))
            best.add(self._logits(x, inside), start, exclude)
        return best.scores, best.labels

    def nbytes(self) -> dict[str, int]:
        """Bytes of weights and bias."""
        parts = {"weight": self.weight.nbytes}
        return parts if self.bias is None else parts | {"bias": self.bias.nbytes}

    def settings(self) -> dict[str, Any]:
        """Constructor arguments that fix the shapes."""
        return {"in_features": self.in_features, "out_features": self.out_features, "bias": self.bias is not None}

    def _update_weights(
        self, inside: slice, grad: Tensor, x: Tensor, update: Update, moments: tuple[Tensor, ...]
    ) -> None:
        """Update a chunk's weights with the gradient of its logits (B, C)."""
        chunk = self.weight[inside]  # (C, D)
        if isinstance(update, SGD) and not update.momentum:
            keep = 1 - update.learning_rate * update.weight_decay
            chunk.addmm_(grad.T, x, beta=keep, alpha=-update.learning_rate)
        else:
            apply_update(update, chunk, grad.T @ x, moments, self.steps)

    def _logits(self, x: Tensor, inside: slice, out: Tensor | None = None) -> Tensor:
        if self.bias is None:
            return torch.mm(x, self.weight[inside].T, out=out)
        return torch.addmm(self.bias[inside], x, self.weight[inside].T, out=out)
