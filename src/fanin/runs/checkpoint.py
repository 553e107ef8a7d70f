"""A checkpoint: a folder that holds the whole state of a run after a step, written whole and checked when read.

Tensors are in safetensors files, all else in ``checkpoint.json``, which holds the SHA-256 of every file and its own.
Described in docs/formats.md.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib import metadata
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

import torch
from pydantic import BaseModel, ConfigDict, Field
from safetensors import SafetensorError

from fanin.errors import CheckpointError
from fanin.file_digests import first_fault, noted_files, value_digest
from fanin.folders import link_out_of, replacing_folder
from fanin.processes.spread import SpreadTensors
from fanin.runs.position import Position
from fanin.tensor_files import read_tensors, write_tensors
from fanin.version import __version__

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from torch import Tensor

    Part: TypeAlias = Mapping[str, Tensor] | SpreadTensors
    """The tensors of one part of the state, by name."""

FORMAT = 1
DESCRIPTION = "checkpoint.json"


class DamagedCheckpointError(CheckpointError):
    """Not all of a checkpoint is as it was written; an older one may be."""


class RunFacts(BaseModel):
    """What a checkpoint says besides its tensors.

    Attributes:
        position: where the run stands.
        classifier_steps: fused steps of the classifier.
        auxiliary_steps: those of the auxiliary objective's, None where there is none any more.
        log_size: bytes of the log at that time.
        log_seconds: since the start of the run.
        data_key: of the data set's content.
        tokenizer_key: of the tokenizer, None where there is none.
        recipe: all settings, as plain values.
    """

    model_config = ConfigDict(extra="forbid", strict=True)

    position: Position
    classifier_steps: Annotated[int, Field(ge=0)]
    auxiliary_steps: Annotated[int, Field(ge=0)] | None
    log_size: Annotated[int, Field(ge=0)]
    log_seconds: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    data_key: str
    tokenizer_key: str | None
    recipe: dict[str, Any]


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint that was read and found whole.

    Attributes:
        folder: where it lies.
        facts: what it says.
        files: names of its files of tensors.
        versions: what :func:`surroundings` gave when it was written.
    """

    folder: Path
    facts: RunFacts
    files: frozenset[str]
    versions: Mapping[str, str]

    def tensors(self, part: str) -> dict[str, Tensor]:
        """The tensors of one part of the state, by name; none where the part had none.

        Raises:
            CheckpointError: they cannot be read.
        """
        path = self.folder / f"{part}.safetensors"
        return read_tensors(path, "the checkpoint") if path.name in self.files else {}


def surroundings(recipe: Mapping[str, Any]) -> dict[str, str]:
    """What the last digits of a run depend on besides data and recipe: versions by package, and the threads.

    Args:
        recipe: all settings, as plain values; transformers counts where they ask for one.
    """
    encoder = recipe.get("encoder", {})
    packages = ["numpy", "tokenizers", *(["transformers"] if encoder.get("kind") == "transformer" else [])]
    versions = {"fanin": __version__, "torch": torch.__version__} | {name: metadata.version(name) for name in packages}
    return versions | {"threads": str(torch.get_num_threads())}


def write_checkpoint(folder: Path, facts: RunFacts, parts: Mapping[str, Part]) -> None:
    """Write a checkpoint folder whole, in the place of what stood there.

    Args:
        folder: where.
        facts: what it says.
        parts: the tensors of each part of the state, by name.

    Raises:
        CheckpointError: it cannot be written; what stood there is kept.
    """
    try:
        with replacing_folder(folder, DESCRIPTION) as new:
            for name, tensors in parts.items():
                if tensors:
                    write_tensors(tensors, new / f"{name}.safetensors")
            files, versions = noted_files(new), surroundings(facts.recipe)
            body = {"format": FORMAT, "versions": versions, "files": files, "run": facts.model_dump()}
            description = {"sha256": value_digest(body), "checkpoint": body}
            (new / DESCRIPTION).write_text(json.dumps(description, indent=2) + "\n", encoding="utf-8")
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{folder}: the checkpoint could not be written ({error})") from error


def send_parts(parts: Mapping[str, Part]) -> None:
    """Give the first process, which writes a checkpoint, what this one holds of it."""
    for tensors in parts.values():
        if isinstance(tensors, SpreadTensors):
            tensors.send()


def read_checkpoint(folder: Path) -> Checkpoint:
    """Open a checkpoint and check every byte of it.

    Raises:
        DamagedCheckpointError: a file is missing, truncated or changed; the message names it.
        CheckpointError: it is of another version, or cannot be read.
    """
    try:
        outside = link_out_of(folder)
        if outside is not None:
            raise DamagedCheckpointError(f"{outside}: a link to a place outside the checkpoint")
        body = _description(folder / DESCRIPTION)
        _check_files(folder, body["files"])
        facts, versions = RunFacts.model_validate(body["run"]), dict(body["versions"])
        return Checkpoint(folder, facts, frozenset(body["files"]), versions)
    except FileNotFoundError as error:
        raise DamagedCheckpointError(f"{error.filename}: is missing") from error
    except OSError as error:
        raise CheckpointError(f"{error.filename}: cannot be read ({error.strerror or error})") from error
    except CheckpointError:
        raise
    except (ValueError, KeyError, TypeError, AttributeError) as error:  # a ValidationError is a ValueError
        told = f"{folder / DESCRIPTION}: not the description of a checkpoint ({type(error).__name__})"
        raise DamagedCheckpointError(told) from error


def _description(path: Path) -> dict[str, Any]:
    """What a checkpoint's description says, if it is whole and of this format."""
    try:
        description = json.loads(path.read_text(encoding="utf-8"))
        body: dict[str, Any] = description["checkpoint"]
        digest = description["sha256"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise DamagedCheckpointError(f"{path}: damaged, not the description of a checkpoint") from error
    if digest != value_digest(body):
        raise DamagedCheckpointError(f"{path}: damaged (its SHA-256 is not the one it holds)")
    if body["format"] != FORMAT:
        raise CheckpointError(
            f"{path}: format {body['format']!r}; this version of fanin reads format {FORMAT}; resume with the version "
            f"that wrote it, {body['versions']['fanin']}"
        )
    return body


def _check_files(folder: Path, files: Mapping[str, Mapping[str, Any]]) -> None:
    unknown = sorted({path.name for path in folder.iterdir()} - files.keys() - {DESCRIPTION})
    if unknown:
        raise DamagedCheckpointError(f"{folder / unknown[0]}: is unknown to {DESCRIPTION}")
    fault = first_fault(folder, files, DESCRIPTION)
    if fault is not None:
        raise DamagedCheckpointError(fault)
