"""Which labels lie together: the order that a recipe's groups and clusters are cut from."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from fanin.data.extended_split import joined
from fanin.data.store import TokenizedSplit
from fanin.labels.clustering import balanced_clusters, grouped_labels
from fanin.labels.features import label_features
from fanin.labels.text_vectors import TextProjection
from fanin.model import encode

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from fanin.data.batches import Split
    from fanin.encoders.interface import Encoder
    from fanin.training.preparation import PreparedData

_BATCH = 2048


def related_order(
    data: PreparedData, encoder: Encoder, run_size: int, seed: int, bands: Sequence[NDArray[np.int64]]
) -> torch.Tensor:
    """An order of labels in which every run of ``run_size`` of a band holds related ones, (n,) int64.

    Labels are related whose texts are, or names, or both: by TF-IDF where there are tokens, else by the encoder's
    vectors.

    Args:
        data: gives what labels are known by.
        encoder: gives vectors of texts that have no tokens; not changed.
        run_size: labels of a group or cluster.
        seed: of projection and clustering.
        bands: labels of every band, ascending, n in all; one band follows on the other.
    """
    features = _features(data, encoder, seed)
    return torch.from_numpy(np.concatenate([grouped_labels(features, band, run_size, seed) for band in bands]))


def related_clusters(data: PreparedData, encoder: Encoder, count: int, seed: int) -> NDArray[np.int64]:
    """The cluster of every label, (L,), of ``count`` balanced clusters of related labels.

    Args:
        data: gives what labels are known by.
        encoder: as in :func:`related_order`.
        count: K, at most L.
        seed: of projection and clustering.
    """
    return balanced_clusters(_features(data, encoder, seed), count, seed).cluster_of_outer


def _features(data: PreparedData, encoder: Encoder, seed: int) -> NDArray[np.int8]:
    """What the texts of each label have in common, (L, dim)."""
    split, rows = joined(data.label_sources())
    train = data.store.split("train")
    if not isinstance(train, TokenizedSplit):
        return _encoded_features(split, rows, data.store.n_labels, encoder)
    size = int(train.tokens.max(initial=0)) + 1
    if isinstance(data.known_names, TokenizedSplit):
        size = max(size, int(data.known_names.tokens.max(initial=0)) + 1)
    train.forget()
    projection = TextProjection(
        train.tokens, train.tokens_indptr, vocabulary_size=size, rows=data.train_rows, seed=seed
    )

    def vectors(some: NDArray[np.int64]) -> NDArray[np.float32]:
        result = np.empty((len(some), projection.dim), np.float32)
        for start in range(0, len(some), _BATCH):  # of long texts more would take hundreds of MB
            part = some[start : start + _BATCH]
            result[start : start + len(part)] = projection.vectors(*split.inputs(part))
            split.forget()
        return result

    return label_features(vectors, projection.dim, split.labels_indptr, split.labels, data.store.n_labels, rows=rows)


@torch.no_grad()
def _encoded_features(split: Split, rows: NDArray[np.int64], n_labels: int, encoder: Encoder) -> NDArray[np.int8]:
    def vectors(some: NDArray[np.int64]) -> NDArray[np.float32]:
        found = [encode(encoder, split.inputs(some[start : start + _BATCH])) for start in range(0, len(some), _BATCH)]
        assert all(isinstance(x, torch.Tensor) for x in found), "lexical features come with tokens"
        return np.concatenate([x.numpy() for x in found if isinstance(x, torch.Tensor)])

    was_training = encoder.training
    encoder.eval()
    try:
        return label_features(vectors, encoder.out_features, split.labels_indptr, split.labels, n_labels, rows=rows)
    finally:
        encoder.train(was_training)
