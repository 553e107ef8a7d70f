"""The recipe's section about rewiring turned into objects."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fanin.classifier.growth import Growth
from fanin.classifier.growth_gradient import GradientScores
from fanin.classifier.growth_separating import SeparatingScores
from fanin.classifier.masked import MaskedLinear
from fanin.classifier.masked_rewiring import MaskRewiring
from fanin.classifier.pruning import Pruning
from fanin.classifier.rewiring import Rewiring
from fanin.classifier.rewiring_schedule import RewiringSchedule
from fanin.errors import ConfigError
from fanin.processes.group import ALONE
from fanin.recipes.classifier_recipe import FixedFanInSection, MaskedSection
from fanin.recipes.rewiring_recipe import RewiringScheduleSection, RewiringSection

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fanin.classifier.growth import InputScores
    from fanin.classifier.interface import Classifier
    from fanin.classifier.rewiring_modes import GrowthMode
    from fanin.classifier.sparse import SparseLinear
    from fanin.kernels.spec import Loss
    from fanin.processes.group import Processes
    from fanin.recipes.classifier_recipe import AnyClassifierSection


def build_rewiring(
    section: AnyClassifierSection,
    classifier: Classifier,
    total_steps: int,
    seed: int,
    inputs: int,
    processes: Processes = ALONE,
) -> Rewiring | MaskRewiring | None:
    """The recipe's rewiring of a classifier, None where it has none.

    Args:
        section: the classifier's settings.
        classifier: made from them; the order of its labels is settled.
        total_steps: of the run.
        seed: of the run.
        inputs: regrown connections read one of the first so many inputs.
        processes: that share the classifier.

    Raises:
        ConfigError: the weakest of a layer are asked for, which several processes have parts of.
    """
    match section:
        case FixedFanInSection(rewiring=RewiringSection() as rewiring):
            if processes.size > 1 and rewiring.scope == "layer":
                raise ConfigError(
                    "classifier.rewiring.scope is layer, which looks for the weakest weights of all labels at once; "
                    "processes that share the labels cannot: set it to set"
                )
            parts = classifier.sparse_parts()
            pruning = Pruning(rewiring.scope, rewiring.group_score)
            growth = _growth(rewiring, [part.layer for part in parts], section.loss, inputs)
            return Rewiring(parts, _schedule(rewiring, total_steps), seed, pruning, growth, processes.add)
        case MaskedSection(rewiring=RewiringScheduleSection() as rewiring):
            assert isinstance(classifier, MaskedLinear)
            return MaskRewiring(classifier, _schedule(rewiring, total_steps), seed, inputs)
        case _:
            return None


def _growth(section: RewiringSection, layers: Sequence[SparseLinear], loss: Loss, inputs: int) -> Growth:
    shares: dict[GrowthMode, float] = section.grow if isinstance(section.grow, dict) else {section.grow: 1.0}
    measures: dict[GrowthMode, InputScores] = {}
    if "gradient" in shares:
        measures["gradient"] = GradientScores(layers, loss, inputs, section.history.batches, section.group_score)
    if "separating" in shares:
        measures["separating"] = SeparatingScores(layers, inputs, section.history.rows, section.group_score)
    return Growth(inputs, shares, measures)


def _schedule(section: RewiringScheduleSection, total_steps: int) -> RewiringSchedule:
    return RewiringSchedule(
        interval=section.interval,
        fraction=section.fraction,
        total_steps=total_steps,
        threshold=section.threshold,
        stop_share=section.stop_share,
        decay=section.decay,
    )
