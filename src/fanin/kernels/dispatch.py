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

BACKENDS = ("reference", "cpu", "triton")
VARIABLE = "FANIN_BACKEND"
INSTRUCTION_SET_VARIABLE = "FANIN_CPU_ISA"
SMALLEST_CAPABILITY = (8, 0)
"""Of an NVIDIA GPU that the Triton kernels are compiled and tested for."""


class Choice(NamedTuple):
    """A backend and the reason for it, for people to read."""

    backend: Backend
    reason: str


def choose(device: torch.device, dtype: torch.dtype, requested: str | None = None) -> Choice:
    """The backend for tensors of a device and dtype.

    Args:
        device: where the tensors lie.
        dtype: dtype of the weights; arithmetic is in ``compute_dtype(dtype)``.
        requested: "reference", "cpu", "triton", or None for the environment variable FANIN_BACKEND, else the fastest.

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
    if requested == "triton" or (requested is None and device.type == "cuda"):
        return _choose_triton(device, dtype, by if requested else None)
    obstacle = _cpu_obstacle(device, dtype)
    if obstacle is None:
        return Choice(_cpu(), f"asked for by {by}" if requested else f"compiled core, {_short(dtype)} on the CPU")
    if requested == "cpu":
        raise BackendError(
            f"{by} asks for the cpu backend, but {obstacle}; use float32, bfloat16 or float8_e4m3fn on the CPU, or "
            "reference"
        )
    if device.type == "cpu" and compute_dtype(dtype) is torch.float32:
        _say_once(f"{obstacle}. Install a C++ compiler and reinstall fanin")
    return Choice(_reference(), obstacle)


def _choose_triton(device: torch.device, dtype: torch.dtype, asked_by: str | None) -> Choice:
    """Triton for tensors on a GPU; where it was not asked for and cannot serve, the reference does."""
    obstacle = _triton_obstacle(device, dtype)
    if obstacle is None:
        reason = f"asked for by {asked_by}" if asked_by else f"Triton kernels, {_short(dtype)} on {device}"
        return Choice(_triton(), reason)
    if asked_by:
        raise BackendError(
            f"{asked_by} asks for the triton backend, but {obstacle}; use float32, bfloat16 or float8_e4m3fn on an "
            "NVIDIA GPU, or reference"
        )
    if compute_dtype(dtype) is torch.float32:
        _say_once(obstacle)
    return Choice(_reference(), obstacle)


@cache
def triton_obstacle() -> str | None:
    """Why Triton's kernels cannot be used at all, or None if they can."""
    try:
        _triton()
    except ImportError as error:
        return f"Triton is not installed ({error}); pip install 'fanin[gpu]' brings it"
    return None


def _triton_obstacle(device: torch.device, dtype: torch.dtype) -> str | None:
    if dtype not in {torch.float32, torch.bfloat16, torch.float8_e4m3fn}:
        return f"Triton's kernels read float32, bfloat16 and float8_e4m3fn and the tensors are {_short(dtype)}"
    interpreted = os.environ.get("TRITON_INTERPRET") == "1"
    if device.type != ("cpu" if interpreted else "cuda"):
        place = "the CPU where TRITON_INTERPRET=1" if interpreted else "a GPU"
        return f"Triton's kernels work on {place} and the tensors are on {device}"
    if device.type == "cuda":
        if torch.version.hip is not None:
            return "Triton's kernels are written for NVIDIA GPUs, and this torch is built for AMD's"
        capability = torch.cuda.get_device_capability(device)
        if capability < SMALLEST_CAPABILITY:
            needed, found = (".".join(map(str, version)) for version in (SMALLEST_CAPABILITY, capability))
            return f"Triton's kernels need a GPU of compute capability {needed} or newer, and {device} has {found}"
    return triton_obstacle()


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
def _triton() -> Backend:
    from fanin.kernels.triton.backend import TritonBackend

    return TritonBackend()


@cache
def _say_once(obstacle: str) -> None:
    warnings.warn(
        f"fanin runs on its slow reference backend: {obstacle}.",
        RuntimeWarning,
        stacklevel=4,
    )
