"""The recipe's sections about what helps a sparse classifier's gradient into the encoder."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from fanin.recipes.optimizer_recipe import ScheduleSection, UpdateSection
from fanin.recipes.recipe_section import Count, Section


class IntermediateSection(Section):
    """A dense layer with a centred ReLU behind the encoder; see :class:`fanin.encoders.intermediate.IntermediateLayer`.

    Attributes:
        width: W, the features that the classifier then reads; a single one less its mean would be nothing.
        dropout: share of them set to zero in training.
        schedule: of its weights, which are trained by AdamW and decayed and clipped as the encoder's.
    """

    width: Annotated[int, Field(ge=2, lt=2**31)] = 4096
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    schedule: ScheduleSection = ScheduleSection(learning_rate=1e-3)


class AuxiliarySection(Section):
    """The auxiliary objective; see :class:`fanin.training.auxiliary.AuxiliaryObjective`.

    Attributes:
        clusters: of labels; null for one to every ``labels_per_cluster``.
        labels_per_cluster: used where ``clusters`` is null.
        scale: its share of the loss at the start; the classifier's is the rest.
        cutoff_share: share of the run's steps after which it is dropped; 1 with ``decay: none`` is never.
        decay: "cosine" brings its share to zero at the cut-off, "none" keeps it as it is until then.
        update: how its weights are updated.
        schedule: their learning rate, as over the whole run.
    """

    clusters: Count | None = None
    labels_per_cluster: Count = 64
    scale: Annotated[float, Field(gt=0, lt=1)] = 0.4
    cutoff_share: Annotated[float, Field(gt=0, le=1)] = 0.15
    decay: Literal["cosine", "none"] = "cosine"
    update: UpdateSection = UpdateSection()
    schedule: ScheduleSection = ScheduleSection(learning_rate=2e-3)
