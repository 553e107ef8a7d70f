"""The processes that train one model together, and what they exchange."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Protocol

import torch

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor


class Transport(Protocol):
    """How tensors get from one process to another; every call but the last two is made by all of them.

    Tensors of one call lie in one place: in the machines' memory, or on each process's GPU after :meth:`use_gpu`.
    """

    def use_gpu(self, device: torch.device) -> None:
        """Exchange tensors on this process's GPU from now on, too."""

    def gather(self, own: Tensor) -> list[Tensor]:
        """The tensors of all processes, in their order; all of one shape and dtype."""

    def exchange(self, parts: list[Tensor], rows: int) -> Tensor:
        """What every process has for this one, (N, rows, ...): ``parts[r]`` goes to process r."""

    def add(self, values: Tensor) -> None:
        """Make the values their sum over all processes, the same bits in each."""

    def broadcast(self, values: Tensor) -> None:
        """Make the values those of the first process."""

    def send(self, values: Tensor, to: int) -> None:
        """Hand values to a process, which receives them."""

    def receive(self, values: Tensor, sender: int) -> None:
        """Fill the values with those that a process sends."""


class Processes:
    """All processes of a run, as one of them sees them. With one process every exchange gives what it got.

    Rows of a batch, and rows of a tensor that all hold a part of, are shared in the order of the processes.

    Args:
        rank: number of this process, from 0.
        size: N, how many there are.
        transport: between them; none is needed for one.

    Attributes:
        rank: number of this process.
        size: N.
        sent: bytes that this process has sent. What all processes get of each other is counted as if every process
            sent its part to every other one, a sum as 2 (N - 1) / N of its values, which is what rings of processes do.

    >>> ALONE.own_rows(7), ALONE.summed_rows(torch.ones(2, 1)).tolist()
    (slice(0, 7, None), [[1.0], [1.0]])
    """

    def __init__(self, rank: int, size: int, transport: Transport | None = None) -> None:
        assert 0 <= rank < size
        assert transport is not None or size == 1
        self.rank, self.size, self.sent = rank, size, 0
        self._transport = transport

    def compute_on(self, device: torch.device) -> None:
        """Say where this process computes, which decides what can be exchanged besides tensors on the CPU.

        Args:
            device: the CPU, or a GPU that no other process has; then all of them have one.

        Raises:
            BackendError: this torch cannot exchange tensors between GPUs.
            ConfigError: the GPUs do not reach each other.
        """
        if self._transport is not None and device.type != "cpu":
            self._transport.use_gpu(device)

    @property
    def first(self) -> bool:
        """Whether this is the first process, which alone writes files and tells what happens."""
        return self.rank == 0

    def rows_of(self, rank: int, rows: int) -> slice:
        """The rows of a batch that a process encodes; the first processes have one more where they are not even.

        >>> [Processes(0, 3, transport=...).rows_of(rank, 7) for rank in range(3)]
        [slice(0, 3, None), slice(3, 5, None), slice(5, 7, None)]
        """
        each, more = divmod(rows, self.size)
        start = rank * each + min(rank, more)
        return slice(start, start + each + (rank < more))

    def own_rows(self, rows: int) -> slice:
        """The rows of a batch that this process encodes."""
        return self.rows_of(self.rank, rows)

    def counts(self, own: int) -> list[int]:
        """A number of every process."""
        if self._transport is None:
            return [own]
        self.sent += 8 * (self.size - 1)
        return torch.cat(self._transport.gather(torch.tensor([own]))).tolist()

    def concatenated(self, own: Tensor, counts: Sequence[int] | None = None) -> Tensor:
        """The rows of all processes, one after the other.

        Args:
            own: (n, ...) of this process; n may be another in each, all else is the same.
            counts: n of each process, where it is known.
        """
        return own if self._transport is None else torch.cat(self.of_all(own, counts))

    def of_all(self, own: Tensor, counts: Sequence[int] | None = None) -> list[Tensor]:
        """The tensors of all processes; see :meth:`concatenated`."""
        if self._transport is None:
            return [own]
        counts = self.counts(len(own)) if counts is None else list(counts)
        padded = own.new_zeros(max(counts), *own.shape[1:])
        padded[: len(own)] = own
        self.sent += padded.nbytes * (self.size - 1)
        found = self._transport.gather(padded)
        return [rows[:count] for rows, count in zip(found, counts, strict=True)]

    def summed_rows(self, values: Tensor) -> Tensor:
        """The own rows of the sum of all processes' values (B, ...), added in the order of the processes."""
        if self._transport is None:
            return values
        own = self.own_rows(len(values))
        parts = [values[self.rows_of(rank, len(values))].contiguous() for rank in range(self.size)]
        self.sent += values.nbytes - parts[self.rank].nbytes
        found = self._transport.exchange(parts, own.stop - own.start)
        return found.sum(0)

    def add(self, values: Tensor) -> Tensor:
        """Make the values their sum over all processes; gives them."""
        if self._transport is not None:
            self.sent += 2 * values.nbytes * (self.size - 1) // self.size
            self._transport.add(values)
        return values

    def add_all(self, tensors: Sequence[Tensor]) -> None:
        """Make each of some tensors its sum over all processes, in float32 and in one exchange."""
        if self._transport is not None and tensors:
            flat = self.add(torch.cat([tensor.reshape(-1).float() for tensor in tensors]))
            for tensor, values in zip(tensors, torch.split(flat, [tensor.numel() for tensor in tensors]), strict=True):
                tensor.copy_(values.view_as(tensor))

    def largest(self, *own: int) -> list[int]:
        """The largest of each number over all processes."""
        if self._transport is None:
            return list(own)
        self.sent += 8 * len(own) * (self.size - 1)
        return torch.stack(self._transport.gather(torch.tensor(own, dtype=torch.int64))).amax(0).tolist()

    def wait(self) -> None:
        """Go on when all processes have come here."""
        self.largest(0)

    def of_first(
        self, make: Callable[[], Tensor], shape: Sequence[int], dtype: torch.dtype, into: Tensor | None = None
    ) -> Tensor:
        """A tensor that the first process makes while the others wait.

        Args:
            make: makes it.
            shape: of it.
            dtype: of it.
            into: memory for it in the other processes, where it can be used; see :func:`room_for`.
        """
        if self._transport is None:
            return make()
        values = make().contiguous() if self.first else room_for(into, shape, dtype)
        self.sent += values.nbytes if self.first else 0  # what the others pass on is as much
        self._transport.broadcast(values)
        return values

    def found_by_first(self, find: Callable[[], Tensor | None]) -> Tensor | None:
        """A tensor that the first process finds, or None, while the others wait."""
        if self._transport is None:
            return find()
        found = find() if self.first else None

        def description() -> list[Any] | None:
            return None if found is None else [str(found.dtype).removeprefix("torch."), list(found.shape)]

        described = self.told_by_first(description)
        if described is None:
            return None
        dtype, shape = described
        return self.of_first(lambda: found, shape, getattr(torch, dtype))  # type: ignore[arg-type, return-value]

    def told_by_first(self, make: Callable[[], Any]) -> Any:
        """A plain value, such as JSON holds, that the first process makes while the others wait."""
        if self._transport is None:
            return make()
        text = torch.frombuffer(bytearray(json.dumps(make()).encode()), dtype=torch.uint8) if self.first else None
        [size, *_] = self.counts(0 if text is None else len(text))
        found = self.of_first(lambda: text, (size,), torch.uint8)  # type: ignore[arg-type, return-value]
        return json.loads(found.numpy().tobytes())

    def told_by_all(self, value: Any) -> list[Any]:
        """A plain value of every process."""
        if self._transport is None:
            return [value]
        text = torch.frombuffer(bytearray(json.dumps(value).encode()), dtype=torch.uint8)
        sizes = self.counts(len(text))
        return [json.loads(part.numpy().tobytes()) for part in self.of_all(text, sizes)]

    def send(self, values: Tensor, to: int) -> None:
        """Hand values to a process, which receives them."""
        assert self._transport is not None, "there is nobody to send to"
        self.sent += values.nbytes
        self._transport.send(values.contiguous(), to)

    def receive(self, values: Tensor, sender: int) -> Tensor:
        """Fill the values with those that a process sends; gives them."""
        assert self._transport is not None, "there is nobody to receive from"
        self._transport.receive(values, sender)
        return values


def room_for(into: Tensor | None, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
    """Memory for values that are sent: a tensor's own where it is on the CPU, of this shape and dtype and in one piece.

    >>> own = torch.zeros(3)
    >>> room_for(own, [3], torch.float32) is own, room_for(own, [2], torch.float32) is own
    (True, False)
    """
    if into is not None and (into.device.type, into.dtype, tuple(into.shape)) == ("cpu", dtype, tuple(shape)):
        return into.contiguous()
    return torch.empty(tuple(shape), dtype=dtype)


ALONE = Processes(0, 1)
"""A process that trains by itself."""
