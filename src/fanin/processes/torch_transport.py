"""The transport of torch.distributed: gloo between the machines' memories, NCCL between GPUs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import distributed

from fanin.processes.gpu_group import join_gpus
from fanin.processes.lost import exchange

if TYPE_CHECKING:
    from datetime import timedelta
    from types import TracebackType
    from typing import Self

    from torch import Tensor
    from torch.distributed import ProcessGroup


class TorchTransport:
    """Exchanges by process groups of torch.distributed; see :class:`fanin.processes.group.Transport`.

    What lies in the machines' memories goes by the group that torch.distributed was set up with, what lies on GPUs by
    one of its own.

    Args:
        patience: how long a process waits for another one that is alive.

    Raises:
        LostProcessError: by every call, where a process has ended. A call that waits for one whose machine has vanished
            does not end, and one for tensors on GPUs gives them before they are there; then it is a
            :class:`fanin.processes.lifeline.Lifeline` that ends the process.
    """

    def __init__(self, patience: timedelta) -> None:
        self._patience, self._on_gpus = patience, False
        self._gpus: ProcessGroup | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        """Leave the groups; after an error the one of the GPUs is left as it is."""
        # To take down a group of GPUs waits for exchanges under way, which after an error may never end.
        if kind is None or not self._on_gpus:
            distributed.destroy_process_group()

    def use_gpu(self, device: torch.device) -> None:
        """Exchange tensors on this process's GPU, too."""
        if not self._on_gpus:
            self._on_gpus = True
            self._gpus = join_gpus(device, self._patience)

    def gather(self, own: Tensor) -> list[Tensor]:
        """The tensors of all processes."""
        found = [torch.empty_like(own) for _ in range(distributed.get_world_size())]
        if own.numel():
            with exchange():
                distributed.all_gather(found, own.contiguous(), group=self._group_of(own))
        return found

    def exchange(self, parts: list[Tensor], rows: int) -> Tensor:
        """What every process has for this one, (N, rows, ...)."""
        found = parts[0].new_empty(rows * len(parts), *parts[0].shape[1:])
        sizes, group = [len(part) for part in parts], self._group_of(found)
        with exchange():
            distributed.all_to_all_single(found, torch.cat(parts), [rows] * len(parts), sizes, group=group)
        return found.view(len(parts), rows, *found.shape[1:])

    def add(self, values: Tensor) -> None:
        """The sum over all processes, in place."""
        with exchange():
            distributed.all_reduce(values, group=self._group_of(values))

    def broadcast(self, values: Tensor) -> None:
        """The values of the first process, in place."""
        if values.numel():
            with exchange():
                distributed.broadcast(_as_bytes(values), 0, group=self._group_of(values))

    def send(self, values: Tensor, to: int) -> None:
        """Hand values to a process."""
        with exchange():
            distributed.send(_as_bytes(values), to, group=self._group_of(values))

    def receive(self, values: Tensor, sender: int) -> None:
        """Take values from a process."""
        with exchange():
            distributed.recv(_as_bytes(values), sender, group=self._group_of(values))

    def _group_of(self, values: Tensor) -> ProcessGroup | None:
        """The group that carries tensors which lie where these do; None is the first one."""
        if values.device.type == "cpu":
            return None
        assert self._gpus is not None, f"{values.device} is nowhere that this process has said it computes"
        return self._gpus


def _as_bytes(values: Tensor) -> Tensor:
    """The same memory as bytes: not every dtype of weights and index sets can be sent."""
    return values.detach().reshape(-1).view(torch.uint8)
