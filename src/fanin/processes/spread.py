"""Tensors whose rows are spread over several processes: written as one by the first, and handed out by it again."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, NamedTuple

import torch

from fanin.errors import CheckpointError
from fanin.processes.group import room_for

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from torch import Tensor

    from fanin.processes.group import Processes

CHUNK_BYTES = 1 << 26
"""Bytes that the first process holds of another's tensors at a time, and any of what it has on a GPU."""


_NO_ROOM = torch.empty(0, dtype=torch.uint8)


class Whole(NamedTuple):
    """What a spread tensor is as a whole."""

    dtype: torch.dtype
    shape: tuple[int, ...]


class SpreadTensors:
    """Tensors by name; every process holds some rows of each, one process's behind those of the process before.

    Made by all processes at the same time. After that the first one reads all of :meth:`blocks`, in the order of
    :attr:`whole`, while the others :meth:`send`.

    Args:
        own: the rows of this process, on any device; what it holds nothing of may be left out.
        processes: all of them.

    Attributes:
        own: likewise.
        whole: dtype and shape of every tensor with the rows of all processes, larger values first.

    >>> from fanin.processes.group import ALONE
    >>> spread = SpreadTensors({"bias": torch.zeros(3)}, ALONE)
    >>> spread.whole["bias"].shape, [block.shape for block in spread.blocks("bias")]
    ((3,), [torch.Size([3])])
    """

    def __init__(self, own: Mapping[str, Tensor], processes: Processes) -> None:
        self.own, self._processes = own, processes
        described = processes.told_by_all({name: [_name(t.dtype), list(t.shape)] for name, t in own.items()})
        self._rows: dict[str, list[int]] = {}
        wholes: dict[str, Whole] = {}
        for rank, tensors in enumerate(described):
            for name, (dtype, (rows, *rest)) in tensors.items():
                self._rows.setdefault(name, [0] * processes.size)[rank] = rows
                wholes[name] = Whole(getattr(torch, dtype), (sum(self._rows[name]), *rest))
        order = sorted(wholes, key=lambda name: (-wholes[name].dtype.itemsize, name))
        self.whole: Mapping[str, Whole] = {name: wholes[name] for name in order}
        self._room = _NO_ROOM  # for what is received, a block at a time

    def __len__(self) -> int:
        return len(self.whole)

    def blocks(self, name: str) -> Iterator[Tensor]:
        """The rows of a tensor block by block, at the first process, on the CPU; a block lasts until the next one."""
        dtype, (_, *rest) = self.whole[name]
        if name in self.own:
            for rows in _chunks(len(self.own[name]), dtype, rest):
                yield self._own_rows(name, rows)
        for rank in range(1, self._processes.size):
            for rows in _chunks(self._rows[name][rank], dtype, rest):
                yield self._processes.receive(self._room_for((rows.stop - rows.start, *rest), dtype), rank)
        if name == list(self.whole)[-1]:
            self._room = _NO_ROOM

    def send(self) -> None:
        """Hand the own rows to the first process."""
        for name, (dtype, (_, *rest)) in self.whole.items():
            if name in self.own:
                for rows in _chunks(len(self.own[name]), dtype, rest):
                    self._processes.send(self._own_rows(name, rows), 0)

    def _room_for(self, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        """Memory for a block; that of the last one, whose reader may hold it until it has the next."""
        size = dtype.itemsize * torch.Size(shape).numel()
        if len(self._room) < size:
            self._room = torch.empty(max(size, self._largest_block()), dtype=torch.uint8)
        return self._room[:size].view(dtype).view(shape)

    def _largest_block(self) -> int:
        """Bytes of the largest block that another process sends."""
        largest = 0
        for name, (dtype, (_, *rest)) in self.whole.items():
            first = next(_chunks(max(self._rows[name][1:]), dtype, rest), slice(0, 0))
            largest = max(largest, first.stop * dtype.itemsize * torch.Size(rest).numel())
        return largest

    def _own_rows(self, name: str, rows: slice) -> Tensor:
        """Some of the own rows of a tensor, in this machine's memory: what is written and sent goes through it."""
        return self.own[name][rows].detach().cpu()


def handed_out(
    find: Callable[[], Mapping[str, Tensor]],
    own_rows: Mapping[str, int],
    processes: Processes,
    into: Mapping[str, Tensor] | None = None,
) -> dict[str, Tensor]:
    """Tensors that the first process has, for every process the rows that it holds, on the CPU.

    Args:
        find: called by the first process.
        own_rows: how many rows this process holds of each tensor that is spread, by its name, or by its name without
            the number behind the last point. All other tensors go to every process whole.
        processes: all of them.
        into: tensors, by their names, that the values may be written into at once in all processes but the first.

    Raises:
        CheckpointError: the rows of all processes are not those of a tensor.
    """
    if processes.size == 1:
        return dict(find())
    tensors = find() if processes.first else {}
    described = processes.told_by_first(lambda: {n: [_name(t.dtype), list(t.shape)] for n, t in tensors.items()})
    wanted = processes.told_by_all(dict(own_rows))
    found, memory = {}, into or {}
    for name, (dtype_name, shape) in described.items():
        dtype, key = getattr(torch, dtype_name), name if name in own_rows else name.rpartition(".")[0]
        if key not in own_rows:
            make = functools.partial(tensors.__getitem__, name)
            found[name] = processes.of_first(make, shape, dtype, memory.get(name))
            continue
        counts = [rows.get(key, 0) for rows in wanted]
        if sum(counts) != shape[0]:
            raise CheckpointError(f"tensor {name!r} has {shape[0]} rows; the processes hold {sum(counts)} of it")
        found[name] = _own_part(tensors.get(name), Whole(dtype, tuple(shape)), counts, processes, memory.get(name))
    return found


def _own_part(
    tensor: Tensor | None, whole: Whole, counts: list[int], processes: Processes, into: Tensor | None
) -> Tensor:
    """The own rows of a tensor that the first process has."""
    dtype, (_, *rest) = whole
    if processes.first:
        assert tensor is not None
        start = counts[0]
        for rank in range(1, processes.size):
            for rows in _chunks(counts[rank], dtype, rest):
                processes.send(tensor[start + rows.start : start + rows.stop], rank)
            start += counts[rank]
        return tensor[: counts[0]]
    own = room_for(into, (counts[processes.rank], *rest), dtype)
    for rows in _chunks(len(own), dtype, rest):
        processes.receive(own[rows], 0)
    return own


def _chunks(rows: int, dtype: torch.dtype, rest: list[int]) -> Iterator[slice]:
    """Ranges of rows of not too many bytes."""
    width = dtype.itemsize
    for size in rest:
        width *= size
    step = max(1, CHUNK_BYTES // max(width, 1))
    for start in range(0, rows, step):
        yield slice(start, min(start + step, rows))


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
