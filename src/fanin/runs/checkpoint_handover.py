"""A checkpoint that the first of several processes has read, as the others know it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from fanin.runs.checkpoint import Checkpoint, RunFacts

if TYPE_CHECKING:
    from fanin.processes.group import Processes


def told_checkpoint(found: Checkpoint | None, processes: Processes) -> Checkpoint | None:
    """What a checkpoint says, for all processes; its tensors are the first one's to hand out.

    Args:
        found: what the first process has found; of the others it is not looked at.
        processes: all of them.
    """
    if processes.size == 1:
        return found

    def description() -> list[Any] | None:
        if found is None:
            return None
        return [str(found.folder), found.facts.model_dump(mode="json"), sorted(found.files), dict(found.versions)]

    told = processes.told_by_first(description)
    if told is None or processes.first:
        return found
    folder, facts, files, versions = told
    return Checkpoint(Path(folder), RunFacts.model_validate(facts), frozenset(files), versions)
