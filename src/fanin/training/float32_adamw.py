"""AdamW for parameters in float32: the operations of torch's own, without what comes with it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch

from fanin.training.adamw import EncoderAdamW

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor

    from fanin.training.adamw import State


class Float32AdamW(EncoderAdamW):
    """What ``torch.optim.AdamW`` computes, in the same operations, for groups of float32 parameters.

    A group with "fused" is updated without temporary arrays, others with the roots of all their second moments at once.

    >>> weight = torch.nn.Parameter(torch.ones(2))
    >>> optimizer = Float32AdamW([{"params": [weight], "weight_decay": 0.0, "lr": 0.125}])
    >>> weight.grad = torch.tensor([3.0, -5.0])
    >>> optimizer.step()
    >>> weight.tolist()
    [0.875, 1.125]
    """

    @property
    def state_names(self) -> tuple[str, ...]:
        """Of the tensors of a parameter's shape in its state."""
        return "exp_avg", "exp_avg_sq"

    def _fresh(self, parameter: Tensor) -> State:
        """The state before the first step."""
        value = parameter.detach()
        return {"step": torch.zeros(()), **{name: torch.zeros_like(value) for name in self.state_names}}

    def _update(self, parameters: Sequence[tuple[int, Tensor]], group: Mapping[str, Any]) -> None:
        states = [self._state(*numbered) for numbered in parameters]
        values = [parameter for _, parameter in parameters]
        gradients = [parameter.grad for parameter in values if parameter.grad is not None]
        means, squares = ([state[name] for state in states] for name in self.state_names)
        steps = [state["step"] for state in states]
        torch._foreach_add_(steps, 1)
        rate, decay = group["lr"], group["weight_decay"]
        if group.get("fused"):
            torch._fused_adamw_(
                values,
                gradients,
                means,
                squares,
                [],
                [step.to(value.device) for step, value in zip(steps, values, strict=True)],
                amsgrad=False,
                lr=rate,
                beta1=self._beta1,
                beta2=self._beta2,
                weight_decay=decay,
                eps=self._eps,
                maximize=False,
            )
            return
        counts = [float(step) for step in steps]
        if decay:
            torch._foreach_mul_(values, 1 - rate * decay)
        torch._foreach_lerp_(means, gradients, 1 - self._beta1)
        torch._foreach_mul_(squares, self._beta2)
        torch._foreach_addcmul_(squares, gradients, gradients, 1 - self._beta2)
        roots = [square.sqrt() for square in squares]
        torch._foreach_div_(roots, [math.sqrt(1 - self._beta2**count) for count in counts])
        torch._foreach_add_(roots, self._eps)
        torch._foreach_addcdiv_(values, means, roots, [-rate / (1 - self._beta1**count) for count in counts])
