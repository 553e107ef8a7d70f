"""What the encoder's optimizers have in common: groups of parameters, and their state in checkpoints."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, TypeAlias

import torch

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor

    State: TypeAlias = dict[str, Tensor]


class EncoderAdamW(ABC):
    """Adam with decoupled weight decay (Loshchilov and Hutter, 2019) over some parameters.

    Not a ``torch.optim.Optimizer``: those import torch's compiler when they are made, some 40 to 70 MB of modules that
    a run has no other use for.

    Args:
        groups: each with "params" and "weight_decay"; "lr" is set to 0.0 where it is missing and may be changed between
            steps.
        beta1: decay of the first moment.
        beta2: decay of the second moment.
        eps: added to its root.

    Attributes:
        param_groups: the groups.
    """

    def __init__(
        self, groups: Sequence[dict[str, Any]], *, beta1: float = 0.9, beta2: float = 0.999, eps: float = 1e-8
    ) -> None:
        self.param_groups = [{"lr": 0.0, **group} for group in groups]
        self._beta1, self._beta2, self._eps = beta1, beta2, eps
        self._parameters = [parameter for group in self.param_groups for parameter in group["params"]]
        self._states: list[State | None] = [None] * len(self._parameters)

    @torch.no_grad()
    def step(self) -> None:
        """Update every parameter that has a gradient."""
        number = 0
        for group in self.param_groups:
            found = []
            for parameter in group["params"]:
                if parameter.grad is not None:
                    found.append((number, parameter))
                number += 1
            if found:
                self._update(found, group)

    def zero_grad(self) -> None:
        """Forget all gradients."""
        for parameter in self._parameters:
            parameter.grad = None

    def state_dict(self) -> dict[str, dict[int, State]]:
        """The live tensors of every parameter's state, by the parameter's number and name, under "state"."""
        return {"state": {number: state for number, state in enumerate(self._states) if state is not None}}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take up copies of what :meth:`state_dict` gave, on the parameters' device."""
        for number, values in state["state"].items():
            own = self._fresh(self._parameters[number])
            self._states[number] = {name: values[name].to(own[name].device, own[name].dtype, copy=True) for name in own}

    @property
    @abstractmethod
    def state_names(self) -> tuple[str, ...]:
        """Of the tensors of a parameter's shape in its state; it has "step" too, a number on the CPU."""

    @abstractmethod
    def _update(self, parameters: Sequence[tuple[int, Tensor]], group: Mapping[str, Any]) -> None:
        """Update parameters of a group, each with its number; all have gradients."""

    @abstractmethod
    def _fresh(self, parameter: Tensor) -> State:
        """The state before the first step."""

    def _state(self, number: int, parameter: Tensor) -> State:
        """The live state of a parameter, made on first use: by then it lies on its device."""
        state = self._states[number]
        if state is None:
            state = self._states[number] = self._fresh(parameter)
        return state
