"""Progress of the stages before training and scoring."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fanin.training.progress import Bar, Silent

if TYPE_CHECKING:
    from collections.abc import Callable

    from fanin.training.progress import ProgressDisplay


def make_display(*, quiet: bool) -> ProgressDisplay:
    """A display on standard error, or none."""
    return Silent() if quiet else Bar()


def tokenising_progress(display: ProgressDisplay) -> Callable[[int, int], None]:
    """What :func:`fanin.data.building.build_store` may call with (texts done, texts in all)."""
    before = 0

    def tell(done: int, total: int) -> None:
        nonlocal before
        if not before:
            display.start("tokenising", total)
        display.advance(done - before)
        before = done

    return tell
