"""AdamW for parameters in bfloat16, whose updates are mostly smaller than what bfloat16 can add to them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch

from fanin.kernels import dispatch
from fanin.kernels.drawing import mix_seed
from fanin.training.adamw import EncoderAdamW

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor

    from fanin.recipes.optimizer_recipe import Master
    from fanin.training.adamw import State

_PIECE = 1 << 22  # values worked on in float32 at a time
_ROUNDING_SEED = 0x5EC04D


class BFloat16AdamW(EncoderAdamW):
    """Adam with decoupled weight decay that loses no update to bfloat16's spacing.

    With master "kahan" each parameter has a compensation beside it, in bfloat16 too, of what rounding has cut off of
    its updates so far (Kahan, 1965); both moments are bfloat16, the second one rounded stochastically, since a decay of
    a thousandth is less than half of its spacing. With "fp32" a float32 copy of the parameter and float32 moments are
    kept. All arithmetic is in float32, a piece of a parameter at a time. A gradient is freed when its parameter is
    updated.

    Bytes a parameter, its own two and its gradient's two included: 10 with "kahan", 16 with "fp32"; AdamW on float32
    parameters has 16 and temporary arrays of 4 to 8.

    Args:
        groups: as in :class:`fanin.training.adamw.EncoderAdamW`, like the other options.
        master: what is kept of the bits that a parameter has no room for.

    >>> weight = torch.nn.Parameter(torch.ones(4, dtype=torch.bfloat16))
    >>> optimizer = BFloat16AdamW([{"params": [weight], "weight_decay": 0.0, "lr": 1e-4}], "kahan")
    >>> for _ in range(100):  # together a step of 0.01, each one far below the spacing of 0.004 below 1
    ...     weight.grad = torch.ones_like(weight)
    ...     optimizer.step()
    >>> weight.tolist()
    [0.98828125, 0.98828125, 0.98828125, 0.98828125]
    """

    def __init__(self, groups: Sequence[dict[str, Any]], master: Master, **options: float) -> None:
        super().__init__(groups, **options)
        self._master = master

    @property
    def state_names(self) -> tuple[str, ...]:
        """Of the tensors of a parameter's shape in its state."""
        return "exp_avg", "exp_avg_sq", "master" if self._master == "fp32" else "lost"

    def _fresh(self, parameter: Tensor) -> State:
        """The state before the first step."""
        value = parameter.detach()
        state = {"step": torch.zeros(())}  # read by the processor
        if self._master == "fp32":
            wide = torch.zeros_like(value, dtype=torch.float32)
            return state | {"exp_avg": wide, "exp_avg_sq": wide.clone(), "master": value.float()}
        return state | {name: torch.zeros_like(value) for name in ("exp_avg", "exp_avg_sq", "lost")}

    def _update(self, parameters: Sequence[tuple[int, Tensor]], group: Mapping[str, Any]) -> None:
        for number, parameter in parameters:
            self._update_one(number, parameter, group["lr"], group["weight_decay"])
            parameter.grad = None

    def _update_one(self, number: int, parameter: Tensor, rate: float, decay: float) -> None:
        state = self._state(number, parameter)
        state["step"] += 1
        step = int(state["step"])
        assert parameter.grad is not None
        flat = [tensor.view(-1) for tensor in (parameter.detach(), parameter.grad.contiguous())]
        flat += [state[name].view(-1) for name in self.state_names]
        size, seed = parameter.numel(), mix_seed(_ROUNDING_SEED, number)
        for start in range(0, size, _PIECE):
            value, gradient, mean, square, kept = (tensor[start : start + _PIECE] for tensor in flat)
            wide = value.float() if self._master == "kahan" else kept
            change = self._moments(mean, square, gradient.float(), step, (seed, start))
            # theta - rate * (mean / (sqrt(square) + eps) + decay * theta)
            change.add_(wide, alpha=decay).mul_(-rate)
            if self._master == "fp32":
                value.copy_(kept.add_(change))
            else:
                change.add_(kept.float())
                value.copy_(wide + change)
                kept.copy_(change.sub_(value.float() - wide))

    def _moments(self, mean: Tensor, square: Tensor, gradient: Tensor, step: int, key: tuple[int, int]) -> Tensor:
        """Update both moments of a piece; returns the direction of the step, float32.

        Args:
            mean: the first moment.
            square: the second.
            gradient: float32.
            step: number of the step, from 1.
            key: seed of the rounding, and the piece's first element.
        """
        new_mean = mean.float().lerp_(gradient, 1 - self._beta1)
        new_square = square.float().mul_(self._beta2).addcmul_(gradient, gradient, value=1 - self._beta2)
        mean.copy_(new_mean)
        if square.dtype is torch.bfloat16:
            seed, first = key
            dispatch.choose(square.device, square.dtype).backend.round_into(new_square, square, seed, step, first)
        else:
            square.copy_(new_square)
        # Float32 moments are their own float(): from here on nothing is written in place of them.
        root = new_square.sqrt().div_(math.sqrt(1 - self._beta2**step)).add_(self._eps)
        return new_mean.div(1 - self._beta1**step).div_(root)
