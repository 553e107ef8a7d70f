"""SIGINT (Ctrl-C) and SIGTERM as a wish to stop: work in progress is finished first."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType
    from typing import Any, Self

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
        self._deferring = False
        self._pending: int | None = None
        self._wished: float | None = None  # when the first signal came

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._receive) for number in _SIGNALS}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

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
        if self._pending is not None:
            number, self._pending = self._pending, None
            raise Stopped(number)

    def _receive(self, number: int, _frame: FrameType | None) -> None:
        now = time.monotonic()
        if self._wished is None:
            self._wished = now
            if not self._deferring:
                raise Stopped(number)
            self._pending = number
        elif now - self._wished > _ONE_WISH_SECONDS:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
