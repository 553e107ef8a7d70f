"""The recipe's sections about the classifier, one a kind."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Discriminator, Field, Tag, model_validator

from fanin.kernels.spec import Loss
from fanin.recipes.optimizer_recipe import ScheduleSection, UpdateSection
from fanin.recipes.recipe_section import Count, CountOrZero, NotNegative, Positive, Section, Share
from fanin.recipes.rewiring_recipe import RewiringScheduleSection, RewiringSection


class ClassifierSection(Section):
    """What all output layers have in common.

    Attributes:
        loss: "bce" or "squared_hinge".
        update: how weights are updated.
        schedule: their learning rate.
        initial_scale: weights start uniform within initial_scale / sqrt(inputs of a label).
        prior_bias: start each bias where nothing has been learned: at the log-odds of the label's training frequency,
            or at -1, the margin of an irrelevant label, for the squared hinge.
        tail: how the loss favours rare labels: "none"; "propensity", positives weigh their label's inverse propensity
            (:func:`fanin.labels.tail.propensity_weights`, A and B as in the evaluation section); or "margin", they have
            to score higher (:func:`fanin.labels.tail.frequency_margins`). The loss that is logged has it in.
        tail_strength: exponent of the inverse propensity, or the margin of a label with one training point.
    """

    loss: Loss = Loss.BCE
    update: UpdateSection = UpdateSection()
    schedule: ScheduleSection = ScheduleSection(learning_rate=2e-3)
    initial_scale: NotNegative = 0.0
    prior_bias: bool = True
    tail: Literal["none", "propensity", "margin"] = "none"
    tail_strength: Positive = 1.0


class StoredWeightsSection(ClassifierSection):
    """What layers have to set whose weights may be stored in fewer bits (:mod:`fanin.classifier.storage`).

    Attributes:
        weights: "fp32", "bf16" or "fp8" (e4m3): what weights are stored as. They are computed with in float32 and
            updated in place with stochastic rounding. In fewer bits the default of ``update`` is plain SGD, which keeps
            no state; the state of the others is float32.
    """

    weights: Literal["fp32", "bf16", "fp8"] = "fp32"

    @model_validator(mode="before")
    @classmethod
    def _no_state_beside_few_bits(cls, values: Any) -> Any:
        if isinstance(values, dict) and values.get("weights") in ("bf16", "fp8"):
            return {"update": {"kind": "sgd"}, **values}
        return values


class FixedFanInSection(StoredWeightsSection):
    """What the fixed fan-in layer has to set; ``rewiring: null`` keeps the index sets of the start (static sparsity).

    Attributes:
        fan_in: F, inputs a label reads.
        group_size: G, labels that share an index set.
        cluster_size: labels that share a dense vector over the learned features; 0 for none
            (:class:`fanin.classifier.cluster_weights.ClusterWeights`).
        cluster_rate: learning rate of these vectors as a multiple of the ``schedule``'s.
        related_labels: groups and clusters hold related labels (:mod:`fanin.training.label_order`), else neighbours by
            number.
        start: "random" index sets; "centroids": the inputs and weights that tell a label's texts from the average
            in the untrained encoder's space (:mod:`fanin.training.warm_start`); or "tokens": the lexical features that
            mark a label's texts (:mod:`fanin.training.token_start`).
        start_gain: what a label's own texts score above the average text at such a start.
        own_text_margin: share of what a text itself has brought to its labels' start from tokens that it has to score
            on top in training (:mod:`fanin.training.own_text_margins`); another start knows no such margin.
        reference_fan_in: the fan-in that ``schedule`` is meant for; labels that read F inputs are updated at this over
            F times its rate (:class:`fanin.classifier.weighted.WeightedClassifier`). Null for one rate at any fan-in.
        rewiring: how it is rewired, or null. Regrown connections read learned features.
    """

    fan_in: Count = 32
    group_size: Count = 1
    cluster_size: CountOrZero = 0
    cluster_rate: Positive = 1.0
    related_labels: bool = True
    start: Literal["random", "centroids", "tokens"] = "random"
    start_gain: Positive = 6.0
    own_text_margin: Share = 0.0
    reference_fan_in: Count | None = None
    rewiring: RewiringSection | None = RewiringSection()


class FrequencyBandSection(Section):
    """Labels that read another number of inputs than the rest.

    Attributes:
        share: of all labels.
        fan_in: F of these, at most all learned features.
    """

    share: Annotated[float, Field(gt=0, lt=1)]
    fan_in: Count


def _leaving_a_rest(bands: tuple[FrequencyBandSection, ...]) -> tuple[FrequencyBandSection, ...]:
    total = sum(band.share for band in bands)
    if total >= 1:
        raise ValueError(f"the shares add up to {total:g}; they must leave some of the labels to classifier.fan_in")
    return bands


class SparseSection(FixedFanInSection):
    """The fixed fan-in layer (:class:`fanin.classifier.sparse.SparseLinear`).

    Attributes:
        fan_in_by_frequency: bands of the most frequent labels in training, the most frequent first, each with a fan-in
            of its own; ``fan_in`` is for the labels behind them (:class:`fanin.classifier.banded.BandedLinear`).
    """

    kind: Literal["sparse"] = "sparse"
    fan_in_by_frequency: Annotated[tuple[FrequencyBandSection, ...], AfterValidator(_leaving_a_rest)] = ()


class HeadTailSection(FixedFanInSection):
    """A dense layer for frequent labels (:class:`fanin.classifier.head_tail.HeadTailLinear`).

    The other settings are those of the fixed fan-in layer for the rest of the labels.

    Attributes:
        head_share: share of the labels that are dense, the most frequent ones in training; they read the learned
            features, and a start other than "random" leaves them at zero.
    """

    kind: Literal["head_tail"] = "head_tail"
    head_share: Annotated[float, Field(gt=0, lt=1)] = 0.05


class DenseStartSection(ClassifierSection):
    """What a dense layer starts from.

    Attributes:
        start: "random", or "centroids" as in the fixed fan-in layer.
        start_gain: as there.
    """

    start: Literal["random", "centroids"] = "random"
    start_gain: Positive = 6.0


class DenseSection(DenseStartSection, StoredWeightsSection):
    """The dense layer, trained by the same chunked step."""

    kind: Literal["dense"] = "dense"


class AutogradDenseSection(DenseStartSection):
    """The dense layer as one would write it (:class:`fanin.classifier.dense_autograd.AutogradDenseLinear`), a baseline.

    The results are the dense layer's; a step takes far more memory.
    """

    kind: Literal["dense_autograd"] = "dense_autograd"


class BottleneckSection(ClassifierSection):
    """A dense layer behind a narrow projection (:class:`fanin.classifier.bottleneck.BottleneckLinear`), a baseline.

    Attributes:
        width: features that the labels read; a label has so many weights.
    """

    kind: Literal["bottleneck"] = "bottleneck"
    width: Count = 32


class MaskedSection(ClassifierSection):
    """Unstructured sparsity by a mask (:class:`fanin.classifier.masked.MaskedLinear`), a baseline.

    Attributes:
        fan_in: connections a label in the mean.
        rewiring: when and how much of the layer's weakest connections is replaced at random, or null.
    """

    kind: Literal["masked"] = "masked"
    fan_in: Count = 32
    rewiring: RewiringScheduleSection | None = RewiringScheduleSection()


def _classifier_kind(value: Any) -> Any:
    return value.get("kind", "sparse") if isinstance(value, dict) else getattr(value, "kind", None)


AnyClassifierSection = Annotated[
    Annotated[SparseSection, Tag("sparse")]
    | Annotated[DenseSection, Tag("dense")]
    | Annotated[AutogradDenseSection, Tag("dense_autograd")]
    | Annotated[BottleneckSection, Tag("bottleneck")]
    | Annotated[HeadTailSection, Tag("head_tail")]
    | Annotated[MaskedSection, Tag("masked")],
    Discriminator(_classifier_kind),
]


def inputs_of_a_label(section: AnyClassifierSection) -> dict[str, int]:
    """The settings that say how many inputs each label reads, by name; none of a dense layer.

    >>> inputs_of_a_label(SparseSection(fan_in=40))
    {'fan_in': 40}
    """
    match section:
        case BottleneckSection():
            return {"width": section.width}
        case FixedFanInSection() | MaskedSection():
            return {"fan_in": section.fan_in}
        case DenseSection() | AutogradDenseSection():
            return {}
