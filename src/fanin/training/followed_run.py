"""A run as the processes see it that do not write its folder, which the first one does."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fanin.runs.run_folder import RunFolder, RunOrigin
from fanin.runs.run_log import LogMark, RunLog

if TYPE_CHECKING:
    from collections.abc import Callable

    from fanin.processes.group import Processes
    from fanin.recipes.recipe import Recipe


class _NoLog(RunLog):
    """Keeps nothing."""

    def write(self, event: str, **values: Any) -> None:
        """Nothing."""

    def mark(self) -> LogMark:
        """No place."""
        return LogMark(0, 0.0)

    def return_to(self, mark: LogMark) -> None:
        """Nothing."""


class FollowedRun(RunFolder):
    """The run folder of another process, perhaps on another machine: nothing is read from it or written to it.

    Args:
        path: the folder.
        origin: what the run was started with.
        finished: whether it is over.
    """

    def __init__(self, path: Path, origin: RunOrigin, *, finished: bool) -> None:
        super().__init__(path, origin, lock=-1)
        self.log, self._finished = _NoLog(path), finished

    @property
    def finished(self) -> bool:
        """Whether the run was over when this process joined it."""
        return self._finished

    def write_recipe(self, recipe: Recipe) -> None:
        """Nothing."""

    def write_metrics(self, metrics: dict[str, Any]) -> None:
        """Nothing."""

    def discard(self) -> None:
        """Nothing."""


def opened_by_first(processes: Processes, make: Callable[[], RunFolder]) -> RunFolder:
    """The run folder that the first process makes or opens, whose lock it holds for all.

    Args:
        processes: that work on the run.
        make: makes or opens it.
    """
    if processes.size == 1:
        return make()
    run = make() if processes.first else None

    def description() -> list[Any]:
        assert run is not None
        return [str(run.path), asdict(run.origin), run.finished]

    path, origin, finished = processes.told_by_first(description)
    return run or FollowedRun(Path(path), RunOrigin(**origin), finished=finished)
