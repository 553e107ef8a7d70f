"""The folder of stores in the cache: each is found by its key, or written and published as a whole or not at all."""

from __future__ import annotations

import contextlib
import json
import shutil
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from fanin.data.content import cache_folder, content_key, make_key
from fanin.data.label_store import META_FILE, STORE_VERSION, LabelStore
from fanin.errors import ConfigError, DataError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from fanin.data.dataset import Dataset

    Write: TypeAlias = Callable[[Path], dict[str, Any]]

AnyStore = TypeVar("AnyStore", bound=LabelStore)

_LEFTOVER_SECONDS = 24 * 3600
_DRAFT_PREFIX = "draft-"


class StoreCache:
    """The stores of a data set.

    Args:
        dataset: the data set.
        cache: see :func:`fanin.data.content.cache_folder`.
        further: as in :func:`fanin.data.content.content_key`.

    Raises:
        DataError: a file of the data set cannot be read, or changes while it is read.
    """

    def __init__(self, dataset: Dataset, cache: Path | None = None, further: Sequence[Path] = ()) -> None:
        self._dataset, self._cache, self._further = dataset, cache, further
        self._content = content_key(dataset, cache, further)
        self._stores = cache_folder(cache) / "stores"

    def open(self, kind: type[AnyStore], write: Write, *keys: Sequence[str]) -> AnyStore:
        """Open the first store that is there and whole; where none is, write one.

        Args:
            kind: its class.
            write: called with an empty folder; writes all files but the description into it, and gives that.
            keys: what else the content of a store depends on, for every store that will do; the last one is written.

        Raises:
            DataError: the data set changed while it was read.
            ConfigError: the cache folder cannot be written.
        """
        folder = self._stores
        for key in keys:
            folder = self._stores / make_key([str(STORE_VERSION), kind.holds, self._content, *key])
            store = _open(kind, folder)
            if store is not None:
                return store
        try:
            return self._written(kind, write, folder)
        except OSError as error:
            raise ConfigError(
                f"{self._stores}: the store of {kind.holds} cannot be written ({error.strerror or error}); free space "
                "there, or name another folder in the environment variable FANIN_CACHE"
            ) from error

    def _written(self, kind: type[AnyStore], write: Write, folder: Path) -> AnyStore:
        self._stores.mkdir(parents=True, exist_ok=True)
        _remove_leftovers(self._stores)
        with tempfile.TemporaryDirectory(prefix=_DRAFT_PREFIX, dir=self._stores, ignore_cleanup_errors=True) as name:
            draft = Path(name) / "store"
            draft.mkdir()
            meta = {"version": STORE_VERSION, "key": folder.name, "holds": kind.holds, **write(draft)}
            (draft / META_FILE).write_text(json.dumps(meta, indent=1), encoding="utf-8")
            if content_key(self._dataset, self._cache, self._further) != self._content:
                raise DataError(f"{self._dataset.path}: the files changed while they were read; try again")
            return _publish(kind, draft, folder)


def _open(kind: type[AnyStore], folder: Path) -> AnyStore | None:
    with contextlib.suppress(DataError):
        return kind(folder)
    return None


def _publish(kind: type[AnyStore], draft: Path, folder: Path) -> AnyStore:
    try:
        draft.rename(folder)
    except OSError:
        # Someone else was faster, or a damaged store is in the way.
        store = _open(kind, folder)
        if store is not None:
            return store
        with contextlib.suppress(FileNotFoundError):
            folder.rename(draft.parent / "damaged")
        draft.rename(folder)
    return kind(folder)


def _remove_leftovers(stores: Path) -> None:
    """Delete the drafts of processes that died a day ago or more."""
    oldest = time.time() - _LEFTOVER_SECONDS
    for draft in stores.glob(f"{_DRAFT_PREFIX}*"):
        with contextlib.suppress(OSError):
            if max(path.stat().st_mtime for path in (draft, *draft.rglob("*"))) < oldest:
                shutil.rmtree(draft)
