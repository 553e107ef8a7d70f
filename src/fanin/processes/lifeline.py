"""Processes notice that another one is gone, even while they wait for it or for their GPU."""

from __future__ import annotations

import contextlib
import os
import selectors
import socket
import sys
import threading
from typing import TYPE_CHECKING

from fanin.errors import ConfigError
from fanin.processes.connections import connect_to_first
from fanin.processes.lost import LostProcessError

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

    from fanin.processes.group import Processes

_FAREWELL, _LOST = b"\0", b"\1"
_GRACE_SECONDS = 5.0  # for a process to end by itself, and to say why, after another one is gone
_CLEAR_LINE = "\r\x1b[2K\x1b[?25h"  # of a terminal: back to its start, empty it, show the cursor


class Lifeline:
    """While entered, ends this process, with a message, soon after another one is gone.

    An exchange with a process whose machine has vanished does not end: nobody asks whether it is still there. Nor does
    one between GPUs in which a process is missing. Whoever waits for it cannot be interrupted. So each process has a
    connection to the first one besides, which says nothing until the work is done, but is kept alive by the operating
    systems: one that breaks before is a process that is gone, and the first one passes it on to all. A thread listens.

    A process that is stopped (SIGSTOP, a debugger) is not gone: its machine answers for it, and the others wait.

    Entered by all processes at the same time. After an error that ends this process the others take it for lost.

    Args:
        processes: all of them; two or more.
        address: of the first one's machine.

    Raises:
        ConfigError: at the entrance; the first process cannot be reached.
        LostProcessError: at the entrance; a process has ended before all were connected.
    """

    def __init__(self, processes: Processes, address: str) -> None:
        self._processes, self._address = processes, address
        self._ended = threading.Event()

    def __enter__(self) -> Self:
        try:
            self._lines = connect_to_first(self._processes, self._address)
        except OSError as error:
            raise ConfigError(
                f"the processes of this run cannot connect to the first one, at {self._address} ({error}); between "
                "their machines all ports must be open"
            ) from error
        self._thread = threading.Thread(target=self._listen, name="fanin-lifeline", daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        """Stop listening, with a farewell if the work is done."""
        self._ended.set()
        for line in self._lines:
            with contextlib.suppress(OSError):  # it may be gone: nothing depends on it any more
                if kind is None:
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
        if self._processes.first:
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
