"""Where a run trains: the CPU, or a GPU that is really there."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import torch

from fanin.errors import BackendError, ConfigError

if TYPE_CHECKING:
    from fanin.processes.group import Processes
    from fanin.processes.launch import OwnPlace

_DEVICE = re.compile(r"cpu|cuda(:(?P<number>[0-9]{1,3}))?")
_LAST_GPU = 127


def named_device(name: str) -> torch.device:
    """A device by its name, which need not be there.

    Args:
        name: "cpu", "cuda", or "cuda:N" for the N-th GPU, counted from 0; N is at most 127, the last that torch knows.

    Raises:
        ConfigError: it is none of these.

    >>> named_device("cuda")
    device(type='cuda', index=0)
    """
    found = _DEVICE.fullmatch(name)
    # torch takes larger numbers too, and wraps them round.
    if found is None or int(found["number"] or 0) > _LAST_GPU:
        raise ConfigError(f"device {name!r} is not known; use cpu, cuda or cuda:N, N from 0 to {_LAST_GPU}")
    return torch.device("cpu") if name == "cpu" else torch.device("cuda", int(found["number"] or 0))


def resolve_device(name: str, place: OwnPlace | None = None) -> torch.device:
    """A device that is there, by its name.

    Args:
        name: see :func:`named_device`.
        place: of this process where several train together: "cuda" is then a GPU of its own for each.

    Raises:
        ConfigError: it is none of these, or one GPU for several processes.
        BackendError: torch finds no such GPU, or too few for the processes of this machine.

    >>> resolve_device("cpu")
    device(type='cpu')
    """
    device = named_device(name)
    if device.type == "cpu":
        return device
    found = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if place is not None:
        if name != "cuda":
            raise ConfigError(
                f"device {name!r} is one GPU, and each of several processes needs one of its own; use cuda, which "
                "gives them the GPUs of their machine one by one"
            )
        device = torch.device("cuda", place.number)
        if 0 < found < place.of:
            raise BackendError(
                f"device {name!r}: {place.of} processes on this machine, and torch finds {found} GPU"
                f"{'s' if found > 1 else ''}; each process needs one of its own: start torchrun with --nproc-per-node "
                f"{found}, or use cpu"
            )
    if device.index >= found:
        build = f"built for CUDA {torch.version.cuda}" if torch.version.cuda else "built for the CPU"
        raise BackendError(
            f"device {name!r}: torch {torch.__version__}, {build}, finds {found or 'no'} such GPU; use cpu, or on a "
            "machine with a GPU a build of torch for CUDA ('fanin doctor' shows what is found)"
        )
    return device


def require_one_kind(device: torch.device, processes: Processes) -> None:
    """Refuse processes of which some compute on GPUs and some do not: what they exchange lies in one kind of place.

    Args:
        device: where this one computes.
        processes: all of them, which call this at the same time.

    Raises:
        ConfigError: the kinds differ; in all processes.
    """
    kinds = processes.told_by_all(device.type)
    if len(set(kinds)) > 1:
        told = ", ".join(f"process {rank} on {kind}" for rank, kind in enumerate(kinds))
        raise ConfigError(
            f"the processes of a run compute on one kind of device, and these differ: {told}; give all of them the "
            "same --device"
        )
