"""The state that an update keeps of every parameter, as checkpoints name it: ``parameter.number``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fanin.errors import CheckpointError
from fanin.kernels.spec import compute_dtype

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor


def named_state(moments: Mapping[str, tuple[Tensor, ...]]) -> dict[str, Tensor]:
    """The tensors of every parameter's state, each by the parameter's name and its number.

    >>> import torch
    >>> list(named_state({"weight": (torch.zeros(2), torch.ones(2)), "bias": ()}))
    ['weight.0', 'weight.1']
    """
    return {f"{name}.{i}": tensor for name, tensors in moments.items() for i, tensor in enumerate(tensors)}


def checked_state(
    state: Mapping[str, Tensor], parameters: Mapping[str, Tensor], count: int, owner: object
) -> dict[str, tuple[Tensor, ...]]:
    """The tensors of :func:`named_state` by parameter again, as copies of the dtype that is computed in.

    Args:
        state: the tensors, each of its parameter's shape.
        parameters: what it is the state of.
        count: tensors of every parameter.
        owner: their layer, whose type stands in the message.

    Raises:
        CheckpointError: a tensor is missing, unknown, or not of its parameter's shape.
    """
    needed = {f"{name}.{i}": parameter for name, parameter in parameters.items() for i in range(count)}
    for name in sorted(state.keys() | needed.keys()):
        if name not in state or name not in needed or state[name].shape != needed[name].shape:
            raise CheckpointError(f"optimizer state {name!r} does not fit this {type(owner).__name__}")
    return {
        name: tuple(
            state[f"{name}.{i}"].to(parameter.device, compute_dtype(parameter.dtype), copy=True) for i in range(count)
        )
        for name, parameter in parameters.items()
    }
