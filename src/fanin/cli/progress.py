"""Progress of the stages before training and scoring."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fanin.training.progress import Bar, Silent

if TYPE_CHECKING:
    from fanin.training.progress import ProgressDisplay


def make_display(*, quiet: bool) -> ProgressDisplay:
    """A display on standard error, or none."""
    return Silent() if quiet else Bar()
