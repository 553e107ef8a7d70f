"""The transport of torch.distributed, which is gloo between CPUs."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import torch
from torch import distributed

from fanin.processes.lost import LostProcessError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor


class TorchTransport:
    """Exchanges by the process group that torch.distributed has made; see :class:`fanin.processes.group.Transport`.

    Raises:
        LostProcessError: by every call, where a process has ended or cannot be reached any more.
    """

    def gather(self, own: Tensor) -> list[Tensor]:
        """The tensors of all processes."""
        found = [torch.empty_like(own) for _ in range(distributed.get_world_size())]
        if own.numel():
            with _connected():
                distributed.all_gather(found, own.contiguous())
        return found

    def exchange(self, parts: list[Tensor], rows: int) -> list[Tensor]:
        """What every process has for this one."""
        found = parts[0].new_empty(rows * len(parts), *parts[0].shape[1:])
        sizes = [len(part) for part in parts]
        with _connected():
            distributed.all_to_all_single(found, torch.cat(parts), [rows] * len(parts), sizes)
        return list(found.view(len(parts), rows, *found.shape[1:]))

    def add(self, values: Tensor) -> None:
        """The sum over all processes, in place."""
        with _connected():
            distributed.all_reduce(values)

    def broadcast(self, values: Tensor) -> None:
        """The values of the first process, in place."""
        if values.numel():
            with _connected():
                distributed.broadcast(_as_bytes(values), 0)

    def send(self, values: Tensor, to: int) -> None:
        """Hand values to a process."""
        with _connected():
            distributed.send(_as_bytes(values), to)

    def receive(self, values: Tensor, sender: int) -> None:
        """Take values from a process."""
        with _connected():
            distributed.recv(_as_bytes(values), sender)


def _as_bytes(values: Tensor) -> Tensor:
    """The same memory as bytes: not every dtype of weights and index sets can be sent."""
    return values.detach().reshape(-1).view(torch.uint8)


@contextlib.contextmanager
def _connected() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        raise LostProcessError(error) from error
