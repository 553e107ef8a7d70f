"""The rival of every time and every peak here: a dense layer in bfloat16, trained chunk by chunk and in place.

Products of torch's library; the gradient of the loss is made in the logits' place; no loss value is computed, and the
update rounds to the nearest, which costs nothing and is what makes it a rival in speed alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from benchmarks.gpu.layers import random_weights

from fanin.kernels.positives import rows_of

if TYPE_CHECKING:
    from fanin.kernels.spec import Positives

CHUNKS = (8192, 32_768, 131_072)


class DenseStep:
    """Weights (L, D) and bias (L,) in bfloat16 with a fused step: BCE and plain SGD.

    Args:
        labels: L.
        features: D.
        chunk: labels worked on at a time.
        device: where.
    """

    def __init__(self, labels: int, features: int, chunk: int, device: torch.device) -> None:
        self.weight = random_weights(labels, features, torch.bfloat16, device)
        self.bias = torch.full((labels,), -5.0, dtype=torch.bfloat16, device=device)
        self.chunk = chunk

    def places(self, positives: Positives) -> list[torch.Tensor]:
        """Where the relevant pairs of every chunk lie in its gradient; found once, this is not timed."""
        L = len(self.weight)
        labels, order = positives.indices.sort()
        rows = rows_of(positives)[order]
        starts = range(0, L, self.chunk)
        cuts = torch.searchsorted(labels, torch.tensor([*starts, L], device=labels.device)).tolist()
        return [
            rows[begin:end] * min(self.chunk, L - start) + labels[begin:end] - start
            for start, begin, end in zip(starts, cuts[:-1], cuts[1:], strict=True)
        ]

    def __call__(self, x: torch.Tensor, places: list[torch.Tensor], rate: float) -> torch.Tensor:
        """One step; returns dx (B, D)."""
        B, L = len(x), len(self.weight)
        x16, dx = x.bfloat16(), torch.zeros_like(x)
        room = torch.empty(B * min(self.chunk, L), dtype=torch.bfloat16, device=x.device)
        for start, relevant in zip(range(0, L, self.chunk), places, strict=True):
            weight, bias = self.weight[start : start + self.chunk], self.bias[start : start + self.chunk]
            grad = room[: B * len(weight)].view(B, len(weight))
            torch.addmm(bias, x16, weight.T, out=grad).sigmoid_()
            grad.view(-1)[relevant] -= 1
            grad.mul_(1 / B)
            dx += grad @ weight
            weight.addmm_(grad.T, x16, alpha=-rate)
            bias.sub_(grad.sum(0), alpha=rate)
        return dx
