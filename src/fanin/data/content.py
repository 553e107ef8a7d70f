"""Keys of file contents, and the cache folder that holds what is derived from them."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import time
from typing import TYPE_CHECKING

from fanin.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fanin.data.dataset import Dataset

from pathlib import Path

_READ_BYTES = 1 << 20
_SETTLED_NS = 2_000_000_000  # a younger file may change again without a change of its time stamps
_KEY_BYTES = 20


def cache_folder(cache: Path | None = None) -> Path:
    """The folder for derived data: ``cache`` if given, else ``FANIN_CACHE``, else ``~/.cache/fanin``."""
    if cache is not None:
        return cache
    named = os.environ.get("FANIN_CACHE")
    return Path(named) if named else Path.home() / ".cache" / "fanin"


def make_key(parts: Sequence[str]) -> str:
    """A hexadecimal key of a sequence of strings; where one ends and the next begins counts."""
    return hashlib.blake2b(json.dumps(list(parts)).encode(), digest_size=_KEY_BYTES).hexdigest()


def content_key(dataset: Dataset, cache: Path | None = None, further: Sequence[Path] = ()) -> str:
    """A key of a data set's format and of the names and contents of its files of texts and labels.

    The digest of a file is noted in the cache folder beside its path, size, inode and times of change, and taken from
    there while all of these stay as they are; so is only the digest of a file that has been left alone for two seconds.

    Args:
        dataset: the data set.
        cache: see :func:`cache_folder`.
        further: files that count beside those, such as ``dataset.feature_files``.

    Raises:
        DataError: a file cannot be read, or changes while it is read.
    """
    notes = cache_folder(cache) / "digests"
    parts = [dataset.format_name]
    for path in (*dataset.files, *further):
        parts += [path.name if path != dataset.path else "", _digest(path, notes)]
    return make_key(parts)


def _digest(path: Path, notes: Path) -> str:
    if path.exists() and not path.is_file():
        raise DataError(f"{path}: is not a regular file; give a file of lines")
    try:
        status = _status(path)
        note = notes / f"{make_key([str(path.resolve())])}.json"
        known = _noted(note, status)
        if known is not None:
            return known
        digest = _hash_content(path)
        unchanged = _status(path) == status
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); check the path and its permissions") from error
    if not unchanged:
        raise DataError(f"{path}: the file changed while it was read; wait until it is complete and try again")
    _, _, modified, changed = status
    if time.time_ns() - max(modified, changed) > _SETTLED_NS:
        _write_note(note, status, digest)
    return digest


def _status(path: Path) -> list[int]:
    status = path.stat()
    return [status.st_size, status.st_ino, status.st_mtime_ns, status.st_ctime_ns]


def _hash_content(path: Path) -> str:
    content = hashlib.blake2b(digest_size=_KEY_BYTES)
    with path.open("rb") as file:
        while piece := file.read(_READ_BYTES):
            content.update(piece)
    return content.hexdigest()


def _noted(note: Path, status: list[int]) -> str | None:
    try:
        known = json.loads(note.read_bytes())
        return str(known["digest"]) if known["status"] == status else None
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None


def _write_note(note: Path, status: list[int], digest: str) -> None:
    # Without the note the file is merely hashed again, so a cache that cannot be written is no error here.
    with contextlib.suppress(OSError):
        note.parent.mkdir(parents=True, exist_ok=True)
        draft = note.with_name(f"{note.name}.{os.getpid()}.{time.monotonic_ns()}")
        try:
            draft.write_text(json.dumps({"status": status, "digest": digest}))
            draft.replace(note)
        except BaseException:
            draft.unlink(missing_ok=True)
            raise
