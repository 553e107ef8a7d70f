"""Building tokenised stores: streaming, and published as a whole or not at all."""

from __future__ import annotations

import contextlib
import json
import shutil
import tempfile
import time
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from fanin.data.content import cache_folder, content_key, make_key
from fanin.data.row_writing import RowWriter
from fanin.data.store import META_FILE, NAMES_FILE, STORE_VERSION, Store
from fanin.errors import ConfigError, DataError
from fanin.labels.vocabulary import LabelVocabulary

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray

    from fanin.data.dataset import Dataset

    Tokenize: TypeAlias = Callable[[list[str]], Sequence[Sequence[int] | NDArray[Any]]]
    Progress: TypeAlias = Callable[[int, int], None]

BLOCK_TEXTS = 10_000
_LEFTOVER_SECONDS = 24 * 3600
_DRAFT_PREFIX = "draft-"


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
    content = content_key(dataset, cache)
    stores = cache_folder(cache) / "stores"
    folder = stores / make_key([str(STORE_VERSION), content, tokenizer_key])
    store = _open(folder)
    if store is not None:
        return store
    try:
        stores.mkdir(parents=True, exist_ok=True)
        _remove_leftovers(stores)
        with tempfile.TemporaryDirectory(prefix=_DRAFT_PREFIX, dir=stores, ignore_cleanup_errors=True) as name:
            draft = Path(name) / "store"
            draft.mkdir()
            _write(draft, folder.name, dataset, tokenize, progress)
            if content_key(dataset, cache) != content:
                raise DataError(f"{dataset.path}: the files changed while they were read; try again")
            return _publish(draft, folder)
    except OSError as error:
        raise ConfigError(
            f"{stores}: the tokenised texts cannot be written ({error.strerror or error}); free space there, or name "
            "another folder in the environment variable FANIN_CACHE"
        ) from error


def _open(folder: Path) -> Store | None:
    with contextlib.suppress(DataError):
        return Store(folder)
    return None


def _publish(draft: Path, folder: Path) -> Store:
    try:
        draft.rename(folder)
    except OSError:
        # Someone else was faster, or a damaged store is in the way.
        store = _open(folder)
        if store is not None:
            return store
        with contextlib.suppress(FileNotFoundError):
            folder.rename(draft.parent / "damaged")
        draft.rename(folder)
    return Store(folder)


def _remove_leftovers(stores: Path) -> None:
    """Delete the drafts of processes that died a day ago or more."""
    oldest = time.time() - _LEFTOVER_SECONDS
    for draft in stores.glob(f"{_DRAFT_PREFIX}*"):
        with contextlib.suppress(OSError):
            if max(path.stat().st_mtime for path in (draft, *draft.rglob("*"))) < oldest:
                shutil.rmtree(draft)


def _write(draft: Path, key: str, dataset: Dataset, tokenize: Tokenize, progress: Progress | None) -> None:
    total = sum(dataset.row_count(split) for split in dataset.split_names)
    arrays: dict[str, tuple[str, int]] = {}
    done = 0
    for split in dataset.split_names:
        with RowWriter(draft, f"{split}.labels", narrow=False) as labels:
            for block in dataset.label_blocks(split):
                labels.append(np.diff(block.indptr), block.indices)
        with RowWriter(draft, f"{split}.tokens", narrow=True) as tokens:
            for texts in _blocks(dataset.texts(split)):
                _append_tokens(tokens, tokenize(texts))
                done += len(texts)
                if progress is not None:
                    progress(done, total)
        if tokens.rows != labels.rows:
            raise DataError(f"{dataset.path}: the texts of the {split} split changed while they were read; try again")
        arrays |= labels.finish() | tokens.finish()
        excluded = dataset.excluded(split)
        if excluded is not None:
            with RowWriter(draft, f"{split}.excluded", narrow=False) as pairs:
                pairs.append(np.diff(excluded.indptr), excluded.indices)
            arrays |= pairs.finish()
    names = LabelVocabulary.write(dataset.label_names(), draft / NAMES_FILE, source=str(dataset.names_source))
    meta = {
        "version": STORE_VERSION,
        "key": key,
        "format": dataset.format_name,
        "splits": list(dataset.split_names),
        "n_labels": len(names),
        "names_bytes": (draft / NAMES_FILE).stat().st_size,
        "arrays": arrays,
    }
    (draft / META_FILE).write_text(json.dumps(meta, indent=1), encoding="utf-8")


def _blocks(texts: Iterator[str]) -> Iterator[list[str]]:
    while block := list(islice(texts, BLOCK_TEXTS)):
        yield block


def _append_tokens(writer: RowWriter, rows: Sequence[Sequence[int] | NDArray[Any]]) -> None:
    lengths = np.fromiter(map(len, rows), dtype=np.int64, count=len(rows))
    if rows and all(isinstance(row, np.ndarray) for row in rows):
        writer.append(lengths, np.concatenate(rows).astype(np.int64))
    else:
        writer.append(lengths, np.fromiter(chain.from_iterable(rows), dtype=np.int64, count=int(lengths.sum())))
