"""``model.json``: what a model folder holds, with the SHA-256 of its files. Described in docs/formats.md."""

from __future__ import annotations

import contextlib
import json
from typing import TYPE_CHECKING, Any

from fanin.errors import CheckpointError
from fanin.file_digests import file_digest, first_fault, noted_files, value_digest
from fanin.folders import link_out_of
from fanin.json_files import read_json

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

DESCRIPTION = "model.json"
FORMAT = 2
_SIZES_ONLY = 1  # the format before, which knew no digests


def write_description(folder: Path, body: dict[str, Any]) -> str:
    """Describe a model folder whose other files are all there.

    Args:
        folder: the folder.
        body: what is said of the model, as plain values.

    Returns:
        A digest of the model: of what is said of it, the digests of its files among it.

    Raises:
        OSError: a file cannot be read or written.
    """
    body = {**body, "files": noted_files(folder)}
    digest = value_digest(body)
    description = {"format": FORMAT, "sha256": digest, "model": body}
    (folder / DESCRIPTION).write_text(json.dumps(description, indent=2) + "\n", encoding="utf-8")
    return digest


def read_description(folder: Path) -> dict[str, Any]:
    """What is said of a model, once every byte of its folder was found to be as it was written.

    Of a folder of format 1, which has no digests, only the sizes of the files are checked. What digests have read is in
    the system's memory when it is mapped afterwards, so that a disk reads it once.

    Raises:
        CheckpointError: a file is missing, truncated or damaged, a link leads out of the folder, or the model is of
            another version.
    """
    outside = link_out_of(folder)
    if outside is not None:
        raise CheckpointError(f"{outside}: a link to a place outside the model folder; copy what it leads to instead")
    with _refusing(folder):
        body = _body(folder / DESCRIPTION)
        fault = first_fault(folder, body["files"], DESCRIPTION)
    if fault is not None:
        raise CheckpointError(f"{fault}; copy the model folder again")
    return body


def noted_digests(folder: Path) -> dict[str, str]:
    """The SHA-256 of every file of a model by its path in the folder, that of its description among them.

    Only the description is read, the others' are what it notes: whether they are so, :func:`read_description` says.
    In a folder of format 1, where none are noted, all are read.

    Raises:
        CheckpointError: the description is missing or damaged, or a file of format 1 is missing.
    """
    path = folder / DESCRIPTION
    with _refusing(folder):
        files = _body(path)["files"]
        noted = {name: facts["sha256"] or file_digest(folder / name) for name, facts in files.items()}
        return noted | {DESCRIPTION: file_digest(path)}


def model_digest(folder: Path) -> str:
    """What :func:`write_description` gave for a model, once every byte of its folder was found to be as it was written.

    Raises:
        CheckpointError: as :func:`read_description`.
    """
    return value_digest(read_description(folder))


@contextlib.contextmanager
def _refusing(folder: Path) -> Iterator[None]:
    """Raise CheckpointError for a file that cannot be read, and for a description that does not list files."""
    try:
        yield
    except OSError as error:
        raise CheckpointError(f"{error.filename or folder}: cannot be read ({error.strerror or error})") from error
    except (KeyError, TypeError, AttributeError, RecursionError) as error:
        path = folder / DESCRIPTION
        raise CheckpointError(f"{path}: does not list the model's files; restore the model folder") from error


def _body(path: Path) -> dict[str, Any]:
    """What a description says of its model, in the form of today's format."""
    description = read_json(path, unreadable="give the folder of a model", damaged="restore the model folder")
    if not isinstance(description, dict) or "format" not in description:
        raise CheckpointError(f"{path}: not the description of a fanin model")
    if description["format"] not in (_SIZES_ONLY, FORMAT):
        raise CheckpointError(
            f"{path}: format {description['format']!r}; this version of fanin reads formats {_SIZES_ONLY} and "
            f"{FORMAT}; use the version that wrote it, or train again"
        )
    return _without_digests(description) if description["format"] == _SIZES_ONLY else _unsealed(description, path)


def _without_digests(description: dict[str, Any]) -> dict[str, Any]:
    files = {name: {"bytes": size, "sha256": None} for name, size in description["bytes"].items()}
    return {**description, "files": files}


def _unsealed(description: dict[str, Any], path: Path) -> dict[str, Any]:
    body: dict[str, Any] = description["model"]
    if description["sha256"] != value_digest(body):
        raise CheckpointError(f"{path}: damaged (its SHA-256 is not the one it holds); restore the model folder")
    return body
