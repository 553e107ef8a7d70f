"""The checkpoints of a run: when the next one is due, which are kept, and which one a run goes on from."""

from __future__ import annotations

import contextlib
import re
import time
from typing import TYPE_CHECKING

from fanin.errors import CheckpointError
from fanin.folders import remove_folder
from fanin.processes.group import ALONE
from fanin.runs.checkpoint import DamagedCheckpointError, read_checkpoint, send_parts, write_checkpoint
from fanin.runs.checkpoint_handover import told_checkpoint

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from fanin.processes.group import Processes
    from fanin.recipes.checkpoint_recipe import CheckpointSection
    from fanin.runs.checkpoint import Checkpoint, Part, RunFacts

_NAME = re.compile(r"step-(\d{8,18})")
_DAMAGED = ".damaged"


class CheckpointSeries:
    """The checkpoints in one folder, a folder each, named by their steps.

    Args:
        folder: that holds them; made with the first.
        section: when they are saved and how many are kept.
        processes: that save and read them together; the first one alone reads and writes the folder.
    """

    def __init__(self, folder: Path, section: CheckpointSection, processes: Processes = ALONE) -> None:
        self._folder, self._section, self._processes = folder, section, processes
        self._saved = time.monotonic()

    def due(self, step: int) -> bool:
        """Whether to save after a step: its number says so, or the time since the last save, or since the start."""
        steps, minutes = self._section.steps, self._section.minutes
        by_steps = steps is not None and step % steps == 0
        by_time = minutes is not None and time.monotonic() - self._saved >= 60 * minutes
        [due] = self._processes.largest(by_steps or by_time)  # their clocks differ
        return bool(due)

    def save(self, facts: RunFacts, parts: Mapping[str, Part]) -> int:
        """Write the checkpoint of a step, the newest, then remove all but the last ones; gives its bytes.

        Raises:
            CheckpointError: it cannot be written; all older ones are kept.
        """
        if not self._processes.first:
            send_parts(parts)
            self._saved = time.monotonic()
            return 0
        newest = newest_step(self._folder)
        step = facts.position.step
        target = self._folder / f"step-{step:08d}"
        try:
            write_checkpoint(target, facts, parts)
        except CheckpointError as error:
            kept = "there is no earlier one" if newest is None else f"the one of step {newest} is kept"
            raise CheckpointError(f"{error}; {kept}. Mend that, and go on with fanin resume") from error
        self._saved = time.monotonic()
        found = _newest_first(self._folder)
        later = [folder for folder in found if _step_of(folder) > step]  # of a past that the run has gone back from
        for folder in [*later, *found[len(later) + self._section.kept :]]:
            remove_folder(folder)
        return sum(path.stat().st_size for path in target.iterdir())

    def newest(self, say: Callable[[str], None]) -> Checkpoint | None:
        """The newest checkpoint that is whole, None where there is none at all.

        Newer ones that are damaged are put aside under another name.

        Args:
            say: told which are damaged.

        Raises:
            CheckpointError: there are some, but none of them is whole; or one is of another version or cannot be read.
        """
        found = self._newest(say) if self._processes.first else None
        return told_checkpoint(found, self._processes)

    def _newest(self, say: Callable[[str], None]) -> Checkpoint | None:
        damaged: list[tuple[Path, str]] = []
        for folder in _newest_first(self._folder):
            try:
                checkpoint = read_checkpoint(folder)
            except DamagedCheckpointError as error:
                damaged.append((folder, str(error)))
                continue
            for bad, reason in damaged:
                say(f"{reason}: this checkpoint is put aside, the one of step {checkpoint.facts.position.step} is used")
                with contextlib.suppress(OSError):
                    bad.rename(bad.with_name(f"{bad.name}{_DAMAGED}"))
            return checkpoint
        if damaged:
            reasons = "; ".join(reason for _, reason in damaged)
            raise CheckpointError(
                f"{reasons}: no whole checkpoint is left. Put back a copy of one, or delete {self._folder} and resume: "
                "the run then starts from its first step"
            )
        return None

    def remove(self) -> None:
        """Remove all of them: a finished run needs none."""
        if self._processes.first and self._folder.is_dir():
            remove_folder(self._folder)


def newest_step(folder: Path) -> int | None:
    """The step of the newest checkpoint in a folder, unread; None without any."""
    found = _newest_first(folder)
    return _step_of(found[0]) if found else None


def _newest_first(folder: Path) -> list[Path]:
    found = [path for path in folder.glob("step-*") if _NAME.fullmatch(path.name) and path.is_dir()]
    return sorted(found, key=_step_of, reverse=True)


def _step_of(folder: Path) -> int:
    match = _NAME.fullmatch(folder.name)
    assert match is not None
    return int(match[1])
