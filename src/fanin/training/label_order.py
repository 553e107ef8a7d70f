"""Which labels lie together: the order that a recipe's groups and clusters are cut from."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from fanin.data.batches import Batches
from fanin.data.store import TokenizedSplit
from fanin.kernels.active_inputs import ActiveInputs
from fanin.labels.clustering import balanced_clusters, grouped_order
from fanin.labels.features import PositiveSums, label_text_features
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

    Labels are related whose training texts are: by TF-IDF where the split has tokens, else by the encoder's vectors.

    Args:
        data: the rows trained on.
        encoder: gives vectors of texts that have no tokens; not changed.
        run_size: labels of a group or cluster.
        seed: of projection and clustering.
        bands: labels of every band, ascending, n in all; one band follows on the other.
    """
    features = label_features(data, encoder, seed)
    return torch.from_numpy(np.concatenate([_related(features, band, run_size, seed) for band in bands]))


def _related(features: NDArray[np.float32], labels: NDArray[np.int64], run_size: int, seed: int) -> NDArray[np.int64]:
    """Some labels, so that runs hold related ones."""
    own = features if len(labels) == len(features) else features[labels]  # all of them need no copy
    return labels[grouped_order(own, run_size, seed).outer_of_inner]


def related_clusters(data: PreparedData, encoder: Encoder, count: int, seed: int) -> NDArray[np.int64]:
    """The cluster of every label, (L,), of ``count`` balanced clusters of related labels.

    Args:
        data: the rows trained on.
        encoder: as in :func:`related_order`.
        count: K, at most L.
        seed: of projection and clustering.
    """
    return balanced_clusters(label_features(data, encoder, seed), count, seed).cluster_of_outer


def label_features(data: PreparedData, encoder: Encoder, seed: int) -> NDArray[np.float32]:
    """The positives' texts of each label as one vector of length 1, (L, dim)."""
    rows = data.train_rows
    split: Split = data.store.split("train")
    if isinstance(split, TokenizedSplit):
        tokens, offsets = split.tokens, split.tokens_indptr
        size = int(tokens.max(initial=0)) + 1
        projection = TextProjection(tokens, offsets, vocabulary_size=size, rows=rows, seed=seed)
        return label_text_features(
            projection, tokens, offsets, split.labels_indptr, split.labels, data.store.n_labels, rows=rows
        )
    return _encoded_features(data, encoder)


@torch.no_grad()
def _encoded_features(data: PreparedData, encoder: Encoder) -> NDArray[np.float32]:
    sums = None
    was_training = encoder.training
    encoder.eval()
    for batch in Batches(data.store.split("train"), _BATCH, shuffle=False, rows=data.train_rows).epoch():
        x = encode(encoder, batch.inputs)
        assert not isinstance(x, ActiveInputs), "lexical features come with tokens"
        sums = sums or PositiveSums(data.store.n_labels, x.shape[1])
        sums.add(x.numpy(), batch.indptr, batch.indices)
    encoder.train(was_training)
    assert sums is not None, "there are rows to train on"
    return sums.finish()
