"""The recipe's section about the classifier turned into objects: the output layer and the order of its labels."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from fanin.classifier.bottleneck import BottleneckLinear
from fanin.classifier.dense import DenseLinear
from fanin.classifier.dense_autograd import AutogradDenseLinear
from fanin.classifier.head_tail import HeadTailLinear
from fanin.classifier.masked import MaskedLinear
from fanin.classifier.sparse import SparseLinear
from fanin.errors import ConfigError
from fanin.kernels.spec import Loss
from fanin.labels.frequency import most_frequent
from fanin.labels.prior import log_odds
from fanin.training.classifier_recipe import (
    AutogradDenseSection,
    BottleneckSection,
    DenseSection,
    FixedFanInSection,
    HeadTailSection,
    MaskedSection,
)
from fanin.training.enough_memory import enough_memory
from fanin.training.label_order import related_order

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from fanin.classifier.interface import Classifier
    from fanin.encoders.interface import Encoder
    from fanin.training.classifier_recipe import AnyClassifierSection
    from fanin.training.preparation import PreparedData
    from fanin.training.progress import ProgressDisplay


def build_label_order(
    section: AnyClassifierSection, data: PreparedData, encoder: Encoder, seed: int, display: ProgressDisplay
) -> Tensor | None:
    """The internal order of the classifier's labels, None where it has none but that of their numbers.

    Head labels come first, where there are; behind them the rest, related ones together where the recipe has groups or
    clusters of them.

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
    L = data.store.n_labels
    head = np.zeros(0, np.int64)
    if isinstance(section, HeadTailSection):
        head = most_frequent(data.train_counts(), head_count(section, L))
    sizes = [size for size in (section.group_size, section.cluster_size) if size > 1]
    if not section.related_labels or not sizes:
        rest = np.setdiff1d(np.arange(L), head)
        return torch.from_numpy(np.concatenate([head, rest])) if len(head) else None
    display.say("clustering labels")
    rest = np.setdiff1d(np.arange(L), head)
    return torch.cat([torch.from_numpy(head), related_order(data, encoder, min(sizes), seed, rest)])


def head_count(section: HeadTailSection, labels: int) -> int:
    """How many of L labels are head labels, at least one.

    Raises:
        ConfigError: there are too few labels for a head and a tail.
    """
    if labels < 2:
        raise ConfigError(
            f"classifier.kind head_tail needs a dense label and another; the data has {labels}: use sparse"
        )
    return min(max(1, round(section.head_share * labels)), labels - 1)


def build_classifier(
    section: AnyClassifierSection,
    encoder: Encoder,
    train_counts: NDArray[np.int64],
    train_points: int,
    seed: int,
    order: Tensor | None = None,
) -> Classifier:
    """The recipe's output layer.

    Args:
        section: its settings.
        encoder: gives its inputs.
        train_counts: (L,) training points of each label.
        train_points: N.
        seed: of weights and index sets.
        order: what :func:`build_label_order` gave.

    Raises:
        MemoryPlanError: there is too little memory for it.
        ConfigError: the kind cannot serve so many labels.
    """
    L = len(train_counts)
    with enough_memory(f"a classifier of {L:,} labels", _smaller(section)):
        classifier = _build(section, encoder, L, seed, order)
    if section.prior_bias:
        classifier.set_bias(torch.from_numpy(_prior(section.loss, train_counts, train_points)))
    return classifier


def _build(section: AnyClassifierSection, encoder: Encoder, L: int, seed: int, order: Tensor | None) -> Classifier:
    D, scale = encoder.out_features, section.initial_scale
    match section:
        case FixedFanInSection():
            return _build_fixed_fan_in(section, encoder, L, seed, order)
        case BottleneckSection():
            return BottleneckLinear(D, L, section.width, seed=seed, initial_scale=scale)
        case MaskedSection():
            return MaskedLinear(D, L, section.fan_in, seed=seed, initial_scale=scale)
        case DenseSection():
            return DenseLinear(D, L, seed=seed, initial_scale=scale)
        case AutogradDenseSection():
            return AutogradDenseLinear(D, L, seed=seed, initial_scale=scale)


def _build_fixed_fan_in(
    section: FixedFanInSection, encoder: Encoder, L: int, seed: int, order: Tensor | None
) -> SparseLinear | HeadTailLinear:
    D, learned = encoder.out_features, encoder.learned_features
    cluster_inputs = learned if section.cluster_size else None
    if isinstance(section, HeadTailSection):
        assert order is not None, "a head is the front of an order"
        split = HeadTailLinear(
            D,
            L,
            section.fan_in,
            section.group_size,
            head_labels=head_count(section, L),
            head_inputs=learned,
            cluster_size=section.cluster_size,
            cluster_inputs=cluster_inputs,
            seed=seed,
            initial_scale=section.initial_scale,
        )
        split.order.assign(order)
        return split
    layer = SparseLinear(
        D,
        L,
        section.fan_in,
        section.group_size,
        cluster_size=section.cluster_size,
        cluster_inputs=cluster_inputs,
        ordered=order is not None,
        seed=seed,
        initial_scale=section.initial_scale,
    )
    if layer.order is not None and order is not None:
        layer.order.assign(order)
    return layer


def _smaller(section: AnyClassifierSection) -> str:
    """The settings that make a classifier smaller."""
    match section:
        case HeadTailSection():
            return "classifier.fan_in or classifier.head_share"
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
