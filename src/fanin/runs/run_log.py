"""The log of a run: one event a line, in the order of the steps, whatever happened in between."""

from __future__ import annotations

import json
import os
import time
from typing import TYPE_CHECKING, Any, NamedTuple

from fanin.errors import CheckpointError

if TYPE_CHECKING:
    from pathlib import Path


class LogMark(NamedTuple):
    """A place in a log.

    Attributes:
        size: bytes of the file.
        seconds: since the start of the run.
    """

    size: int
    seconds: float


class RunLog:
    """Appends events, and goes back to an earlier place when a run does.

    Args:
        path: the file; made with the first event.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._start = time.monotonic()

    def write(self, event: str, **values: Any) -> None:
        """Append one line of JSON: the event, seconds since the start of the run, and the values.

        Raises:
            CheckpointError: it cannot be written.
        """
        line = {"event": event, "seconds": round(self._seconds(), 3), **values}
        try:
            with self._path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
        except OSError as error:
            raise self._unwritable(error) from error

    def mark(self) -> LogMark:
        """The end of the log, once all of it is on the disk.

        Raises:
            CheckpointError: it cannot be written.
        """
        try:
            with self._path.open("ab") as file:
                os.fsync(file.fileno())
                return LogMark(file.tell(), self._seconds())
        except OSError as error:
            raise self._unwritable(error) from error

    def return_to(self, mark: LogMark) -> None:
        """Cut off what was written after a mark, and count seconds from there.

        What is left ends with a whole line, also where the file has become shorter.

        Raises:
            CheckpointError: it cannot be written.
        """
        try:
            with self._path.open("a+b") as file:
                file.seek(0)
                kept = file.read(mark.size)
                file.truncate(kept.rfind(b"\n") + 1)
        except OSError as error:
            raise self._unwritable(error) from error
        self._start = time.monotonic() - mark.seconds

    def _seconds(self) -> float:
        return time.monotonic() - self._start

    def _unwritable(self, error: OSError) -> CheckpointError:
        return CheckpointError(f"{self._path}: cannot be written ({error.strerror or error})")
