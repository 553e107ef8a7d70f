"""The process group of torch.distributed that carries tensors between GPUs, by NCCL."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import distributed

from fanin.errors import BackendError, ConfigError

if TYPE_CHECKING:
    from datetime import timedelta

    from torch.distributed import ProcessGroup


def join_gpus(device: torch.device, patience: timedelta) -> ProcessGroup:
    """Connect this process's GPU with those of all others, which join at the same time, and try the connection.

    Args:
        device: a GPU that no other process has; it becomes the current one.
        patience: how long a process waits for another one that is alive.

    Raises:
        BackendError: this torch has no NCCL, or the GPU cannot be used.
        ConfigError: the GPUs do not reach each other.
    """
    if not distributed.is_nccl_available():
        raise BackendError(
            f"device {device}: several processes exchange what lies on their GPUs by NCCL, which torch "
            f"{torch.__version__} is built without; use --device cpu, or a build of torch for CUDA on Linux"
        )
    try:
        torch.cuda.set_device(device)
    except RuntimeError as error:
        raise BackendError(
            f"device {device}: cannot be used ({error}); nvidia-smi tells whether another process has it to itself"
        ) from error
    try:
        group = distributed.new_group(backend="nccl", timeout=patience)
        assert isinstance(group, distributed.ProcessGroup), "all processes are in it"
        # Connections are made at the first exchange: one whose result is looked at shows whether they hold.
        tried = torch.ones(1, device=device)
        distributed.all_reduce(tried, group=group)
        reached = int(tried.item())
    except RuntimeError as error:
        raise ConfigError(
            f"device {device}: the GPUs of this run's processes do not reach each other by NCCL ({error}); "
            "NCCL_DEBUG=INFO tells more, and --device cpu does without"
        ) from error
    assert reached == distributed.get_world_size(), "a sum over all processes is wrong"
    return group
