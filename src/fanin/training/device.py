"""Where a run trains: the CPU, or a GPU that is really there."""

from __future__ import annotations

import torch

from fanin.errors import BackendError, ConfigError


def resolve_device(name: str) -> torch.device:
    """A device by its name.

    Args:
        name: "cpu", "cuda", or "cuda:N" for the N-th GPU.

    Raises:
        ConfigError: it is none of these.
        BackendError: torch finds no such GPU.

    >>> resolve_device("cpu")
    device(type='cpu')
    """
    kind, _, number = name.partition(":")
    plain = kind == name  # no colon
    if kind not in {"cpu", "cuda"} or not (plain or (kind == "cuda" and number.isdecimal())):
        raise ConfigError(f"device {name!r} is not known; use cpu, cuda or cuda:N")
    if kind == "cpu":
        return torch.device("cpu")
    found, wanted = torch.cuda.device_count() if torch.cuda.is_available() else 0, int(number or 0)
    if wanted >= found:
        build = f"built for CUDA {torch.version.cuda}" if torch.version.cuda else "built for the CPU"
        raise BackendError(
            f"device {name!r}: torch {torch.__version__}, {build}, finds {found or 'no'} such GPU; use cpu, or on a "
            "machine with a GPU a build of torch for CUDA ('fanin doctor' shows what is found)"
        )
    return torch.device("cuda", wanted)
