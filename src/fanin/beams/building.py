"""A beam for a trained model: clusters of labels that are best for the same texts, and a router taught by the model."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch

from fanin.beams.clusters import related_clusters, units_of_labels
from fanin.beams.router import train_router
from fanin.beams.widths import narrowest
from fanin.classifier.beam import Beam
from fanin.classifier.router import router_inputs
from fanin.errors import ConfigError, DataError
from fanin.kernels.active_inputs import ActiveInputs
from fanin.kernels.drawing import mix_seed
from fanin.model import encode
from fanin.training.progress import Silent

if TYPE_CHECKING:
    from torch import Tensor

    from fanin.data.batches import Batches
    from fanin.model import TextModel
    from fanin.training.progress import ProgressDisplay

CLUSTER_LABELS = 64
_SUMS = 512  # that mostly empty inputs are folded into


class _Ranked(NamedTuple):
    """Some texts, as the router reads them, and what the model says of them."""

    inputs: Tensor  # (N, Q)
    labels: Tensor  # (N, k) exact best labels, -1 where there are fewer


@torch.no_grad()
def build_beam(
    model: TextModel,
    texts: Batches,
    held_out: Batches,
    *,
    k: int = 10,
    recall: float = 0.95,
    cluster_labels: int = CLUSTER_LABELS,
    seed: int = 0,
    display: ProgressDisplay | None = None,
) -> Beam:
    """Make a beam whose width is the smallest that reaches a recall on held-out texts.

    Every text's exact k best labels are found; labels are related that are best for the same texts, and balanced
    clusters of them are made; the router is a dense layer that is trained to tell the clusters of a text's best labels.
    The texts' own labels are not looked at.

    Args:
        model: a trained model.
        texts: to learn from; some ten thousand.
        held_out: others, to measure the recall on.
        k: labels of a text that are to be found.
        recall: share of them, in (0, 1].
        cluster_labels: labels of a cluster, about.
        seed: of everything random.
        display: told of the progress.

    Raises:
        ConfigError: the classifier has no sparse parts, or a number cannot be.
        DataError: there are no texts.
    """
    parts = model.classifier.sparse_parts()
    if not parts:
        raise ConfigError("this model's classifier has no fixed fan-in layer; only those can be searched with a beam")
    if not 0 < recall <= 1 or k < 1 or cluster_labels < 1:
        raise ConfigError(
            f"recall={recall} must lie in (0, 1]; k={k} and cluster_labels={cluster_labels} be at least 1"
        )
    if not texts.n_rows or not held_out.n_rows:
        raise DataError("a beam needs texts to learn from and others to be measured on; give a data set that has them")
    display = display or Silent()
    fold = _fold(model, texts, mix_seed(seed, 0))
    taught = _ranked(model, texts, k, fold, "exact ranking", display)
    unit_of_label = units_of_labels(parts, model.classifier.out_features)
    units = _looked_up(unit_of_label, taught.labels)
    made = related_clusters(parts, taught.inputs, units, cluster_labels, mix_seed(seed, 1))
    targets = _looked_up(made.of_unit, units)
    router = train_router(taught.inputs, targets, made.routed, mix_seed(seed, 2), display)
    measured = _ranked(model, held_out, k, fold, "exact ranking of held-out texts", display)
    if not bool((measured.labels >= 0).any()):
        raise DataError("the model ranks no label for any held-out text: its scores are not finite numbers")
    targets = _looked_up(made.of_unit, _looked_up(unit_of_label, measured.labels))
    return narrowest(Beam(made.clusters, router, fold, 1), taught.inputs, measured.inputs, targets, recall)


def _ranked(
    model: TextModel, texts: Batches, k: int, fold: Tensor | None, what: str, display: ProgressDisplay
) -> _Ranked:
    inputs, labels = [], []
    display.start(what, texts.n_rows)
    model.encoder.eval()
    for batch in texts.epoch():
        x = encode(model.encoder, batch.inputs)
        inputs.append(router_inputs(x, fold))
        labels.append(model.classifier.topk(x, k)[1])
        display.advance(len(batch))
    return _Ranked(torch.cat(inputs), torch.cat(labels))


def _fold(model: TextModel, texts: Batches, seed: int) -> Tensor | None:
    """Where the router's inputs would be many and mostly zero, the sums that they are folded into."""
    x = encode(model.encoder, next(iter(texts.epoch())).inputs)
    if not isinstance(x, ActiveInputs) or x.dense_inputs is None or x.in_features - x.dense_inputs <= _SUMS:
        return None
    random = np.random.default_rng(seed)
    sums = random.integers(1, _SUMS + 1, x.in_features - x.dense_inputs)
    sums[0] = _SUMS  # the largest number tells how many sums there are
    return torch.from_numpy((sums * random.choice([-1, 1], len(sums))).astype(np.int32))


def _looked_up(table: Tensor, keys: Tensor) -> Tensor:
    """``table[keys]``, with -1 for keys of -1."""
    return torch.where(keys >= 0, table[keys.clamp_min(0)], -1)
