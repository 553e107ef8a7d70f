"""Vectors of a transformer that is not trained, or not yet, computed once and kept on disk."""

from __future__ import annotations

import fcntl
import hashlib
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO

import numpy as np
import torch

from fanin.data.content import cache_folder, make_key
from fanin.data.feature_rows import DenseFeatures, FeatureSplit
from fanin.errors import ConfigError
from fanin.mapped_arrays import map_array

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from fanin.data.label_rows import LabelRows
    from fanin.data.store import Store, TokenizedSplit
    from fanin.encoders.transformer_encoder import TransformerEncoder
    from fanin.labels.vocabulary import LabelVocabulary
    from fanin.training.progress import ProgressDisplay

_BLOCK = 1024  # texts encoded and written at a time
_HASHED_VALUES = 1 << 22
_FLOAT_BYTES = 4


@dataclass(frozen=True)
class VectorStore:
    """A tokenised data set whose splits are read as vectors in place of tokens.

    Attributes:
        store: the data set.
        vectors: (N, D0) float32 of each split.
    """

    store: Store
    vectors: Mapping[str, NDArray[np.float32]]

    @property
    def split_names(self) -> tuple[str, ...]:
        """The splits there are, in the order train, dev, test."""
        return self.store.split_names

    @property
    def n_labels(self) -> int:
        """L, the number of labels."""
        return self.store.n_labels

    @property
    def vocabulary(self) -> LabelVocabulary:
        """The names of the labels."""
        return self.store.vocabulary

    def split(self, name: str) -> FeatureSplit:
        """The rows of one split."""
        tokenized = self.store.split(name)
        return FeatureSplit(DenseFeatures(self.vectors[name]), tokenized.labels_indptr, tokenized.labels)

    def excluded(self, name: str) -> LabelRows | None:
        """Pairs of row and label that predictions on a split must leave out, or None where there are none."""
        return self.store.excluded(name)


def vector_store(
    store: Store, encoder: TransformerEncoder, cache: Path | None, display: ProgressDisplay
) -> VectorStore:
    """The vectors of all texts of a data set: read from the cache, or computed, block by block, and kept there.

    The key is made of the tokens and of everything in the encoder that the vectors depend on. An interrupted
    computation goes on where it stopped. Of several processes that want the same vectors one computes them.

    Args:
        store: the tokenised data set.
        encoder: frozen.
        cache: see :func:`fanin.data.content.cache_folder`.
        display: told of the progress.

    Raises:
        ConfigError: the cache folder cannot be written, or the transformer gives values that are not finite.
    """
    key = encoder.key
    vectors = {name: _vectors(store.split(name), name, encoder, key, cache, display) for name in store.split_names}
    return VectorStore(store, vectors)


def vector_split(
    split: TokenizedSplit, encoder: TransformerEncoder, cache: Path | None, display: ProgressDisplay
) -> FeatureSplit:
    """Texts as vectors, for what reads them several times before an encoder is trained, or without one.

    Args:
        split: the tokenised texts.
        encoder: gives the vectors, which it takes in place of texts.
        cache: as in :func:`vector_store`, whose files these are, too.
        display: told of the progress.

    Raises:
        ConfigError: as :func:`vector_store`.
    """
    was_training = encoder.training
    encoder.eval()
    vectors = _vectors(split, "texts", encoder, encoder.key, cache, display)
    encoder.train(was_training)
    return FeatureSplit(DenseFeatures(vectors), split.labels_indptr, split.labels)


def _vectors(
    split: TokenizedSplit,
    name: str,
    encoder: TransformerEncoder,
    key: str,
    cache: Path | None,
    display: ProgressDisplay,
) -> NDArray[np.float32]:
    folder, width = cache_folder(cache) / "vectors", encoder.tail.in_features
    path = folder / f"{make_key([key, _content(split)])}.f32"
    if not _whole(path, len(split), width):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            _compute(path, split, encoder, name, display)
        except OSError as error:
            raise ConfigError(
                f"{folder}: the texts' vectors cannot be written ({error.strerror or error}); free space there, or "
                "name another folder in the environment variable FANIN_CACHE"
            ) from error
    return map_array(path, np.float32, (len(split), width))


def _content(split: TokenizedSplit) -> str:
    """A key of a split's tokens."""
    content = hashlib.blake2b(np.diff(split.tokens_indptr).astype("<i8").tobytes(), digest_size=20)
    for start in range(0, len(split.tokens), _HASHED_VALUES):
        content.update(split.tokens[start : start + _HASHED_VALUES].astype("<i4").tobytes())
    return content.hexdigest()


def _whole(path: Path, rows: int, width: int) -> bool:
    return path.is_file() and path.stat().st_size == rows * width * _FLOAT_BYTES


def _compute(
    path: Path, split: TokenizedSplit, encoder: TransformerEncoder, name: str, display: ProgressDisplay
) -> None:
    partial = path.with_suffix(".partial")
    rows, block_bytes = len(split), _BLOCK * encoder.tail.in_features * _FLOAT_BYTES
    display.start(f"encoding {name}", rows)
    with partial.open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # until the file is closed, however the process ends
        if _whole(path, rows, encoder.tail.in_features):  # another process was faster
            return
        blocks = min(os.fstat(file.fileno()).st_size // block_bytes, rows // _BLOCK)
        file.truncate(blocks * block_bytes)
        done = blocks * _BLOCK
        display.advance(done)
        for start in range(done, rows, _BLOCK):
            stop = min(start + _BLOCK, rows)
            _append(file, _encoded(encoder, split, np.arange(start, stop)))
            display.advance(stop - start)
        partial.replace(path)


def _append(file: BinaryIO, vectors: NDArray[np.float32]) -> None:
    file.write(vectors.tobytes())
    file.flush()
    os.fsync(file.fileno())


@torch.no_grad()
def _encoded(encoder: TransformerEncoder, split: TokenizedSplit, rows: NDArray[np.int64]) -> NDArray[np.float32]:
    found: NDArray[np.float32] = encoder.vectors(*map(torch.from_numpy, split.inputs(rows))).cpu().numpy()
    bad = np.flatnonzero(~np.isfinite(found).all(axis=1))
    if len(bad):
        raise ConfigError(f"encoder.model: its vector of text {rows[bad[0]]} is not finite; give another model")
    return found
