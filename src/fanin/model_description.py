"""``model.json``: what a model folder holds, with the SHA-256 of its files. Described in docs/formats.md."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from fanin.errors import CheckpointError
from fanin.file_digests import first_fault, noted_files, value_digest
from fanin.folders import link_out_of

if TYPE_CHECKING:
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
    path = folder / DESCRIPTION
    outside = link_out_of(folder)
    if outside is not None:
        raise CheckpointError(f"{outside}: a link to a place outside the model folder; copy what it leads to instead")
    try:
        description = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror}); give the folder of a model") from error
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: damaged, not JSON ({error}); restore the model folder") from error
    if not isinstance(description, dict) or "format" not in description:
        raise CheckpointError(f"{path}: not the description of a fanin model")
    if description["format"] not in (_SIZES_ONLY, FORMAT):
        raise CheckpointError(
            f"{path}: format {description['format']!r}; this version of fanin reads formats {_SIZES_ONLY} and "
            f"{FORMAT}; use the version that wrote it, or train again"
        )
    try:
        body = _without_digests(description) if description["format"] == _SIZES_ONLY else _unsealed(description, path)
        fault = first_fault(folder, body["files"], DESCRIPTION)
    except OSError as error:
        raise CheckpointError(f"{error.filename or folder}: cannot be read ({error.strerror or error})") from error
    except (KeyError, TypeError, AttributeError, RecursionError) as error:
        raise CheckpointError(f"{path}: does not list the model's files; restore the model folder") from error
    if fault is not None:
        raise CheckpointError(f"{fault}; copy the model folder again")
    return body


def model_digest(folder: Path) -> str:
    """What :func:`write_description` gave for a model, once every byte of its folder was found to be as it was written.

    Raises:
        CheckpointError: as :func:`read_description`.
    """
    return value_digest(read_description(folder))


def _without_digests(description: dict[str, Any]) -> dict[str, Any]:
    files = {name: {"bytes": size, "sha256": None} for name, size in description["bytes"].items()}
    return {**description, "files": files}


def _unsealed(description: dict[str, Any], path: Path) -> dict[str, Any]:
    body: dict[str, Any] = description["model"]
    if description["sha256"] != value_digest(body):
        raise CheckpointError(f"{path}: damaged (its SHA-256 is not the one it holds); restore the model folder")
    return body
