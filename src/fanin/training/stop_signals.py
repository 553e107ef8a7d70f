"""SIGINT (Ctrl-C) and SIGTERM as a wish to stop: work in progress is finished first."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from typing import TYPE_CHECKING

from fanin.processes.group import ALONE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType
    from typing import Any, Self

    from fanin.processes.group import Processes

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_ONE_WISH_SECONDS = 1.0


class Stopped(KeyboardInterrupt):
    """Somebody wished the process to stop.

    Attributes:
        exit_code: 130 after SIGINT, 143 after SIGTERM, as shells have it.
    """

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.exit_code = 128 + number


class StopSignals:
    """While entered, the first of these signals raises :class:`Stopped`, at once or at the end of :meth:`deferred`.

    A second signal ends the process at once, unless it comes within a second: ``timeout``, terminals and batch systems
    send the same wish twice. Outside the main thread, and before it is entered, this does nothing.

    >>> with StopSignals() as stop, stop.deferred():
    ...     pass  # no signal ends the process in here
    """

    def __init__(self) -> None:
        self._before: dict[int, Callable[[int, FrameType | None], Any] | int | None] = {}
        self._deferring = self._over = False
        self._pending: int | None = None
        self._wished: float | None = None  # when the first signal came
        self._processes = ALONE

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._receive) for number in _SIGNALS}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def stop_together(self, processes: Processes) -> None:
        """From now on all of these processes stop at the end of the same :meth:`deferred`, which all of them come to.

        A signal to one of them is then a wish to all, and never stops one while the others wait for it.
        """
        self._processes = processes

    def disregard(self) -> None:
        """From now on a wish to stop comes too late: what is left takes a moment, and nothing is to go on with then.

        A second signal still ends the process at once.
        """
        self._over = True

    @contextlib.contextmanager
    def deferred(self) -> Iterator[None]:
        """Something that is finished before the process stops.

        Raises:
            Stopped: at the end, where a signal came meanwhile.
        """
        self._deferring = True
        try:
            yield
        finally:
            self._deferring = False
        [number] = self._processes.largest(self._pending or 0)
        if number:
            self._pending = None
            raise Stopped(number)

    def _receive(self, number: int, _frame: FrameType | None) -> None:
        now = time.monotonic()
        if self._wished is None:
            self._wished = now
            if self._over:
                return
            if not self._deferring and self._processes.size == 1:
                raise Stopped(number)
            self._pending = number
        elif now - self._wished > _ONE_WISH_SECONDS:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
