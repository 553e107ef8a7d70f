"""Building stores: streaming, so that the memory taken does not depend on the number of rows."""

from __future__ import annotations

from itertools import chain, islice
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from fanin.data.label_store import NAMES_FILE, LabelStore
from fanin.data.row_writing import ArrayWriter, RowWriter
from fanin.data.sparse_store import SparseStore
from fanin.data.store import Store
from fanin.data.store_cache import StoreCache
from fanin.errors import DataError
from fanin.labels.vocabulary import LabelVocabulary

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from fanin.data.dataset import Dataset

    Tokenize: TypeAlias = Callable[[list[str]], Sequence[Sequence[int] | NDArray[Any]]]
    Progress: TypeAlias = Callable[[int, int], None]
    Arrays: TypeAlias = dict[str, tuple[str, int]]
    WriteSplit: TypeAlias = Callable[[str, Path], Arrays]

BLOCK_TEXTS = 10_000


def build_store(
    dataset: Dataset,
    tokenize: Tokenize,
    tokenizer_key: str,
    cache: Path | None = None,
    progress: Progress | None = None,
) -> Store:
    """Open the store of a data set and tokenizer, tokenising the texts if there is none yet or it is damaged.

    Args:
        dataset: what to tokenise.
        tokenize: called with up to 10,000 texts at a time; gives the token ids of each, whole numbers in [0, 2^31).
        tokenizer_key: names everything that the token ids depend on.
        cache: folder for stores; see :func:`fanin.data.content.cache_folder`.
        progress: called with (texts done, texts in all splits) after each block.

    Raises:
        DataError: a file of the data set is faulty, or changed while it was read.
        ConfigError: the cache folder cannot be written.
    """
    done = _Done(dataset, dataset.split_names, progress)

    def write_tokens(split: str, draft: Path) -> Arrays:
        with RowWriter(draft, f"{split}.tokens", narrow=True) as tokens:
            for texts in _blocks(dataset.texts(split)):
                _append_tokens(tokens, tokenize(texts))
                done.add(len(texts))
        return tokens.finish()

    def write(draft: Path) -> dict[str, Any]:
        return _write(draft, dataset, dataset.split_names, write_tokens)

    return StoreCache(dataset, cache).open(Store, write, [tokenizer_key])


def build_sparse_store(
    dataset: Dataset,
    splits: Sequence[str],
    columns: int,
    cache: Path | None = None,
    progress: Progress | None = None,
) -> SparseStore:
    """Open a store of sparse features and labels, reading their files if there is none yet or it is damaged.

    Args:
        dataset: a data set with sparse features.
        splits: those to read, in the order train, dev, test. Where there is a store of all splits, that is opened.
        columns: D0, the number of features of each split.
        cache: folder for stores; see :func:`fanin.data.content.cache_folder`.
        progress: called with (texts done, texts in these splits) after each block.

    Raises:
        DataError: a file of the data set is faulty, or changed while it was read.
        ConfigError: the cache folder cannot be written.
    """
    done = _Done(dataset, splits, progress)

    def write_features(split: str, draft: Path) -> Arrays:
        with (
            RowWriter(draft, f"{split}.features", narrow=False) as features,
            ArrayWriter(draft, f"{split}.values", np.float32) as values,
        ):
            for block in dataset.feature_blocks(split):
                features.append(np.diff(block.indptr), block.indices)
                values.append(block.values)
                done.add(len(block))
        return features.finish() | values.finish()

    def write(draft: Path) -> dict[str, Any]:
        return {**_write(draft, dataset, splits, write_features), "columns": columns}

    return StoreCache(dataset, cache, dataset.feature_files).open(SparseStore, write, dataset.split_names, splits)


def build_label_store(dataset: Dataset, splits: Sequence[str], cache: Path | None = None) -> LabelStore:
    """Open a store of labels alone, reading their files if there is none yet or it is damaged.

    Args:
        dataset: the data set.
        splits: as in :func:`build_sparse_store`.
        cache: folder for stores; see :func:`fanin.data.content.cache_folder`.

    Raises:
        DataError: a file of the data set is faulty, or changed while it was read.
        ConfigError: the cache folder cannot be written.
    """

    def write(draft: Path) -> dict[str, Any]:
        return _write(draft, dataset, splits, lambda _split, _draft: {})

    return StoreCache(dataset, cache).open(LabelStore, write, dataset.split_names, splits)


class _Done:
    """Tells how many texts are done."""

    def __init__(self, dataset: Dataset, splits: Sequence[str], progress: Progress | None) -> None:
        self._dataset, self._splits, self._progress, self._texts = dataset, splits, progress, 0

    def add(self, texts: int) -> None:
        self._texts += texts
        if self._progress is not None:
            self._progress(self._texts, sum(map(self._dataset.row_count, self._splits)))


def _write(draft: Path, dataset: Dataset, splits: Sequence[str], write_split: WriteSplit) -> dict[str, Any]:
    """Write labels, their names and what else a split has; gives the description of it all."""
    arrays: Arrays = {}
    for split in splits:
        with RowWriter(draft, f"{split}.labels", narrow=False) as labels:
            for block in dataset.label_blocks(split):
                labels.append(np.diff(block.indptr), block.indices)
        written = write_split(split, draft)
        if any(length != labels.rows + 1 for name, (_, length) in written.items() if name.endswith("_indptr")):
            raise DataError(f"{dataset.path}: the files of the {split} split changed while they were read; try again")
        arrays |= labels.finish() | written
        excluded = dataset.excluded(split)
        if excluded is not None:
            with RowWriter(draft, f"{split}.excluded", narrow=False) as pairs:
                pairs.append(np.diff(excluded.indptr), excluded.indices)
            arrays |= pairs.finish()
    names = LabelVocabulary.write(dataset.label_names(), draft / NAMES_FILE, source=str(dataset.names_source))
    return {
        "format": dataset.format_name,
        "splits": list(splits),
        "n_labels": len(names),
        "names_bytes": (draft / NAMES_FILE).stat().st_size,
        "arrays": arrays,
    }


def _blocks(texts: Iterator[str]) -> Iterator[list[str]]:
    while block := list(islice(texts, BLOCK_TEXTS)):
        yield block


def _append_tokens(writer: RowWriter, rows: Sequence[Sequence[int] | NDArray[Any]]) -> None:
    lengths = np.fromiter(map(len, rows), dtype=np.int64, count=len(rows))
    if rows and all(isinstance(row, np.ndarray) for row in rows):
        writer.append(lengths, np.concatenate(rows).astype(np.int64))
    else:
        writer.append(lengths, np.fromiter(chain.from_iterable(rows), dtype=np.int64, count=int(lengths.sum())))
