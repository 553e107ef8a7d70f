"""The parts of a training run: everything that a step changes or reads besides its batch."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from fanin.encoders.intermediate import base_encoder
from fanin.kernels.drawing import mix_seed
from fanin.model import TextModel
from fanin.processes.group import ALONE
from fanin.training.assemble import build_encoder, build_encoder_update
from fanin.training.assemble_auxiliary import build_auxiliary
from fanin.training.assemble_classifier import build_classifier, build_label_order
from fanin.training.assemble_rewiring import build_rewiring
from fanin.training.objectives import Objectives
from fanin.training.own_text_margins import build_own_text_margins
from fanin.training.tail_loss import TailLoss

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from fanin.classifier.interface import Classifier
    from fanin.classifier.masked_rewiring import MaskRewiring
    from fanin.classifier.rewiring import Rewiring
    from fanin.encoders.interface import Encoder
    from fanin.processes.group import Processes
    from fanin.recipes.recipe import Recipe
    from fanin.training.encoder_update import EncoderUpdate
    from fanin.training.preparation import PreparedData
    from fanin.training.progress import ProgressDisplay


class LabelStructure(NamedTuple):
    """Which labels are related, found once at the start of a run.

    Attributes:
        order: (L,) int64, the label at each place of the classifier, or None where its places are the labels.
        cluster_of_label: (L,) int64, the auxiliary objective's clusters, or None where there is none, or none any more.
    """

    order: Tensor | None
    cluster_of_label: Tensor | None


@dataclass(frozen=True)
class TrainingParts:
    """What a run trains, and how.

    Attributes:
        model: encoder and classifier, with what prediction needs besides them.
        encoder_update: the encoder's updates.
        objectives: steps the classifier, and the auxiliary objective while it lasts.
        tail: what the recipe adds to the positives of a batch.
        rewiring: of the classifier, if it has one.
        order: the classifier's order of the labels; see :class:`LabelStructure`.
        clustering_seconds: what it took to find the label structure.
        processes: that train it together: each its labels, the encoder all of them.
    """

    model: TextModel
    encoder_update: EncoderUpdate
    objectives: Objectives
    tail: TailLoss
    rewiring: Rewiring | MaskRewiring | None
    order: Tensor | None
    clustering_seconds: float
    processes: Processes = ALONE

    @property
    def encoder(self) -> Encoder:
        """Texts or features to x."""
        return self.model.encoder

    @property
    def classifier(self) -> Classifier:
        """Scores of the labels by x."""
        return self.model.classifier

    def to(self, device: torch.device) -> None:
        """Move all that a step computes with; batches follow it (:func:`fanin.training.step.train_on`)."""
        self.model.to(device)
        if self.objectives.auxiliary is not None:
            self.objectives.auxiliary.to(device)

    @property
    def labels(self) -> LabelStructure:
        """The label structure as far as it is still in use."""
        auxiliary = self.objectives.auxiliary
        return LabelStructure(self.order, None if auxiliary is None else auxiliary.cluster_of_label)


def build_parts(
    recipe: Recipe,
    data: PreparedData,
    total_steps: int,
    display: ProgressDisplay,
    labels: LabelStructure | None = None,
    processes: Processes = ALONE,
) -> TrainingParts:
    """The parts as they are before the first step.

    Args:
        recipe: all settings.
        data: what is trained on.
        total_steps: of the run.
        display: told of the clustering.
        labels: the label structure if it is known already, as in a run that goes on; then nothing is clustered.
        processes: that train it together.

    Raises:
        MemoryPlanError: there is too little memory for a part.
        ConfigError: a setting does not fit the data.
    """
    seed, counts, points = recipe.training.seed, data.train_counts(), len(data.train_rows)
    encoder = build_encoder(recipe.encoder, data, mix_seed(seed, 1), recipe.intermediate)
    started = time.monotonic()
    order_seed, auxiliary_section, clusters = mix_seed(seed, 4), recipe.auxiliary, None
    if labels is None:
        # By one process alone: what others would find may differ where they add up in another order.
        order = processes.found_by_first(
            lambda: build_label_order(recipe.classifier, data, base_encoder(encoder), order_seed, display)
        )
    else:
        order, clusters = labels
        auxiliary_section = None if clusters is None else auxiliary_section
    auxiliary = build_auxiliary(auxiliary_section, data, encoder, total_steps, order_seed, display, clusters, processes)
    clustering_seconds = time.monotonic() - started
    classifier = build_classifier(recipe.classifier, encoder, counts, points, mix_seed(seed, 2), order, processes)
    own_text = build_own_text_margins(recipe.classifier, data, base_encoder(encoder))
    vocabulary, loss = data.store.vocabulary, recipe.classifier.loss
    return TrainingParts(
        TextModel(data.tokenizer, encoder, classifier, vocabulary, counts, points, loss),
        build_encoder_update(recipe.encoder, encoder, total_steps, recipe.intermediate, processes),
        Objectives(classifier, recipe.classifier, total_steps, auxiliary, recipe.auxiliary),
        TailLoss(recipe.classifier, recipe.evaluation, counts, points, own_text),
        build_rewiring(recipe.classifier, classifier, total_steps, seed, encoder.learned_features, processes),
        order,
        clustering_seconds,
        processes,
    )
