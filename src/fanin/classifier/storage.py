"""What an output layer stores its weights as: float32, or bfloat16 or float8 that are computed with in float32."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from fanin.errors import ConfigError
from fanin.kernels.drawing import mix_seed
from fanin.kernels.spec import compute_dtype

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor, nn

_ROUNDING_STREAM = 3  # of a layer's seed
_DTYPES = (torch.float32, torch.bfloat16, torch.float8_e4m3fn, torch.float64, torch.float16)


def weight_dtype(dtype: torch.dtype | str) -> torch.dtype:
    """The dtype to store weights as, from a dtype of torch or its name.

    Raises:
        ConfigError: weights are not stored as that.

    >>> weight_dtype("bfloat16")
    torch.bfloat16
    """
    found = getattr(torch, dtype, None) if isinstance(dtype, str) else dtype
    if found not in _DTYPES:
        names = ", ".join(_name(known) for known in _DTYPES)
        raise ConfigError(f"dtype={dtype!r}: weights are stored as one of {names}")
    assert isinstance(found, torch.dtype)
    return found


def in_fewer_bits(dtype: torch.dtype) -> bool:
    """Whether weights of a dtype are widened for every computation and rounded stochastically after every update."""
    return compute_dtype(dtype) is not dtype


def takes_gradients(dtype: torch.dtype) -> bool:
    """Whether autograd may give weights of a dtype a gradient: it has the weights' dtype, and float8 is too coarse."""
    return dtype is not torch.float8_e4m3fn


def settle_gradient(parameter: nn.Parameter, before: torch.dtype) -> None:
    """Let a parameter that was converted from another dtype require a gradient if only now it may have one, or not."""
    if takes_gradients(before) != takes_gradients(parameter.dtype):
        parameter.requires_grad_(takes_gradients(parameter.dtype))


def rounding_seed_or(rounding_seed: int | None, seed: int) -> int:
    """The seed of the stochastic rounding: the one given, else one that the layer's seed determines.

    Raises:
        ConfigError: what is given is no whole number.
    """
    if rounding_seed is None:
        return mix_seed(seed, _ROUNDING_STREAM)
    if not isinstance(rounding_seed, int):
        raise ConfigError(f"rounding_seed={rounding_seed!r} must be a whole number")
    return rounding_seed


def storage_settings(dtype: torch.dtype, rounding_seed: int) -> dict[str, Any]:
    """The arguments of a constructor that fix the storage, as plain values: none for weights that are not rounded.

    >>> storage_settings(torch.bfloat16, 7), storage_settings(torch.float32, 7)
    ({'dtype': 'bfloat16', 'rounding_seed': 7}, {})
    """
    return {"dtype": _name(dtype), "rounding_seed": rounding_seed} if in_fewer_bits(dtype) else {}


def moved(fn: Callable[[Tensor], Tensor], state: Tensor, dtype: torch.dtype) -> Tensor:
    """``fn(state)``, which changes device or dtype, but with the values of ``state`` where fn would cut bits off.

    Args:
        fn: as torch's modules apply it to their tensors.
        state: an update's state, or another tensor that is computed with.
        dtype: the one that is computed in.
    """
    found = fn(state)
    return found if found.dtype == dtype else state.to(found.device, dtype)


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
