"""Processes of a run as threads of this one, for what needs no process of its own."""

import threading
from concurrent.futures import ThreadPoolExecutor
from queue import SimpleQueue

import torch

from fanin.processes.group import Processes


class ThreadTransport:
    """Hands tensors from thread to thread; see :class:`fanin.processes.group.Transport`."""

    def __init__(self, rank, size, board, barrier, mail):
        self._rank, self._size, self._board, self._barrier, self._mail = rank, size, board, barrier, mail

    def _shown(self, value):
        self._board[self._rank] = value
        self._barrier.wait()
        found = list(self._board)
        self._barrier.wait()
        return found

    def gather(self, own):
        found = self._shown(own.clone())
        assert len({(tensor.shape, tensor.dtype) for tensor in found}) == 1
        return found

    def exchange(self, parts, rows):
        found = [theirs[self._rank] for theirs in self._shown([part.clone() for part in parts])]
        assert {len(part) for part in found} == {rows}
        return torch.stack(found)

    def add(self, values):
        values.copy_(torch.stack(self._shown(values.clone())).sum(0))

    def broadcast(self, values):
        first = self._shown(values.clone())[0]
        assert (first.shape, first.dtype) == (values.shape, values.dtype)
        values.copy_(first)

    def send(self, values, to):
        self._mail[self._rank, to].put(values.clone())

    def receive(self, values, sender):
        values.copy_(self._mail[sender, self._rank].get(timeout=20))


def run_together(size, work):
    """``work(processes)`` in so many threads; what each gives."""
    board, barrier = [None] * size, threading.Barrier(size, timeout=20)
    mail = {(one, other): SimpleQueue() for one in range(size) for other in range(size)}

    def run(rank):
        torch.set_num_threads(1)
        try:
            return work(Processes(rank, size, ThreadTransport(rank, size, board, barrier, mail)))
        except BaseException:
            barrier.abort()
            raise

    with ThreadPoolExecutor(size) as pool:
        futures = [pool.submit(run, rank) for rank in range(size)]
    errors = [future.exception() for future in futures if future.exception()]
    for error in sorted(errors, key=lambda error: isinstance(error, threading.BrokenBarrierError)):
        raise error
    return [future.result() for future in futures]
