"""What a training run shows while it goes on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from fanin.training.process_memory import peak_bytes

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.progress import TaskID


class ProgressDisplay(Protocol):
    """What the trainer tells of its progress."""

    def start(self, what: str, total: int) -> None:
        """A stage of ``total`` texts begins; the one before has ended."""

    def advance(self, texts: int, note: str = "") -> None:
        """So many more texts are done; ``note`` says how it goes."""

    def say(self, line: str) -> None:
        """A line that stays."""

    def close(self) -> None:
        """The run is over, or broke off."""


class Silent:
    """Shows nothing."""

    def start(self, what: str, total: int) -> None:
        """Nothing."""

    def advance(self, texts: int, note: str = "") -> None:
        """Nothing."""

    def say(self, line: str) -> None:
        """Nothing."""

    def close(self) -> None:
        """Nothing."""


class Bar:
    """A progress bar on standard error: loss, texts a second, time left, memory. Off a terminal, only the lines.

    Args:
        console: where to draw; standard error by default.
    """

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(stderr=True)
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.percentage:>3.0f}%"),
            TextColumn("{task.fields[note]}"),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[memory]}"),
            console=self._console,
            transient=True,
            disable=not self._console.is_terminal,
        )
        self._task: TaskID | None = None

    def start(self, what: str, total: int) -> None:
        """Draw a new bar."""
        if self._task is not None:
            self._progress.remove_task(self._task)
        self._progress.start()
        self._task = self._progress.add_task(what, total=total, note="", rate="", memory="")

    def advance(self, texts: int, note: str = "") -> None:
        """Move the bar."""
        assert self._task is not None, "start comes first"
        speed = self._progress.tasks[self._progress.task_ids.index(self._task)].speed
        self._progress.update(
            self._task,
            advance=texts,
            note=note,
            rate=f"{speed:,.0f} texts/s" if speed else "",
            memory=f"{peak_bytes() / 2**20:,.0f} MiB",
        )

    def say(self, line: str) -> None:
        """Print a line above the bar, literally."""
        self._console.print(line, markup=False, highlight=False)

    def close(self) -> None:
        """Take the bar away."""
        self._progress.stop()


def stage_progress(display: ProgressDisplay, what: str) -> Callable[[int, int], None]:
    """A function to be called with (texts done, texts in all), which shows a stage; it begins with the first call."""
    before = 0

    def tell(done: int, total: int) -> None:
        nonlocal before
        if not before:
            display.start(what, total)
        display.advance(done - before)
        before = done

    return tell
