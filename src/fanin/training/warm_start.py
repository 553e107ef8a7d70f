"""A start from label centroids in the space of the untrained encoder."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from fanin.classifier.centroids import centroid_connections, centroid_rows
from fanin.classifier.dense import DenseLinear
from fanin.data.batches import Batches, gather_rows
from fanin.kernels.active_inputs import ActiveInputs
from fanin.model import encode

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from fanin.classifier.sparse import SparseLinear
    from fanin.data.batches import Batch, Split
    from fanin.encoders.interface import Encoder
    from fanin.training.progress import ProgressDisplay

CHUNK_VALUES = 1 << 24  # of the sums of a chunk of labels: 32,768 labels of 512 features, few behind a wide layer
TEXTS_AT_A_TIME = 2048
_LOOKED_AT = 1 << 14  # texts whose labels are looked at in one go


@torch.no_grad()
def start_from_centroids(
    parts: Sequence[tuple[SparseLinear | DenseLinear, torch.Tensor]],
    encoder: Encoder,
    split: Split,
    rows: NDArray[np.int64],
    gain: float,
    display: ProgressDisplay,
    label_chunk: int | None = None,
) -> None:
    """Set index sets, weights and biases by :func:`centroid_connections`, of dense layers by :func:`centroid_rows`.

    An untrained bag encoder is a random projection of the weighted bag of words, so near texts are near in x and a
    centroid finds a label's texts before anything is learned. Texts are encoded once for the mean and again for
    each chunk of labels that they are relevant for; no (L, D) array exists.

    Args:
        parts: the layers to change in place, each with the ids of its labels (L of the layer,); in a fixed fan-in
            layer, labels without training texts keep their index sets.
        encoder: not changed.
        split: the training texts.
        rows: (n,) the rows trained on.
        gain: what a label's own texts score above the average text.
        display: told of the progress.
        label_chunk: labels worked on at a time, by default as many as 64 MB of sums allow; never changes the result.
    """
    D = encoder.out_features
    was_training = encoder.training
    encoder.eval()
    display.start("label centroids", len(rows))
    mean, squares = torch.zeros(D), torch.zeros(D)
    for x, batch in _encoded(encoder, split, rows):
        mean += x.sum(0)
        squares += x.square().sum(0)
        display.advance(len(batch))
    mean /= len(rows)
    spread = float((squares / len(rows) - mean.square()).clamp_min(0).mean())
    label_chunk = label_chunk or CHUNK_VALUES // D
    for layer, labels in parts:
        group_size = 1 if isinstance(layer, DenseLinear) else layer.group_size
        step = max(1, label_chunk // group_size) * group_size
        for start in range(0, layer.out_features, step):
            stop = min(start + step, layer.out_features)
            sums, counts = _label_sums(D, encoder, split, rows, labels[start:stop].numpy())
            if isinstance(layer, DenseLinear):
                layer.weight[start:stop], offset = centroid_rows(sums, counts, mean, spread, gain)
            else:
                index = layer.index[start // group_size : -(-stop // group_size)]
                found = centroid_connections(sums, counts, mean, spread, index.long(), group_size, gain)
                index.copy_(found.inputs.to(index.dtype))
                layer.weight[start:stop], offset = found.weight, found.offset
            if layer.bias is not None:
                layer.bias[start:stop] += offset
    encoder.train(was_training)


def _label_sums(
    in_features: int, encoder: Encoder, split: Split, rows: NDArray[np.int64], labels: NDArray[np.int64]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Sum of x over the texts of each of some labels, (C, D), and their numbers, (C,)."""
    places = np.full(max(int(labels.max()), int(split.labels.max(initial=0))) + 1, -1)
    places[labels] = np.arange(len(labels))
    sums, counts = torch.zeros(len(labels), in_features), torch.zeros(len(labels))
    for x, batch in _encoded(encoder, split, _relevant(split, rows, places)):
        place = places[batch.indices]
        own = place >= 0
        texts = torch.from_numpy(np.repeat(np.arange(len(batch)), np.diff(batch.indptr))[own])
        positions = torch.from_numpy(place[own])
        sums.index_add_(0, positions, x[texts])
        counts.index_add_(0, positions, torch.ones(len(positions)))
    return sums, counts


def _relevant(split: Split, rows: NDArray[np.int64], places: NDArray[np.int64]) -> NDArray[np.int64]:
    """Those of the rows that have a label with a place."""
    found = [rows[:0]]
    for start in range(0, len(rows), _LOOKED_AT):
        some = rows[start : start + _LOOKED_AT]
        labels, indptr = gather_rows(split.labels, split.labels_indptr, some)
        row = np.repeat(np.arange(len(some)), np.diff(indptr))
        found.append(some[np.unique(row[places[labels] >= 0])])
    return np.concatenate(found)


def _encoded(encoder: Encoder, split: Split, rows: NDArray[np.int64]) -> Iterator[tuple[torch.Tensor, Batch]]:
    for batch in Batches(split, TEXTS_AT_A_TIME, shuffle=False, rows=rows).epoch():
        x = encode(encoder, batch.inputs)
        assert not isinstance(x, ActiveInputs), "the recipe is checked for it"
        yield x, batch
