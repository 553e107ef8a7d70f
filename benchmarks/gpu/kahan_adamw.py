"""AdamW for parameters in bfloat16, each with a compensation for what rounding has lost of its updates."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Iterable

_PIECE = 1 << 22  # values computed on in float32 at a time


class KahanAdamW:
    """Adam with decoupled weight decay; moments and compensations (Kahan summation) in the parameters' dtype.

    A step frees the gradients, and takes temporary arrays for a piece of a parameter only.

    Args:
        parameters: in bfloat16.
        learning_rate: of every step.
        decay: weight decay.
    """

    def __init__(self, parameters: Iterable[torch.nn.Parameter], learning_rate: float, decay: float = 0.01) -> None:
        self._state = [
            (p, torch.zeros_like(p), torch.zeros_like(p), torch.zeros_like(p)) for p in parameters if p.requires_grad
        ]
        self._rate, self._decay, self._steps = learning_rate, decay, 0

    @torch.no_grad()
    def step(self) -> None:
        """Update every parameter with its gradient."""
        self._steps += 1
        first, second = 1 - 0.9**self._steps, math.sqrt(1 - 0.999**self._steps)
        for parameter, mean, square, lost in self._state:
            if parameter.grad is None:
                continue
            flat = [tensor.view(-1) for tensor in (parameter, parameter.grad, mean, square, lost)]
            for pieces in zip(*(tensor.split(_PIECE) for tensor in flat), strict=True):
                value, grad, m, v, c = pieces
                g = grad.float()
                new_m, new_v = m.float().lerp_(g, 0.1), v.float().mul_(0.999).addcmul_(g, g, value=0.001)
                m.copy_(new_m)
                v.copy_(new_v)
                change = new_m.div_(new_v.sqrt_().div_(second).add_(1e-8)).mul_(-self._rate / first)
                change.add_(value.float(), alpha=-self._rate * self._decay).add_(c.float())
                wide = value.float()
                value.copy_(wide + change)
                c.copy_(change.sub_(value.float() - wide))
            parameter.grad = None
