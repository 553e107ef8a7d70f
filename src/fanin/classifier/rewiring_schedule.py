"""When a sparse classifier is rewired, and how much of it."""

from __future__ import annotations

import math
from dataclasses import dataclass

from fanin.errors import ConfigError
from fanin.kernels.spec import Prune

_THRESHOLD_FLOOR = 1e-4  # the paper's end of the decay


@dataclass(frozen=True)
class RewiringSchedule:
    """Rewiring every ``interval`` steps, until a share of the run, with a cosine decay of what is pruned.

    Args:
        interval: steps between rewirings.
        fraction: largest share of a label's connections pruned at once, in (0, 1].
        total_steps: steps of the whole run.
        threshold: prune weights below it instead of the smallest share (still at most ``fraction``), or None.
        stop_share: the topology is frozen after this share of the run (the paper: 0.66).
        decay: "cosine" lets the fraction fall to 0, or with a threshold the threshold to 1e-4, at the stop;
            "none" keeps them.

    Raises:
        ConfigError: naming the setting.

    >>> schedule = RewiringSchedule(interval=10, fraction=0.2, total_steps=100, stop_share=0.5)
    >>> schedule.prune(7), schedule.prune(60)
    (None, None)
    >>> round(schedule.prune(20).fraction, 4)
    0.1309
    """

    interval: int
    fraction: float
    total_steps: int
    threshold: float | None = None
    stop_share: float = 0.66
    decay: str = "cosine"

    def __post_init__(self) -> None:
        if self.interval < 1:
            raise ConfigError(f"rewiring.interval={self.interval} must be at least 1 step")
        if not 0 < self.fraction <= 1:
            raise ConfigError(f"rewiring.fraction={self.fraction} must lie in (0, 1]")
        if self.threshold is not None and not self.threshold > 0:
            raise ConfigError(f"rewiring.threshold={self.threshold} must be positive, or absent")
        if not 0 <= self.stop_share <= 1:
            raise ConfigError(f"rewiring.stop_share={self.stop_share} must lie in [0, 1]")
        if self.decay not in ("cosine", "none"):
            raise ConfigError(f"rewiring.decay={self.decay!r} must be 'cosine' or 'none'")

    def prune(self, step: int) -> Prune | None:
        """What to prune after ``step`` (from 1), or None where the step is not one of rewiring."""
        last = self.stop_share * self.total_steps
        if step % self.interval or step > last:
            return None
        factor = 1.0 if self.decay == "none" else (1 + math.cos(math.pi * step / last)) / 2
        if self.threshold is None:
            return Prune(self.fraction * factor)
        floor = min(_THRESHOLD_FLOOR, self.threshold)
        return Prune(self.fraction, floor + (self.threshold - floor) * factor)

    def ahead(self, step: int) -> int | None:
        """Steps from ``step`` (from 1) to the next rewiring, 0 where it follows right after; None where none comes.

        >>> schedule = RewiringSchedule(interval=10, fraction=0.2, total_steps=100, stop_share=0.5)
        >>> schedule.ahead(7), schedule.ahead(50), schedule.ahead(51)
        (3, 0, None)
        """
        steps = -step % self.interval
        return steps if step + steps <= self.stop_share * self.total_steps else None
