"""The recipe's section about rewiring turned into objects."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fanin.classifier.growth import Growth
from fanin.classifier.growth_gradient import GradientScores
from fanin.classifier.growth_separating import SeparatingScores
from fanin.classifier.pruning import Pruning
from fanin.classifier.rewiring import Rewiring
from fanin.classifier.rewiring_schedule import RewiringSchedule

if TYPE_CHECKING:
    from fanin.classifier.growth import InputScores
    from fanin.classifier.rewiring_modes import GrowthMode
    from fanin.classifier.sparse import SparsePart
    from fanin.kernels.spec import Loss
    from fanin.training.rewiring_recipe import RewiringSection


def build_rewiring(
    section: RewiringSection, part: SparsePart, loss: Loss, total_steps: int, seed: int, inputs: int
) -> Rewiring:
    """The recipe's rewiring of a classifier's sparse part.

    Args:
        section: its settings.
        part: what is rewired; the order of its labels is settled.
        loss: what the classifier is trained with.
        total_steps: of the run.
        seed: of the run.
        inputs: regrown connections read one of the first so many inputs.
    """
    schedule = RewiringSchedule(
        interval=section.interval,
        fraction=section.fraction,
        total_steps=total_steps,
        threshold=section.threshold,
        stop_share=section.stop_share,
        decay=section.decay,
    )
    shares: dict[GrowthMode, float] = section.grow if isinstance(section.grow, dict) else {section.grow: 1.0}
    measures: dict[GrowthMode, InputScores] = {}
    if "gradient" in shares:
        measures["gradient"] = GradientScores(part.layer, loss, inputs, section.history.batches, section.group_score)
    if "separating" in shares:
        measures["separating"] = SeparatingScores(part.layer, inputs, section.history.rows, section.group_score)
    pruning = Pruning(section.scope, section.group_score)
    return Rewiring(part, schedule, seed, pruning, Growth(inputs, shares, measures))
