"""SHA-256 of files and plain values: noted when something is written, checked before any of it is used."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


def file_digest(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal digits.

    Raises:
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def value_digest(value: Any) -> str:
    """The SHA-256 of a plain value, by its JSON with sorted keys.

    >>> value_digest({"a": 1, "b": [2]}) == value_digest({"b": [2], "a": 1})
    True
    """
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def noted_files(folder: Path) -> dict[str, dict[str, Any]]:
    """Size (``bytes``) and ``sha256`` of every file in a folder, by its path there.

    Raises:
        OSError: one cannot be read.
    """
    return {
        path.relative_to(folder).as_posix(): {"bytes": path.stat().st_size, "sha256": file_digest(path)}
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def first_fault(folder: Path, files: Mapping[str, Mapping[str, Any]], description: str) -> str | None:
    """What is wrong with a folder's files, as a sentence that begins with the path of one; None where nothing is.

    Args:
        folder: the folder; nothing outside it is looked at, whatever names there are.
        files: what :func:`noted_files` gave; where ``sha256`` is None it was not noted.
        description: the file that says so, for the message.

    Raises:
        OSError: a file cannot be read.
    """
    found = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    for name, noted in sorted(files.items()):
        path = folder / name
        if name not in found:
            return f"{path}: is missing, but listed in {description}"
        size, expected, digest = path.stat().st_size, noted["bytes"], noted["sha256"]
        if size != expected:
            return f"{path}: truncated or damaged ({size} bytes instead of {expected})"
        if digest is not None and digest != file_digest(path):
            return f"{path}: damaged (its SHA-256 is not that of {description})"
    return None
