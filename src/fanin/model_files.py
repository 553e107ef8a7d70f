"""The model folder: safetensors for weights, JSON for everything else. Described in docs/formats.md.

A model folder is data: nothing in it is executed, and whatever does not fit is refused before it is used.
"""

from __future__ import annotations

import json
import textwrap
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file

from fanin.classifier.dense import DenseLinear
from fanin.classifier.sparse import SparseLinear
from fanin.encoders.bag import BagEncoder, block_count
from fanin.encoders.tokenization import Tokenizer
from fanin.errors import CheckpointError, ConfigError, DataError
from fanin.folders import replacing_folder
from fanin.kernels.spec import Loss
from fanin.labels.vocabulary import LabelVocabulary
from fanin.model import TextModel

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from torch import Tensor, nn

FORMAT = 1
DESCRIPTION = "model.json"
_ENCODER, _CLASSIFIER, _COUNTS = "encoder.safetensors", "classifier.safetensors", "train_counts.safetensors"
_LABELS, _TOKENIZER = "labels.jsonl", "tokenizer"
_CLASSIFIERS: dict[str, type[SparseLinear | DenseLinear]] = {"sparse": SparseLinear, "dense": DenseLinear}
# What a description may say of each kind; other arguments of the constructors are not a file's to choose.
_CLASSIFIER_SETTINGS = {
    "sparse": {
        "in_features",
        "out_features",
        "fan_in",
        "group_size",
        "bias",
        "cluster_size",
        "cluster_inputs",
        "ordered",
    },
    "dense": {"in_features", "out_features", "bias"},
}


def save_model(model: TextModel, folder: Path) -> None:
    """Write a model folder whole, in the place of what stood there.

    Raises:
        CheckpointError: something stands there that is neither a model folder nor empty, the disk is full, or the
            folder cannot be written; what stood there is kept.
    """
    kind = next(name for name, cls in _CLASSIFIERS.items() if type(model.classifier) is cls)
    try:
        with replacing_folder(folder, DESCRIPTION) as new:
            save_file(_contiguous(model.encoder.state_dict()), new / _ENCODER)
            save_file(_contiguous(model.classifier.state_dict()), new / _CLASSIFIER)
            save_file({"train_counts": torch.from_numpy(model.train_counts)}, new / _COUNTS)
            model.labels.save(new / _LABELS)
            model.tokenizer.save(new / _TOKENIZER)
            files = {p.relative_to(new).as_posix(): p.stat().st_size for p in sorted(new.rglob("*")) if p.is_file()}
            description = {
                "format": FORMAT,
                "loss": model.loss.value,
                "train_points": model.train_points,
                "encoder": {"kind": "bag", "settings": dict(model.encoder.settings)},
                "classifier": {"kind": kind, "settings": model.classifier.settings()},
                "bytes": files,
            }
            (new / DESCRIPTION).write_text(json.dumps(description, indent=2) + "\n", encoding="utf-8")
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{folder}: the model could not be saved ({error}); what stood there is kept") from error


def load_model(folder: Path) -> TextModel:
    """Read a model folder written by :func:`save_model`.

    Raises:
        CheckpointError: a file is missing, truncated, damaged, of another version or does not fit the others.
    """
    description = _description(folder)
    encoder, classifier, loss, train_points = _laid_out(folder, description)
    _load_into(encoder, folder / _ENCODER)
    _load_into(classifier, folder / _CLASSIFIER)
    counts = _tensors(folder / _COUNTS).get("train_counts")
    try:
        labels = LabelVocabulary.load(folder / _LABELS)
    except DataError as error:
        raise CheckpointError(str(error)) from error
    tokenizer = Tokenizer.load(folder / _TOKENIZER)
    L = classifier.out_features
    if counts is None or counts.shape != (L,) or counts.dtype != torch.int64 or len(labels) != L:
        raise CheckpointError(
            f"{folder}: {len(labels)} label names or their counts do not fit a classifier of {L} labels"
        )
    _check_counts(counts, train_points, folder / _COUNTS)
    if tokenizer.vocabulary_size != encoder.settings["vocabulary_size"]:
        raise CheckpointError(
            f"{folder}: the tokenizer has {tokenizer.vocabulary_size} tokens, the encoder another number"
        )
    if encoder.out_features != classifier.in_features:
        raise CheckpointError(
            f"{folder}: the encoder gives {encoder.out_features} features, the classifier reads another number"
        )
    encoder.eval()
    return TextModel(tokenizer, encoder, classifier, labels, counts.numpy(), train_points, loss)


def folder_bytes(folder: Path) -> int:
    """Bytes of all files of a model folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _description(folder: Path) -> dict[str, Any]:
    path = folder / DESCRIPTION
    try:
        description = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror}); give the folder of a model") from error
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: damaged, not JSON ({error}); restore the model folder") from error
    if not isinstance(description, dict) or "format" not in description:
        raise CheckpointError(f"{path}: not the description of a fanin model")
    if description["format"] != FORMAT:
        raise CheckpointError(
            f"{path}: format {description['format']!r}; this version of fanin reads format {FORMAT}; use the version "
            "that wrote it, or train again"
        )
    sizes = description.get("bytes")
    if not isinstance(sizes, dict) or not {_ENCODER, _CLASSIFIER, _COUNTS, _LABELS} <= sizes.keys():
        raise CheckpointError(f"{path}: does not list the model's files; restore the model folder")
    found = {path.relative_to(folder).as_posix(): path.stat().st_size for path in folder.rglob("*") if path.is_file()}
    for name, size in sizes.items():
        if found.get(name) != size:
            what = f"has {found[name]} bytes instead of {size}" if name in found else "is missing"
            raise CheckpointError(f"{folder}: {name!r}, listed in {DESCRIPTION}, {what}; copy the model folder again")
    return description


def _laid_out(folder: Path, description: dict[str, Any]) -> tuple[BagEncoder, SparseLinear | DenseLinear, Loss, int]:
    """Encoder and classifier as described, without memory for their weights; the loss and N."""
    try:
        encoder_part, classifier_part = description["encoder"], description["classifier"]
        if encoder_part["kind"] != "bag" or classifier_part["kind"] not in _CLASSIFIERS:
            raise CheckpointError(f"{folder / DESCRIPTION}: encoder or classifier of a kind this version does not know")
        kind, settings = classifier_part["kind"], classifier_part["settings"]
        if settings.keys() != _CLASSIFIER_SETTINGS[kind]:
            raise CheckpointError(f"{folder / DESCRIPTION}: the classifier's settings are not those of kind {kind!r}")
        # Every block is a module, so their number must not be the description's alone to choose.
        blocks = block_count(_tensor_names(folder / _ENCODER))
        if encoder_part["settings"]["blocks"] != blocks:
            raise CheckpointError(
                f"{folder / DESCRIPTION}: encoder.blocks is {encoder_part['settings']['blocks']!r}, but {_ENCODER} "
                f"holds {blocks}; restore the model folder"
            )
        # On the meta device nothing is allocated, whatever sizes the description promises.
        with torch.device("meta"):
            encoder = BagEncoder(**encoder_part["settings"])
            classifier = _CLASSIFIERS[kind](**settings)
        loss, train_points = Loss(description["loss"]), description["train_points"]
        if type(train_points) is not int or train_points < 1:
            raise CheckpointError(
                f"{folder / DESCRIPTION}: train_points is {train_points!r}, not a whole number of 1 or more; restore "
                "the model folder"
            )
    except (KeyError, TypeError, ValueError, AttributeError, RuntimeError, OverflowError) as error:
        if isinstance(error, CheckpointError):
            raise
        told = _first_complaint(error)
        raise CheckpointError(f"{folder / DESCRIPTION}: not the description of a model ({told})") from error
    return encoder, classifier, loss, train_points


def _check_counts(counts: Tensor, train_points: int, path: Path) -> None:
    if len(counts) and not 0 <= int(counts.min()) <= int(counts.max()) <= train_points:
        raise CheckpointError(
            f"{path}: counts of labels must be from 0 to train_points, {train_points}; these are from "
            f"{int(counts.min())} to {int(counts.max())}; restore the model folder"
        )


def _tensors(path: Path) -> dict[str, Tensor]:
    try:
        return dict(load_file(path))
    except (OSError, SafetensorError, ValueError) as error:
        raise CheckpointError(f"{path}: damaged ({error}); restore the model folder") from error


def _tensor_names(path: Path) -> list[str]:
    try:
        with safe_open(path, framework="pt") as file:
            return list(file.keys())
    except (OSError, SafetensorError, ValueError) as error:
        raise CheckpointError(f"{path}: damaged ({error}); restore the model folder") from error


def _load_into(module: nn.Module, path: Path) -> None:
    tensors = _tensors(path)
    expected = {name: tensor.dtype for name, tensor in module.state_dict().items()}
    for name, tensor in tensors.items():
        if tensor.dtype != expected.get(name, tensor.dtype):
            raise CheckpointError(f"{path}: tensor {name!r} is {tensor.dtype}, expected {expected[name]}")
    try:
        module.load_state_dict(tensors, assign=True)
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from error
    except (RuntimeError, ConfigError) as error:
        raise CheckpointError(f"{path}: does not fit the model's description ({_first_complaint(error)})") from error


def _contiguous(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().contiguous() for name, tensor in weights.items()}


def _first_complaint(error: Exception) -> str:
    # Torch writes a heading that ends with a colon, a line a complaint, and sometimes a stack of its own.
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    told = next((line for line in lines if not line.endswith(":")), type(error).__name__)
    return textwrap.shorten(told, 300, placeholder=" ...")
