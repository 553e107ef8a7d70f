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
from fanin.data.store import META_FILE, NAMES_FILE, STORE_VERSION, Store
from fanin.errors import ConfigError, DataError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray

    from fanin.data.dataset import Dataset

    Tokenize: TypeAlias = Callable[[list[str]], Sequence[Sequence[int] | NDArray[Any]]]
    Progress: TypeAlias = Callable[[int, int], None]

BLOCK_TEXTS = 10_000
_NARROW_LIMIT = 65_536
_NARROW_BLOCK = 1 << 22
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
    total = sum(len(dataset.positives(split)) for split in dataset.split_names)
    vocabulary = dataset.vocabulary
    arrays: dict[str, tuple[str, int]] = {}

    def save(name: str, array: NDArray[Any]) -> None:
        array.tofile(draft / f"{name}.bin")
        arrays[name] = (array.dtype.str, len(array))

    done = 0
    for split in dataset.split_names:
        positives = dataset.positives(split)
        tokens = _TokenWriter(draft / f"{split}.tokens.bin")
        for texts in _blocks(dataset.texts(split)):
            tokens.append(tokenize(texts))
            done += len(texts)
            if progress is not None:
                progress(done, total)
        indptr, dtype = tokens.close()
        if len(indptr) != len(positives) + 1:
            raise DataError(f"{dataset.path}: the texts of the {split} split changed while they were read; try again")
        arrays[f"{split}.tokens"] = (dtype, int(indptr[-1]))
        save(f"{split}.tokens_indptr", indptr)
        save(f"{split}.labels_indptr", positives.indptr)
        save(f"{split}.labels", positives.indices)
        excluded = dataset.excluded(split)
        if excluded is not None:
            save(f"{split}.excluded_indptr", excluded.indptr)
            save(f"{split}.excluded", excluded.indices)
    vocabulary.save(draft / NAMES_FILE)
    meta = {
        "version": STORE_VERSION,
        "key": key,
        "format": dataset.format_name,
        "splits": list(dataset.split_names),
        "n_labels": len(vocabulary),
        "names_bytes": (draft / NAMES_FILE).stat().st_size,
        "arrays": arrays,
    }
    (draft / META_FILE).write_text(json.dumps(meta, indent=1), encoding="utf-8")


def _blocks(texts: Iterator[str]) -> Iterator[list[str]]:
    while block := list(islice(texts, BLOCK_TEXTS)):
        yield block


class _TokenWriter:
    """Appends the token ids of rows to a file: int32 while it grows, uint16 in the end where all ids fit."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lengths: list[NDArray[np.int64]] = []
        self._largest = 0
        path.touch()

    def append(self, rows: Sequence[Sequence[int] | NDArray[Any]]) -> None:
        lengths = np.fromiter(map(len, rows), dtype=np.int64, count=len(rows))
        flat = _flatten(rows, int(lengths.sum()))
        assert flat.min(initial=0) >= 0, "token ids are never negative"
        self._largest = max(self._largest, int(flat.max(initial=0)))
        assert self._largest < 2**31, "token ids fit int32"
        self._lengths.append(lengths)
        with self._path.open("ab") as file:
            flat.astype(np.int32).tofile(file)

    def close(self) -> tuple[NDArray[np.int64], str]:
        """Finish the file; gives (N + 1,) offsets and the dtype of the ids."""
        indptr = np.zeros(1 + sum(map(len, self._lengths)), dtype=np.int64)
        if self._lengths:
            np.cumsum(np.concatenate(self._lengths), out=indptr[1:])
        if self._largest >= _NARROW_LIMIT:
            return indptr, np.dtype(np.int32).str
        narrow = self._path.with_suffix(".narrow")
        with self._path.open("rb") as wide, narrow.open("wb") as file:
            while len(block := np.fromfile(wide, dtype=np.int32, count=_NARROW_BLOCK)):
                block.astype(np.uint16).tofile(file)
        narrow.replace(self._path)
        return indptr, np.dtype(np.uint16).str


def _flatten(rows: Sequence[Sequence[int] | NDArray[Any]], total: int) -> NDArray[np.int64]:
    if total and all(isinstance(row, np.ndarray) for row in rows):
        return np.concatenate(rows).astype(np.int64)
    return np.fromiter(chain.from_iterable(rows), dtype=np.int64, count=total)
