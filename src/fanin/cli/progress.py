"""Progress of the stages before training and scoring."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fanin.training.progress import Bar, Silent

if TYPE_CHECKING:
    from fanin.training.progress import ProgressDisplay


def make_display(*, quiet: bool, first: bool = True) -> ProgressDisplay:
    """A display on standard error, or none; of several processes the first one has it."""
    return Silent() if quiet or not first else Bar()
