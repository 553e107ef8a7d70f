"""The recipe's section about the classifier turned into objects: the output layer and the order of its labels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch

from fanin.classifier.banded import BandedLinear
from fanin.classifier.bottleneck import BottleneckLinear
from fanin.classifier.dense import DenseLinear
from fanin.classifier.dense_autograd import AutogradDenseLinear
from fanin.classifier.head_tail import HeadTailLinear
from fanin.classifier.masked import MaskedLinear
from fanin.classifier.sharded import ShardedClassifier
from fanin.classifier.sparse import SparseLinear
from fanin.errors import ConfigError
from fanin.kernels.spec import Loss
from fanin.labels.frequency import band_sizes, frequency_bands
from fanin.labels.prior import log_odds
from fanin.processes.group import ALONE
from fanin.recipes.classifier_recipe import (
    AutogradDenseSection,
    BottleneckSection,
    DenseSection,
    FixedFanInSection,
    HeadTailSection,
    MaskedSection,
    SparseSection,
)
from fanin.training.enough_memory import enough_memory
from fanin.training.label_order import related_order

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from fanin.classifier.interface import Classifier
    from fanin.encoders.interface import Encoder
    from fanin.processes.group import Processes
    from fanin.recipes.classifier_recipe import AnyClassifierSection
    from fanin.training.preparation import PreparedData
    from fanin.training.progress import ProgressDisplay

_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp8": torch.float8_e4m3fn}


class FanInBand(NamedTuple):
    """Labels of about one frequency.

    Attributes:
        labels: how many.
        fan_in: inputs that each reads.
    """

    labels: int
    fan_in: int


def build_label_order(
    section: AnyClassifierSection, data: PreparedData, encoder: Encoder, seed: int, display: ProgressDisplay
) -> Tensor | None:
    """The internal order of the classifier's labels, None where it has none but that of their numbers.

    Bands of frequent labels come first, where there are; related labels are together in a band where the recipe has
    groups or clusters of them.

    Args:
        section: the classifier's settings.
        data: the rows trained on.
        encoder: gives vectors of texts that have no tokens; not changed.
        seed: of projection and clustering.
        display: told of a clustering.

    Returns:
        (L,) int64, the label at each place, or None.
    """
    if not isinstance(section, FixedFanInSection):
        return None
    sizes_by_frequency = [band.labels for band in fan_in_bands(section, data.store.n_labels, encoder.learned_features)]
    bands = frequency_bands(data.train_counts(), sizes_by_frequency)
    if not finds_related_labels(section):
        return torch.from_numpy(np.concatenate(bands)) if len(bands) > 1 else None
    display.say("clustering labels")
    dense = [bands.pop(0)] if isinstance(section, HeadTailSection) else []
    sizes = [size for size in (section.group_size, section.cluster_size) if size > 1]
    related = related_order(data, encoder, min(sizes), seed, bands)
    return torch.cat([*map(torch.from_numpy, dense), related])


def finds_related_labels(section: AnyClassifierSection) -> bool:
    """Whether the classifier has groups or clusters of related labels."""
    if not isinstance(section, FixedFanInSection) or not section.related_labels:
        return False
    return max(section.group_size, section.cluster_size) > 1


def fan_in_bands(section: FixedFanInSection, labels: int, inputs: int) -> list[FanInBand]:
    """Sizes and fan-ins of the bands of L labels, the most frequent ones in the first, the rest in the last.

    A band of so small a share that no label falls into it is left out. No label reads more than the learned features,
    from which index sets are filled where the texts leave them free.

    Args:
        section: the classifier's settings.
        labels: L.
        inputs: learned features.

    Raises:
        ConfigError: there are too few labels for a head and a tail.
    """
    rest = section.fan_in
    if isinstance(section, HeadTailSection):
        if labels < 2:
            raise ConfigError(
                f"classifier.kind head_tail needs a dense label and another; the data has {labels}: use kind sparse"
            )
        head = max(1, band_sizes(labels, [section.head_share])[0])
        return [FanInBand(head, inputs), FanInBand(labels - head, rest)]
    bands = section.fan_in_by_frequency if isinstance(section, SparseSection) else ()
    sizes = band_sizes(labels, [band.share for band in bands])
    fan_ins = [*(min(band.fan_in, inputs) for band in bands), rest]
    return [FanInBand(size, fan_in) for size, fan_in in zip(sizes, fan_ins, strict=True) if size]


def build_classifier(
    section: AnyClassifierSection,
    encoder: Encoder,
    train_counts: NDArray[np.int64],
    train_points: int,
    seed: int,
    order: Tensor | None = None,
    processes: Processes = ALONE,
) -> Classifier:
    """The recipe's output layer.

    Args:
        section: its settings.
        encoder: gives its inputs.
        train_counts: (L,) training points of each label.
        train_points: N.
        seed: of weights and index sets.
        order: what :func:`build_label_order` gave.
        processes: that share it.

    Raises:
        MemoryPlanError: there is too little memory for it.
        ConfigError: the kind cannot serve so many labels, or so many processes.
    """
    L = len(train_counts)
    classifier = lay_out_classifier(section, encoder, L, seed, ordered=order is not None, processes=processes)
    if order is not None:
        assert isinstance(classifier, SparseLinear | BandedLinear | HeadTailLinear | ShardedClassifier)
        assert classifier.order is not None
        classifier.order.assign(order)
    if section.prior_bias:
        classifier.set_bias(torch.from_numpy(_prior(section.loss, train_counts, train_points)))
    return classifier


def lay_out_classifier(
    section: AnyClassifierSection,
    encoder: Encoder,
    L: int,
    seed: int,
    *,
    ordered: bool,
    processes: Processes = ALONE,
) -> Classifier:
    """The recipe's output layer as it is before it is told the order and the frequencies of its labels.

    Args:
        section: its settings.
        encoder: gives its inputs.
        L: number of labels.
        seed: of weights and index sets.
        ordered: whether it keeps an order of its labels.
        processes: that share it; what is made is this one's part.

    Raises:
        MemoryPlanError: there is too little memory for it.
        ConfigError: the kind cannot serve so many labels, or so many processes.
    """
    if processes.size > 1:
        return _lay_out_shard(section, encoder, L, seed, processes, ordered=ordered)
    with enough_memory(f"a classifier of {L:,} labels", _smaller(section)):
        return _lay_out(section, encoder, L, seed, ordered=ordered, device=None)


def _lay_out_shard(
    section: AnyClassifierSection, encoder: Encoder, L: int, seed: int, processes: Processes, *, ordered: bool
) -> ShardedClassifier:
    """One process's labels of the recipe's output layer."""
    if not isinstance(section, FixedFanInSection | DenseSection):
        raise ConfigError(
            f"classifier.kind {section.kind} is a baseline for one process; several can share the kinds "
            "sparse, head_tail and dense"
        )
    whole = _lay_out(section, encoder, L, seed, ordered=ordered, device="meta")
    with enough_memory(f"the labels of one of {processes.size} processes, of {L:,}", _smaller(section)):
        return ShardedClassifier(whole, processes, f", or change {_smaller(section)}, group_size or cluster_size")


def _lay_out(
    section: AnyClassifierSection, encoder: Encoder, L: int, seed: int, *, ordered: bool, device: str | None
) -> Classifier:
    D, scale = encoder.out_features, section.initial_scale
    match section:
        case FixedFanInSection():
            return _lay_out_fixed_fan_in(section, encoder, L, seed, ordered=ordered, device=device)
        case BottleneckSection():
            return BottleneckLinear(D, L, section.width, seed=seed, initial_scale=scale)
        case MaskedSection():
            return MaskedLinear(D, L, section.fan_in, seed=seed, initial_scale=scale)
        case DenseSection():
            return DenseLinear(D, L, seed=seed, initial_scale=scale, dtype=_DTYPES[section.weights], device=device)
        case AutogradDenseSection():
            return AutogradDenseLinear(D, L, seed=seed, initial_scale=scale)


def _lay_out_fixed_fan_in(
    section: FixedFanInSection, encoder: Encoder, L: int, seed: int, *, ordered: bool, device: str | None
) -> Classifier:
    D, learned = encoder.out_features, encoder.learned_features
    shared: dict[str, Any] = {
        "group_size": section.group_size,
        "cluster_size": section.cluster_size,
        "cluster_inputs": learned if section.cluster_size else None,
        "cluster_rate": section.cluster_rate,
        "reference_fan_in": section.reference_fan_in,
        "seed": seed,
        "initial_scale": section.initial_scale,
        "dtype": _DTYPES[section.weights],
        "device": device,
    }
    bands = fan_in_bands(section, L, learned)
    if isinstance(section, HeadTailSection):
        return HeadTailLinear(D, L, section.fan_in, head_labels=bands[0].labels, head_inputs=learned, **shared)
    if len(bands) > 1:
        return BandedLinear(D, L, bands, **shared)
    return SparseLinear(D, L, section.fan_in, ordered=ordered, **shared)


def _smaller(section: AnyClassifierSection) -> str:
    """The settings that make a classifier smaller."""
    match section:
        case HeadTailSection():
            return "classifier.fan_in or classifier.head_share"
        case SparseSection(fan_in_by_frequency=bands) if bands:
            return "classifier.fan_in or classifier.fan_in_by_frequency"
        case FixedFanInSection():
            return "classifier.fan_in"
        case BottleneckSection():
            return "classifier.width"
        case _:
            return "encoder.out_features, or set classifier.kind to sparse"


def _prior(loss: Loss, train_counts: NDArray[np.int64], train_points: int) -> NDArray[np.float64]:
    """The best constant score of every label, (L,)."""
    if loss is Loss.SQUARED_HINGE:
        return np.full(len(train_counts), -1.0)
    return log_odds(train_counts, train_points)
