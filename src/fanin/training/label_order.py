"""Which labels lie together: the order that a recipe's groups and clusters are cut from."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from fanin.data.store import TokenizedSplit
from fanin.labels.clustering import balanced_clusters, grouped_labels
from fanin.labels.features import label_features
from fanin.labels.text_vectors import TextProjection
from fanin.mapped_arrays import forget
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

    Labels are related whose training texts are: by TF-IDF where the split has tokens, else by the encoder's vectors.

    Args:
        data: the rows trained on.
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
        data: the rows trained on.
        encoder: as in :func:`related_order`.
        count: K, at most L.
        seed: of projection and clustering.
    """
    return balanced_clusters(_features(data, encoder, seed), count, seed).cluster_of_outer


def _features(data: PreparedData, encoder: Encoder, seed: int) -> NDArray[np.int8]:
    """What the texts of each label have in common, (L, dim)."""
    rows = data.train_rows
    split: Split = data.store.split("train")
    if not isinstance(split, TokenizedSplit):
        return _encoded_features(data, split, encoder)
    tokens, offsets = split.tokens, split.tokens_indptr
    size = int(tokens.max(initial=0)) + 1
    forget(tokens)
    projection = TextProjection(tokens, offsets, vocabulary_size=size, rows=rows, seed=seed)

    def vectors(some: NDArray[np.int64]) -> NDArray[np.float32]:
        return projection.vectors(tokens, offsets, some)

    return label_features(vectors, projection.dim, split.labels_indptr, split.labels, data.store.n_labels, rows=rows)


@torch.no_grad()
def _encoded_features(data: PreparedData, split: Split, encoder: Encoder) -> NDArray[np.int8]:
    def vectors(some: NDArray[np.int64]) -> NDArray[np.float32]:
        found = [encode(encoder, split.inputs(some[start : start + _BATCH])) for start in range(0, len(some), _BATCH)]
        assert all(isinstance(x, torch.Tensor) for x in found), "lexical features come with tokens"
        return np.concatenate([x.numpy() for x in found if isinstance(x, torch.Tensor)])

    was_training = encoder.training
    encoder.eval()
    try:
        return label_features(
            vectors, encoder.out_features, split.labels_indptr, split.labels, data.store.n_labels, rows=data.train_rows
        )
    finally:
        encoder.train(was_training)
