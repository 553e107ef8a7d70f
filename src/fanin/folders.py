"""Writing a folder or a file so that it is there whole or not at all."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import shutil
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_DRAFT_NAME = re.compile(r".+\.writing-\d+(-[0-9a-f]{8})?")
_LEFTOVER_SECONDS = 24 * 3600
_SWAP_ATTEMPTS = 10


@contextlib.contextmanager
def replacing_folder(folder: Path, mark: str) -> Iterator[Path]:
    """A temporary folder beside ``folder`` that takes its place when the block ends without an error.

    All files are flushed to disk first. What stood there before is kept until then, as ``<name>.previous``; a crash
    between the two renames leaves it under that name. An error removes the temporary folder and changes nothing.
    Temporary folders of processes that died a day ago or more are removed. Of several processes that fill one folder
    at the same time the last one stays.

    Args:
        folder: the place to fill; a link to a folder is followed.
        mark: a file that the new folder will hold, by which an older one is known: only a missing or empty folder, or
            one that holds this file, is replaced.

    Yields:
        The temporary folder to write into.

    Raises:
        FileExistsError: something else stands at ``folder`` or at ``<name>.previous``.
        OSError: the folder cannot be written.
    """
    folder = folder.resolve()
    previous = folder.with_name(f"{folder.name}.previous")
    temporary = _draft(folder)
    _refuse_foreign(folder, mark)
    _refuse_foreign(previous, mark)
    folder.parent.mkdir(parents=True, exist_ok=True)
    _remove_leftovers(folder)
    temporary.mkdir()
    try:
        yield temporary
        assert (temporary / mark).is_file(), f"the new folder holds {mark}"
        _flush(temporary)
        _refuse_foreign(folder, mark)
        _swap(temporary, folder, previous)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    _sync(folder.parent)
    _remove(previous, folder)


def replace_file(path: Path, text: str) -> None:
    """Write a text file (UTF-8) that takes the place of what stood there once all of it is on the disk.

    Raises:
        OSError: it cannot be written; what stood there is kept.
    """
    draft = _draft(path)
    try:
        with draft.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
    _sync(path.parent)


def link_out_of(folder: Path) -> Path | None:
    """A symbolic link inside a folder that leads out of it, None where there is none; the folder may be one itself."""
    root = os.path.realpath(folder)
    for path in sorted(folder.rglob("*")):
        if path.is_symlink() and os.path.commonpath((root, os.path.realpath(path))) != root:
            return path
    return None


def remove_folder(folder: Path) -> None:
    """Remove a folder that is whole under its name until it is gone; what cannot be removed stays."""
    _remove(folder, folder)


def remove_drafts(folder: Path) -> None:
    """Remove the temporary folders and files that killed processes left in ``folder``.

    Only for a folder in which no other process is at work.
    """
    for path in folder.iterdir():
        if _DRAFT_NAME.fullmatch(path.name):
            with contextlib.suppress(OSError):
                shutil.rmtree(path) if path.is_dir() else path.unlink()


def _draft(folder: Path) -> Path:
    # Process ids alone repeat: in containers that share a disk, and in the threads of a process.
    return folder.with_name(f"{folder.name}.writing-{os.getpid()}-{secrets.token_hex(4)}")


def _remove(previous: Path, folder: Path) -> None:
    # Renamed first: half removed under its own name it would lack its mark.
    trash = _draft(folder)
    with contextlib.suppress(OSError):
        previous.rename(trash)
        shutil.rmtree(trash)


def _refuse_foreign(folder: Path, mark: str) -> None:
    for attempt in range(_SWAP_ATTEMPTS):
        # Another process may take the folder away, or put another there, between two of these questions.
        with contextlib.suppress(FileNotFoundError):
            if not folder.exists() or (folder.is_dir() and ((folder / mark).is_file() or not any(folder.iterdir()))):
                return
        if attempt == _SWAP_ATTEMPTS - 1:
            raise FileExistsError(f"{folder} is there already and holds no {mark}; name another folder, or delete it")


def _swap(temporary: Path, folder: Path, previous: Path) -> None:
    for attempt in range(_SWAP_ATTEMPTS):
        moved = folder.exists()
        try:
            if moved:
                _remove(previous, folder)
                folder.rename(previous)
            temporary.rename(folder)
        except OSError:
            # Another process has moved the old folder away, or put its own there, since the question above.
            if moved and not folder.exists() and previous.exists():
                with contextlib.suppress(OSError):
                    previous.rename(folder)
            if attempt == _SWAP_ATTEMPTS - 1:
                raise
        else:
            return


def _remove_leftovers(folder: Path) -> None:
    oldest = time.time() - _LEFTOVER_SECONDS
    for path in folder.parent.iterdir():
        if path.name.startswith(f"{folder.name}.writing-") and _DRAFT_NAME.fullmatch(path.name):
            with contextlib.suppress(OSError):
                if path.stat().st_mtime < oldest:
                    shutil.rmtree(path)


def _flush(folder: Path) -> None:
    for path in [*folder.rglob("*"), folder]:
        _sync(path)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
