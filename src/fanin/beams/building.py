"""A beam for a trained model: clusters of labels that are best for the same texts, and a router taught by the model."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch.nn.functional import pad

from fanin.beams.clusters import related_clusters, units_of_labels
from fanin.classifier.beam import Beam, router_inputs
from fanin.classifier.dense import DenseLinear
from fanin.errors import ConfigError, DataError
from fanin.kernels.active_inputs import ActiveInputs
from fanin.kernels.drawing import mix_seed
from fanin.kernels.spec import AdamW, Loss, Positives
from fanin.model import encode
from fanin.training.progress import Silent

if TYPE_CHECKING:
    from torch import Tensor

    from fanin.data.batches import Batches
    from fanin.model import TextModel
    from fanin.training.progress import ProgressDisplay

CLUSTER_LABELS = 64
_SUMS = 512  # that mostly empty inputs are folded into
_ROWS, _LEAST_STEPS, _EPOCHS, _RATE = 512, 200, 8, 5e-3
_LEAST_SHARE = 1e-5


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
    weight, bias = _router(taught.inputs, targets, made.routed, mix_seed(seed, 2), display)
    beam = Beam(made.clusters, weight, bias, fold, 1)
    measured = _ranked(model, held_out, k, fold, "exact ranking of held-out texts", display)
    if not bool((measured.labels >= 0).any()):
        raise DataError("the model ranks no label for any held-out text: its scores are not finite numbers")
    targets = _looked_up(made.of_unit, _looked_up(unit_of_label, measured.labels))
    width = _least_width(beam, measured.inputs, targets, recall)
    return replace(beam, width=width)


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


def _router(
    inputs: Tensor, targets: Tensor, clusters: int, seed: int, display: ProgressDisplay
) -> tuple[Tensor, Tensor]:
    """Weights (R, Q) and biases (R,) of a dense layer trained to tell the clusters (N, k) of each text.

    Weights are bfloat16, biases float32.
    """
    if not clusters:
        return inputs.new_zeros(0, inputs.shape[1], dtype=torch.bfloat16), inputs.new_zeros(0)
    mean, scale = inputs.mean(0), inputs.std(0, correction=0).clamp_min(1e-6)
    scale = torch.maximum(scale, scale.mean())  # rare inputs must not become large ones
    layer = DenseLinear(inputs.shape[1], clusters, initial_scale=0.0)
    held = targets >= 0  # (N, k)
    share = torch.bincount(targets[held], minlength=clusters) / len(targets)
    layer.set_bias(torch.logit(share.clamp(_LEAST_SHARE, 1 - _LEAST_SHARE)).float())
    rows = min(_ROWS, len(inputs))
    steps = max(_LEAST_STEPS, _EPOCHS * math.ceil(len(inputs) / rows))
    generator = torch.Generator().manual_seed(seed % 2**63)
    display.start("router", steps * rows)
    for step in range(steps):
        part = torch.randint(len(inputs), (rows,), generator=generator)
        indptr = pad(held[part].sum(1).cumsum(0), (1, 0))
        positives = Positives(indptr, targets[part][held[part]])
        rate = _RATE * (1 - step / steps)
        layer.train_step((inputs[part] - mean) / scale, positives, Loss.BCE, AdamW(rate))
        display.advance(rows)
    weight = (layer.weight.detach() / scale).bfloat16()
    assert layer.bias is not None
    return weight, layer.bias.detach() - weight.float() @ mean


def _least_width(beam: Beam, inputs: Tensor, targets: Tensor, recall: float) -> int:
    """The smallest number of clusters that hold this share of the best labels."""
    ranks = []
    for row, own in zip(inputs, targets, strict=True):
        scores = beam.scores(row[None])[0]  # (R,)
        routed = own[(own >= 0) & (own < len(scores))]
        ranks.append((scores[:, None] >= scores[routed]).sum(0) - 1)  # behind all that score the same
        ranks.append(own[own >= len(scores)])  # chosen by their numbers
        ranks.append(own[own < 0])  # labels of dense layers are always found
    ordered = torch.cat(ranks).sort().values
    return int(ordered[math.ceil(recall * len(ordered)) - 1].clamp_min(0)) + 1
