"""Writing a folder or a file so that it is there whole or not at all."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import shutil
import time
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

Found = TypeVar("Found")

_DRAFT_NAME = re.compile(r".+\.writing-\d+(-[0-9a-f]{8})?")
_LEFTOVER_SECONDS = 24 * 3600
_SWAP_ATTEMPTS = 10
_PREVIOUS = ".previous"


@contextlib.contextmanager
def replacing_folder(folder: Path, mark: str) -> Iterator[Path]:
    """A temporary folder beside ``folder`` that takes its place when the block ends without an error.

    All files are flushed to disk first. What stood there before is kept until then, as ``<name>.previous``; a crash
    between the two renames leaves it under that name, see :func:`settle_folder`. An error removes the temporary folder
    and changes nothing.
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
    folder = real_path(folder)
    previous, temporary = _previous(folder), _draft(folder)
    _refuse_foreign(folder, mark)
    _refuse_foreign(previous, mark)
    make_folder(folder.parent)
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


def settle_folder(folder: Path, mark: str) -> None:
    """Put right what a process left that died while it replaced a folder.

    The folder before is put back where none has taken its place, and else removed. Only where no other process is at
    work.

    Args:
        folder: what was being replaced; a link to a folder is followed.
        mark: see :func:`replacing_folder`.

    Raises:
        OSError: it cannot be put back.
    """
    folder = real_path(folder)
    previous = _previous(folder)
    if not (previous / mark).is_file():
        return
    if (folder / mark).is_file():
        remove_folder(previous)
    else:
        previous.replace(folder)
        _sync(folder.parent)


def settle_folders(parent: Path, mark: str) -> None:
    """:func:`settle_folder` for every folder inside another one."""
    for previous in sorted(parent.glob(f"*{_PREVIOUS}")):
        settle_folder(previous.with_name(previous.name.removesuffix(_PREVIOUS)), mark)


def real_path(path: Path) -> Path:
    """Where a path leads once links are followed; a circle of links stays, for whoever opens it to refuse."""
    return type(path)(os.path.realpath(path))


def make_folder(path: Path) -> None:
    """Make a folder, with those above it that are missing, so that it is found after a power cut.

    Raises:
        OSError: it cannot be made.
    """
    missing = [folder for folder in (path, *path.parents) if not folder.exists()]
    path.mkdir(parents=True, exist_ok=True)
    for folder in missing:
        _sync(folder.parent)


def read_in_place(folder: Path, read: Callable[[Path], Found]) -> Found:
    """What is read of a folder that another process may replace meanwhile: all of it of one folder.

    Where another one has come to stand there before the reading was over, that one is read instead.

    Args:
        folder: what :func:`replacing_folder` fills; between its two renames ``<name>.previous`` stands in.
        read: reads a folder; its errors about one that was taken away while it read are no errors.
    """
    for _ in range(_SWAP_ATTEMPTS):
        here = _standing(folder)
        try:
            held = os.open(here, os.O_RDONLY | os.O_DIRECTORY)  # so that no other folder gets its number meanwhile
        except OSError:
            continue
        try:
            found = read(here)
        except Exception:
            if _stands(held, here):
                raise
        else:
            if _stands(held, here):
                return found
            del found  # there may not be memory for two
        finally:
            os.close(held)
    return read(folder)  # there is none, or one that is never left alone for so long


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


def _previous(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}{_PREVIOUS}")


def _standing(folder: Path) -> Path:
    """The folder, or what another process has made of it or of the older one that it was."""
    others = (folder, _previous(folder), folder.with_name(folder.name.removesuffix(_PREVIOUS)))
    return next((other for other in others if other.exists()), folder)


def _stands(held: int, folder: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(held), folder.stat())
    except FileNotFoundError:
        return False


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
