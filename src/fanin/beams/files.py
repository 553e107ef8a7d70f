"""A beam beside its model: safetensors and JSON in the model folder. Described in docs/formats.md.

A beam that was made for other weights is refused, and so is one whose files are damaged: what it would choose is of no
use then. The model's own files are not read for it: whoever loads the model has every byte of them checked.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError

from fanin.classifier.beam import Beam
from fanin.classifier.label_clusters import LabelClusters
from fanin.classifier.router import Router
from fanin.errors import CheckpointError
from fanin.file_digests import file_digest
from fanin.folders import replace_file
from fanin.model_description import DESCRIPTION as MODEL
from fanin.model_description import noted_digests
from fanin.tensor_files import read_tensors, write_tensors

if TYPE_CHECKING:
    from pathlib import Path

    from fanin.classifier.interface import Classifier

FORMAT = 1
DESCRIPTION, TENSORS = "beam.json", "beam.safetensors"
_NO_WEIGHTS = {TENSORS, "train_counts.safetensors"}
_NAMES = {"members", "bounds", "part", "weight", "bias"}
_AGAIN = "make it again with 'fanin index'"


def save_beam(beam: Beam, folder: Path, facts: dict[str, Any]) -> None:
    """Write a beam into the folder of the model that it was made for, in the place of an older one.

    Args:
        beam: the beam.
        folder: the model folder.
        facts: what else its description shall say, as plain values: what was asked for, what was measured.

    Raises:
        CheckpointError: it cannot be written.
    """
    clusters = beam.clusters
    tensors = {"members": clusters.members, "bounds": clusters.bounds, "part": clusters.part}
    tensors |= {"weight": beam.router.weight, "bias": beam.router.bias}
    optional = {"fold": beam.fold, "projection": beam.router.projection}
    tensors |= {name: tensor for name, tensor in optional.items() if tensor is not None}
    draft, described = folder / f"{TENSORS}.draft", folder / f"{DESCRIPTION}.draft"
    try:
        write_tensors(tensors, draft)
        description = {
            "format": FORMAT,
            "width": beam.width,
            "sha256": file_digest(draft),
            "model_sha256": _model_digest(folder),
            "facts": facts,
        }
        replace_file(described, json.dumps(description, indent=2) + "\n")
        (folder / DESCRIPTION).unlink(missing_ok=True)  # from here on there is no beam until there is the new one
        draft.replace(folder / TENSORS)
        described.replace(folder / DESCRIPTION)
    except (OSError, SafetensorError) as error:
        draft.unlink(missing_ok=True)
        described.unlink(missing_ok=True)
        raise CheckpointError(f"{folder}: the beam could not be saved ({error})") from error


def load_beam(folder: Path, classifier: Classifier, width: int | None = None) -> Beam:
    """Read the beam of a model folder.

    Args:
        folder: the model folder.
        classifier: of :func:`fanin.model_files.load_model` from there.
        width: clusters a row instead of the number that was kept.

    Raises:
        CheckpointError: there is none, it is damaged or of another version, or the model has changed since.
    """
    path = folder / DESCRIPTION
    kept, digest, model_digest = _description(path)
    if model_digest != _model_digest(folder):
        raise CheckpointError(f"{path}: the model has changed since this beam was made; {_AGAIN}")
    if not (folder / TENSORS).is_file() or digest != file_digest(folder / TENSORS):
        raise CheckpointError(f"{folder / TENSORS}: missing or damaged; {_AGAIN}")
    tensors = read_tensors(folder / TENSORS, "the beam")
    fold, projection = tensors.pop("fold", None), tensors.pop("projection", None)
    if tensors.keys() != _NAMES:
        raise CheckpointError(f"{folder / TENSORS}: not the tensors of a beam; {_AGAIN}")
    clusters = LabelClusters(tensors["members"], tensors["bounds"], tensors["part"])
    router = Router(tensors["weight"], tensors["bias"], projection)
    beam = Beam(clusters, router, fold, kept if width is None else width)
    try:
        clusters.check(classifier.sparse_parts())
        _check_router(beam, classifier.in_features)
    except CheckpointError as error:
        raise CheckpointError(f"{folder / TENSORS}: {error}; {_AGAIN}") from error
    return beam


def _description(path: Path) -> tuple[int, str, str]:
    """The width and the digests of the tensors and of the model."""
    try:
        description = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise CheckpointError(
            f"{path.parent}: this model has no beam; make one with 'fanin index', or predict without"
        ) from error
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: damaged ({error}); {_AGAIN}") from error
    if not isinstance(description, dict) or description.get("format") != FORMAT:
        raise CheckpointError(f"{path}: not of format {FORMAT}, which this version of fanin reads; {_AGAIN}")
    width, digest, model_digest = (description.get(name) for name in ("width", "sha256", "model_sha256"))
    if type(width) is not int or width < 1 or not isinstance(digest, str) or not isinstance(model_digest, str):
        raise CheckpointError(f"{path}: damaged, its width or digests are missing; {_AGAIN}")
    return width, digest, model_digest


def _check_router(beam: Beam, in_features: int) -> None:
    weight, bias, projection = beam.router.weight, beam.router.bias, beam.router.projection
    inputs, fold = in_features, beam.fold
    if fold is not None:
        if fold.dtype != torch.int32 or fold.ndim != 1 or not 0 < len(fold) <= in_features or bool((fold == 0).any()):
            raise CheckpointError("the sums of inputs are not numbered from 1")
        inputs += int(fold.long().abs().max()) - len(fold)
    if projection is not None:
        if projection.dtype != torch.float32 or projection.ndim != 2 or projection.shape[1] != inputs:
            raise CheckpointError(f"the router's projection must be a float32 matrix of {inputs} inputs")
        inputs = len(projection)
    if weight.dtype != torch.bfloat16 or weight.ndim != 2 or weight.shape[1] != inputs:
        raise CheckpointError(f"the router must be a bfloat16 matrix of {inputs} inputs")
    if len(weight) > beam.clusters.count:
        raise CheckpointError(f"the router has {len(weight)} rows for {beam.clusters.count} clusters")
    if bias.dtype != torch.float32 or bias.shape != (len(weight),):
        raise CheckpointError("the router must have a float32 bias for each of its rows")


def _model_digest(folder: Path) -> str:
    """Of all that scores depend on; label names and counts do not count."""
    noted = noted_digests(folder)
    weights = (name for name in noted if name.endswith(".safetensors") and PurePosixPath(name).name not in _NO_WEIGHTS)
    digest = hashlib.sha256()
    for name in sorted([MODEL, *weights], key=PurePosixPath):
        digest.update(f"{name} {noted[name]}\n".encode())
    return digest.hexdigest()
