"""When a sparse classifier is rewired, how much of it, and the report of what changed."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from fanin.errors import ConfigError
from fanin.kernels.drawing import mix_seed
from fanin.kernels.spec import Prune

if TYPE_CHECKING:
    from fanin.classifier.sparse import SparseLinear

_THRESHOLD_FLOOR = 1e-4  # the paper's end of the decay


@dataclass(frozen=True)
class RewireReport:
    """What one rewiring did.

    Attributes:
        step: the training step after which it happened.
        fraction: largest share of each set's connections that could be pruned.
        threshold: weights below it were pruned, or None where the smallest share was.
        replaced: connections replaced in all sets.
        sets_changed: index sets with at least one replaced connection.
        share: replaced connections, as a share of all.
    """

    step: int
    fraction: float
    threshold: float | None
    replaced: int
    sets_changed: int
    share: float

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for a log."""
        return asdict(self)


@dataclass(frozen=True)
class RewiringSchedule:
    """SET rewiring every ``interval`` steps, until a share of the run, with a cosine decay of what is pruned.

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


def rewire(
    classifier: SparseLinear, schedule: RewiringSchedule, step: int, seed: int, inputs: int | None = None
) -> RewireReport | None:
    """Rewire after ``step`` if the schedule says so.

    Args:
        classifier: rewired in place.
        schedule: when and how much.
        step: steps made so far.
        seed: of the run; every step draws from its own stream.
        inputs: regrown connections read one of the first so many inputs; by default any.

    Returns:
        What changed, or None where it was not the time.
    """
    prune = schedule.prune(step)
    if prune is None:
        return None
    replaced = classifier.rewire(prune, mix_seed(seed, step), inputs)
    total = int(replaced.sum())
    return RewireReport(
        step=step,
        fraction=prune.fraction,
        threshold=prune.threshold,
        replaced=total,
        sets_changed=int((replaced > 0).sum()),
        share=total / classifier.index.numel(),
    )
