"""The encoder's share of a training step: clip its gradient, step its dense parameters and its table."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch

from fanin.errors import CheckpointError
from fanin.kernels.active_inputs import ActiveInputs
from fanin.processes.group import ALONE
from fanin.training.bfloat16_adamw import BFloat16AdamW
from fanin.training.float32_adamw import Float32AdamW
from fanin.training.non_finite import NonFiniteError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fanin.encoders.interface import Encoder
    from fanin.processes.group import Processes
    from fanin.recipes.optimizer_recipe import Master, ScheduleSection
    from fanin.training.adamw import EncoderAdamW


class EncoderUpdate:
    """AdamW over an encoder's dense parameters, a learning rate a group of them, and the updates of its table.

    Biases and norms are not decayed; parameters that need no gradient are left alone. Parameters in bfloat16 are for
    :class:`fanin.training.bfloat16_adamw.BFloat16AdamW`.

    Args:
        encoder: what is trained.
        schedules: learning rate of each group of ``encoder.parameter_groups()``, and of "table" if there is a table.
        weight_decay: of the matrices.
        clip_norm: largest Euclidean norm of the whole gradient, table included.
        total_steps: of the run.
        master: what is kept of each parameter where they are in bfloat16; None where they are in float32.
        processes: that each encode some rows of a batch; the gradients of all are added up.
    """

    def __init__(
        self,
        encoder: Encoder,
        schedules: Mapping[str, ScheduleSection],
        *,
        weight_decay: float,
        clip_norm: float,
        total_steps: int,
        master: Master | None = None,
        processes: Processes = ALONE,
    ) -> None:
        self._encoder, self._schedules, self._processes = encoder, schedules, processes
        self._clip_norm, self._total_steps = clip_norm, total_steps
        groups = []
        for name, parameters in encoder.parameter_groups().items():
            decayed = [p for p in parameters if p.ndim > 1]
            others = [p for p in parameters if p.ndim <= 1]
            # An intermediate layer may be larger than all else: its update makes no temporary arrays of its size.
            common = {"schedule": schedules[name], "fused": name == "intermediate"}
            groups += [
                {"params": decayed, "weight_decay": weight_decay, **common},
                {"params": others, "weight_decay": 0.0, **common},
            ]
        groups = [group for group in groups if group["params"]]
        # Frozen features may leave nothing to train here.
        self._optimizer: EncoderAdamW | None = None
        if groups:
            self._optimizer = Float32AdamW(groups) if master is None else BFloat16AdamW(groups, master)

    def backward(self, x: torch.Tensor | ActiveInputs, dx: torch.Tensor) -> None:
        """Give the gradient of a batch's vectors to the encoder; nothing where all of it is frozen."""
        values = x.values if isinstance(x, ActiveInputs) else x
        if values.requires_grad:
            torch.autograd.backward(values, dx)
        if not len(values):  # a batch of fewer rows than processes: the others have gradients
            for parameter in self._encoder.dense_parameters():
                parameter.grad = torch.zeros_like(parameter)

    def step(self, step: int) -> None:
        """Add up the gradients of all processes, clip the whole, then update the dense parameters and the table.

        Args:
            step: number of the step, from 1.

        Raises:
            NonFiniteError: the gradient is not finite; nothing was updated.
        """
        gradients = [p.grad for p in self._encoder.dense_parameters() if p.grad is not None]
        self._processes.add_all(gradients)
        if self._processes.size > 1:
            self._encoder.spread_table_gradient(self._processes.of_all)
        norm = math.hypot(
            float(torch.nn.utils.get_total_norm(gradients)) if gradients else 0.0, self._encoder.table_gradient_norm()
        )
        if not math.isfinite(norm):
            raise NonFiniteError(step, "the encoder's gradient is not finite")
        scale = min(1.0, self._clip_norm / norm) if norm > 0 else 1.0
        if scale < 1:
            torch._foreach_mul_(gradients, scale)
        if self._optimizer is not None:
            for group in self._optimizer.param_groups:
                group["lr"] = group["schedule"].rate(step, self._total_steps)
            self._optimizer.step()
            self._optimizer.zero_grad()
        if "table" in self._schedules:
            self._encoder.table_step(self._schedules["table"].rate(step, self._total_steps), scale)

    def state(self) -> dict[str, torch.Tensor]:
        """The state of AdamW and of the table's update by name, for checkpoints; the tensors are the live ones."""
        found = {f"table.{name}": tensor for name, tensor in self._encoder.table_state().items()}
        if self._optimizer is not None:
            for number, values in self._optimizer.state_dict()["state"].items():
                found |= {f"adamw.{number}.{name}": tensor for name, tensor in values.items()}
        return found

    def load_state(self, state: Mapping[str, torch.Tensor]) -> None:
        """Take up a state of :meth:`state`.

        Raises:
            CheckpointError: a tensor is missing, unknown, or of another shape.
        """
        table = {name.removeprefix("table."): tensor for name, tensor in state.items() if name.startswith("table.")}
        self._encoder.load_table_state(table)
        of_parameter: dict[int, dict[str, torch.Tensor]] = {}
        for name in state.keys() - {f"table.{name}" for name in table}:
            kind, number, value = [*name.split("."), "", ""][:3]
            if kind != "adamw" or not number.isdecimal() or not value:
                raise CheckpointError(f"state of the encoder's update: {name!r} is unknown")
            of_parameter.setdefault(int(number), {})[value] = state[name]
        if self._optimizer is None:
            if of_parameter:
                raise CheckpointError("state of the encoder's update: there is one, but nothing to train")
            return
        parameters = [parameter for group in self._optimizer.param_groups for parameter in group["params"]]
        for place, values in of_parameter.items():
            shape = parameters[place].shape if place < len(parameters) else None
            wanted = {"step": torch.Size([]), **dict.fromkeys(self._optimizer.state_names, shape)}
            found = {name: tensor.shape for name, tensor in values.items()}
            if found != wanted or values["step"].dtype != torch.float32:  # the others are converted
                raise CheckpointError(f"state of the encoder's update: that of parameter {place} does not fit")
        self._optimizer.load_state_dict({"state": of_parameter})
