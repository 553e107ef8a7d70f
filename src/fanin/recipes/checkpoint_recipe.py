"""The recipe's section about checkpoints."""

from __future__ import annotations

from fanin.recipes.recipe_section import Count, Positive, Section


class CheckpointSection(Section):
    """When the state of a run is saved, so that ``fanin resume`` can go on from there.

    Attributes:
        minutes: so often; null for never by time.
        steps: every so many steps; null for never by steps.
        kept: the newest so many are kept.
    """

    minutes: Positive | None = 10.0
    steps: Count | None = None
    kept: Count = 2
