"""Processes that compute on GPUs notice that another one is gone, even while they wait for their GPU."""

from __future__ import annotations

import contextlib
import os
import secrets
import selectors
import socket
import sys
import threading
import time
from typing import TYPE_CHECKING

import torch
from torch import distributed

from fanin.errors import ConfigError
from fanin.processes.lost import LostProcessError, exchange

if TYPE_CHECKING:
    from collections.abc import Iterator

_FAREWELL, _LOST = b"\0", b"\1"
_GRACE_SECONDS = 5.0  # for a process to end by itself, and to say why, after another one is gone
_JOIN_SECONDS = 300.0
_KEEP_ALIVE = {"TCP_KEEPIDLE": 20, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 5}  # a machine that is gone: 45 seconds
_CLEAR_LINE = "\r\x1b[2K\x1b[?25h"  # of a terminal: back to its start, empty it, show the cursor
_TOKEN_BYTES, _TOKEN_SECONDS = 32, 10.0


class Lifeline:
    """Ends this process, with a message, soon after another one is gone.

    An exchange between GPUs in which one process is missing never ends, and whoever waits for its result cannot be
    interrupted. So each process has a connection to the first one besides, which says nothing until the work is done:
    one that breaks before is a process that is gone, and the first one passes it on to all. A thread listens.

    Made by all processes at the same time, after torch.distributed was set up.

    Args:
        address: of the first process's machine.

    Raises:
        ConfigError: the first process cannot be reached.
        LostProcessError: a process has ended before all were connected.
    """

    def __init__(self, address: str) -> None:
        self._first = distributed.get_rank() == 0
        self._ended = threading.Event()
        try:
            self._lines = list(_accepted() if self._first else _connected(address))
        except OSError as error:
            raise ConfigError(
                f"the processes of this run cannot connect to the first one, at {address} ({error}); between their "
                "machines all ports must be open"
            ) from error
        self._thread = threading.Thread(target=self._listen, name="fanin-lifeline", daemon=True)
        self._thread.start()

    def end(self, *, farewell: bool) -> None:
        """Stop listening.

        Args:
            farewell: whether the work is done; without one the others take this process for lost.
        """
        self._ended.set()
        for line in self._lines:
            with contextlib.suppress(OSError):  # it may be gone: nothing depends on it any more
                if farewell:
                    line.sendall(_FAREWELL)
                line.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        for line in self._lines:
            line.close()

    def _listen(self) -> None:
        with selectors.DefaultSelector() as selector:
            for line in self._lines:
                selector.register(line, selectors.EVENT_READ)
            while selector.get_map():
                for key, _ in selector.select():
                    peer = key.fileobj
                    assert isinstance(peer, socket.socket)
                    try:
                        told = peer.recv(1)
                    except OSError:
                        told = b""
                    if told != _FAREWELL:
                        self._lose()
                        return
                    selector.unregister(peer)

    def _lose(self) -> None:
        """Pass it on that a process is gone, and end this one unless it ends by itself."""
        if self._ended.is_set():  # it is this one that goes
            return
        if self._first:
            for line in self._lines:
                with contextlib.suppress(OSError):
                    line.sendall(_LOST)
        if not self._ended.wait(_GRACE_SECONDS):
            _end_process(LostProcessError(ConnectionError("its connection is broken")))


def _end_process(error: LostProcessError) -> None:
    """Say why and end at once, in the place of a line of progress, which nobody is left to take away."""
    stream = sys.__stderr__ or sys.stderr  # while progress is shown, the latter would draw the line anew
    stream.write(f"{_CLEAR_LINE if stream.isatty() else ''}error: {error}\n")
    stream.flush()
    os._exit(2)


def _accepted() -> Iterator[socket.socket]:
    """The connections of all other processes, as the first one has them."""
    both = socket.has_dualstack_ipv6()
    family = socket.AF_INET6 if both else socket.AF_INET
    with socket.create_server(("", 0), family=family, dualstack_ipv6=both) as server:
        server.settimeout(_JOIN_SECONDS)
        token = secrets.token_bytes(_TOKEN_BYTES)
        told = server.getsockname()[1].to_bytes(2, "big") + token
        with exchange():
            distributed.broadcast(torch.frombuffer(bytearray(told), dtype=torch.uint8), 0)
        missing = distributed.get_world_size() - 1
        while missing:
            line, _ = server.accept()
            if _knows(line, token):
                missing -= 1
                yield _kept_alive(line)
            else:
                line.close()


def _knows(line: socket.socket, token: bytes) -> bool:
    """Whether whoever has connected is a process of this run."""
    told, until = b"", time.monotonic() + _TOKEN_SECONDS  # for all of it, however slowly it comes
    try:
        while len(told) < len(token):
            line.settimeout(max(until - time.monotonic(), 0))
            more = line.recv(len(token) - len(told))
            if not more:
                return False
            told += more
    except OSError:
        return False
    return secrets.compare_digest(told, token)


def _connected(address: str) -> Iterator[socket.socket]:
    """The connection to the first process."""
    told = torch.empty(2 + _TOKEN_BYTES, dtype=torch.uint8)
    with exchange():
        distributed.broadcast(told, 0)
    port, token = int.from_bytes(bytes(told[:2].tolist()), "big"), bytes(told[2:].tolist())
    line = socket.create_connection((address, port), timeout=_JOIN_SECONDS)
    line.sendall(token)
    yield _kept_alive(line)


def _kept_alive(line: socket.socket) -> socket.socket:
    line.settimeout(None)
    line.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _KEEP_ALIVE.items():
        if hasattr(socket, name):
            line.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
    return line
