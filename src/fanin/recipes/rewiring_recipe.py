"""The recipe's section about rewiring."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, get_args

from pydantic import BeforeValidator, Field

from fanin.classifier.rewiring_modes import GroupScore, GrowthMode, PruneScope, check_shares
from fanin.errors import ConfigError
from fanin.recipes.recipe_section import Count, Positive, Section, Share


def _checked_growth(value: Any) -> Any:
    modes = get_args(GrowthMode)
    shares: Any = {value: 1.0} if isinstance(value, str) else value
    if not isinstance(shares, Mapping) or any(mode not in modes for mode in shares):
        raise ValueError(f"must be one of {', '.join(modes)}, or shares of them such as {{random: 0.5, gradient: 0.5}}")
    try:
        check_shares({mode: float(share) for mode, share in shares.items()})
    except (ConfigError, TypeError, ValueError):
        raise ValueError("the shares must be positive numbers that add up to 1") from None
    return value


class HistorySection(Section):
    """What growth remembers of the training batches.

    Attributes:
        batches: of the last so many a gradient is made.
        rows: of the last so many texts the embeddings are kept, 2 bytes a feature, for growth towards separating ones.
    """

    batches: Count = 4
    rows: Count = 65_536


class RewiringScheduleSection(Section):
    """When and how much is rewired; see :class:`fanin.classifier.rewiring_schedule.RewiringSchedule`."""

    interval: Count = 100
    fraction: Annotated[float, Field(gt=0, le=1)] = 0.2
    threshold: Positive | None = None
    stop_share: Share = 0.66
    decay: Literal["cosine", "none"] = "cosine"


class RewiringSection(RewiringScheduleSection):
    """Rewiring of index sets: when, how much, what goes and what comes.

    Attributes:
        scope: "set" prunes the same share of every index set, "layer" as many in total, the weakest wherever they are.
        group_score: labels that share an index set speak by the mean of their values or by the largest.
        grow: "random" (SET), "gradient" (:class:`fanin.classifier.growth_gradient.GradientScores`), "separating"
            (:class:`fanin.classifier.growth_separating.SeparatingScores`), or shares of them that add up to 1.
        history: what the last two remember.
    """

    scope: PruneScope = "set"
    group_score: GroupScore = "mean"
    grow: Annotated[GrowthMode | dict[GrowthMode, float], BeforeValidator(_checked_growth)] = "random"
    history: HistorySection = HistorySection()
