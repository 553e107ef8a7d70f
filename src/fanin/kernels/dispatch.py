"""Which backend serves a request, and why.

A backend is forced with the ``backend`` argument of a layer or the environment variable ``FANIN_BACKEND``; what is
asked for but impossible raises, nothing is replaced silently. Without either, the fastest possible one is taken.
"""

from __future__ import annotations

import os
import warnings
from functools import cache
from typing import TYPE_CHECKING, NamedTuple

import torch

from fanin.errors import BackendError
from fanin.kernels.reference import ReferenceBackend
from fanin.kernels.spec import compute_dtype

if TYPE_CHECKING:
    from fanin.kernels.spec import Backend

BACKENDS = ("reference", "cpu")
VARIABLE = "FANIN_BACKEND"
INSTRUCTION_SET_VARIABLE = "FANIN_CPU_ISA"


class Choice(NamedTuple):
    """A backend and the reason for it, for people to read."""

    backend: Backend
    reason: str


def choose(device: torch.device, dtype: torch.dtype, requested: str | None = None) -> Choice:
    """The backend for tensors of a device and dtype.

    Args:
        device: where the tensors lie.
        dtype: dtype of the weights; arithmetic is in ``compute_dtype(dtype)``.
        requested: "reference", "cpu", or None for the environment variable FANIN_BACKEND, else the fastest.

    Raises:
        BackendError: the name is unknown, or the requested backend or instruction set (FANIN_CPU_ISA) cannot serve.

    >>> choose(torch.device("cpu"), torch.float64).backend.name
    'reference'
    """
    by = "the argument backend"
    if requested is None:
        requested, by = os.environ.get(VARIABLE) or None, f"the environment variable {VARIABLE}"
    if requested is not None and requested not in BACKENDS:
        raise BackendError(f"{by} names an unknown backend {requested!r}; use one of {', '.join(BACKENDS)}")
    if requested == "reference":
        return Choice(_reference(), f"asked for by {by}")
    obstacle = _cpu_obstacle(device, dtype)
    if obstacle is None:
        return Choice(_cpu(), f"asked for by {by}" if requested else f"compiled core, {_short(dtype)} on the CPU")
    if requested == "cpu":
        raise BackendError(
            f"{by} asks for the cpu backend, but {obstacle}; use float32, bfloat16 or float8_e4m3fn on the CPU, or "
            "reference"
        )
    if device.type == "cpu" and compute_dtype(dtype) is torch.float32:
        _say_once(obstacle)
    return Choice(_reference(), obstacle)


@cache
def compiled_core_obstacle() -> str | None:
    """Why the compiled CPU core cannot be used at all, or None if it can."""
    try:
        _cpu()
    except BackendError as error:
        return str(error)
    return None


def _cpu_obstacle(device: torch.device, dtype: torch.dtype) -> str | None:
    if device.type != "cpu":
        return f"the compiled core works on the CPU and the tensors are on {device}"
    if compute_dtype(dtype) is not torch.float32:
        return f"the compiled core computes in float32 and the tensors are {_short(dtype)}"
    obstacle = compiled_core_obstacle()
    if obstacle is not None and os.environ.get(INSTRUCTION_SET_VARIABLE):
        raise BackendError(obstacle)  # an instruction set was asked for, which only the compiled core has
    return obstacle


def _short(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


@cache
def _reference() -> Backend:
    return ReferenceBackend()


@cache
def _cpu() -> Backend:
    from fanin.kernels.cpu import CpuBackend

    return CpuBackend()


@cache
def _say_once(obstacle: str) -> None:
    warnings.warn(
        f"fanin runs on its slow reference backend: {obstacle}. Install a C++ compiler and reinstall fanin.",
        RuntimeWarning,
        stacklevel=4,
    )
