"""The model folder: safetensors for weights, JSON for everything else. Described in docs/formats.md.

A model folder is data: nothing in it is executed, and whatever does not fit is refused before it is used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from safetensors import SafetensorError

from fanin.classifier.kinds import CLASSIFIERS, are_settings, kind_of
from fanin.encoders.files import (
    ENCODERS,
    WEIGHTS_FILE,
    load_encoder,
    load_intermediate,
    save_encoder,
    save_intermediate,
)
from fanin.encoders.intermediate import IntermediateLayer, base_encoder
from fanin.errors import CheckpointError, DataError, FaninError
from fanin.folders import read_in_place, replacing_folder
from fanin.kernels.spec import Loss
from fanin.labels.vocabulary import LabelVocabulary
from fanin.model import TextModel
from fanin.model_description import DESCRIPTION, read_description, write_description
from fanin.tensor_files import first_complaint, load_into, read_tensors, write_tensors

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

    from fanin.classifier.interface import Classifier
    from fanin.encoders.interface import Encoder, TextTokenizer
    from fanin.processes.spread import SpreadTensors

_CLASSIFIER, _COUNTS, _LABELS = "classifier.safetensors", "train_counts.safetensors", "labels.jsonl"


def save_model(model: TextModel, folder: Path, weights: SpreadTensors | None = None) -> str:
    """Write a model folder whole, in the place of what stood there.

    Args:
        model: what is written.
        folder: where.
        weights: the classifier's, where several processes hold parts of them and the model's own has no memory.

    Returns:
        A digest of all that was written, see :func:`fanin.model_description.model_digest`.

    Raises:
        CheckpointError: something stands there that is neither a model folder nor empty, the disk is full, or the
            folder cannot be written; what stood there is kept.
    """
    try:
        with replacing_folder(folder, DESCRIPTION) as new:
            encoder = _save_encoder(model, new)
            write_tensors(weights or model.classifier.state_dict(), new / _CLASSIFIER)
            write_tensors({"train_counts": torch.from_numpy(model.train_counts)}, new / _COUNTS)
            model.labels.save(new / _LABELS)
            body = {
                "loss": model.loss.value,
                "train_points": model.train_points,
                "encoder": encoder,
                "classifier": {"kind": kind_of(model.classifier), "settings": model.classifier.settings()},
            }
            digest = write_description(new, body)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{folder}: the model could not be saved ({error}); what stood there is kept") from error
    return digest


class Networks(NamedTuple):
    """What a model computes with.

    Attributes:
        tokenizer: of the encoder, where it has one.
        encoder: texts or features to x.
        classifier: scores of the labels by x.
        loss: that it was trained by.
        train_points: N.
    """

    tokenizer: TextTokenizer | None
    encoder: Encoder
    classifier: Classifier
    loss: Loss
    train_points: int


def load_networks(folder: Path) -> Networks:
    """Read a model folder without what it knows of single labels; see :func:`load_model`."""
    return read_in_place(folder, _networks)


def load_model(folder: Path) -> TextModel:
    """Read a model folder written by :func:`save_model`, once every byte of it was checked.

    Where another process puts a newer model in its place meanwhile, that one is read.

    Raises:
        CheckpointError: a file is missing, truncated, damaged, of another version or does not fit the others.
        ConfigError: the model needs a package that is not installed.
    """
    return read_in_place(folder, _model)


def _networks(folder: Path) -> Networks:
    description = _description(folder)
    classifier, loss, train_points = _laid_out(folder, description)
    encoder, tokenizer = _encoder(folder, description)
    load_into(classifier, folder / _CLASSIFIER)
    return Networks(tokenizer, encoder, classifier, loss, train_points)


def _model(folder: Path) -> TextModel:
    tokenizer, encoder, classifier, loss, train_points = _networks(folder)
    counts = read_tensors(folder / _COUNTS).get("train_counts")
    try:
        labels = LabelVocabulary.load(folder / _LABELS)
    except DataError as error:
        raise CheckpointError(str(error)) from error
    L = classifier.out_features
    if counts is None or counts.shape != (L,) or counts.dtype != torch.int64 or len(labels) != L:
        raise CheckpointError(
            f"{folder}: {len(labels)} label names or their counts do not fit a classifier of {L} labels"
        )
    _check_counts(counts, train_points, folder / _COUNTS)
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
    description = read_description(folder)
    if not {WEIGHTS_FILE, _CLASSIFIER, _COUNTS, _LABELS} <= description["files"].keys():
        raise CheckpointError(f"{folder / DESCRIPTION}: does not list the model's files; restore the model folder")
    return description


def _save_encoder(model: TextModel, folder: Path) -> dict[str, Any]:
    """Write encoder and tokenizer; gives their description."""
    base = base_encoder(model.encoder)
    kind = save_encoder(base, model.tokenizer, folder)
    description = {"kind": kind, "settings": dict(base.settings)}
    if isinstance(model.encoder, IntermediateLayer):
        description["intermediate"] = save_intermediate(model.encoder, folder)
    return description


def _encoder(folder: Path, description: dict[str, Any]) -> tuple[Encoder, TextTokenizer | None]:
    """Encoder and tokenizer as described, their weights loaded."""
    try:
        part = description["encoder"]
        encoder, tokenizer = load_encoder(part["kind"], part["settings"], folder)
        if "intermediate" in part:
            encoder = load_intermediate(encoder, part["intermediate"], folder)
    except (KeyError, TypeError, ValueError, AttributeError, RuntimeError, OverflowError) as error:
        if isinstance(error, FaninError):
            raise
        told = first_complaint(error)
        raise CheckpointError(f"{folder / DESCRIPTION}: not the description of an encoder ({told})") from error
    return encoder, tokenizer


def _laid_out(folder: Path, description: dict[str, Any]) -> tuple[Classifier, Loss, int]:
    """The classifier as described, without memory for its weights; the loss and N."""
    try:
        encoder_part, classifier_part = description["encoder"], description["classifier"]
        if encoder_part["kind"] not in ENCODERS or classifier_part["kind"] not in CLASSIFIERS:
            raise CheckpointError(f"{folder / DESCRIPTION}: encoder or classifier of a kind this version does not know")
        kind, settings = classifier_part["kind"], classifier_part["settings"]
        if not are_settings(kind, settings.keys()):
            raise CheckpointError(f"{folder / DESCRIPTION}: the classifier's settings are not those of kind {kind!r}")
        # On the meta device nothing is allocated, whatever sizes the description promises.
        with torch.device("meta"):
            classifier = CLASSIFIERS[kind](**settings)
        loss, train_points = Loss(description["loss"]), description["train_points"]
        if type(train_points) is not int or train_points < 1:
            raise CheckpointError(
                f"{folder / DESCRIPTION}: train_points is {train_points!r}, not a whole number of 1 or more; restore "
                "the model folder"
            )
    except (KeyError, TypeError, ValueError, AttributeError, RuntimeError, OverflowError) as error:
        if isinstance(error, CheckpointError):
            raise
        told = first_complaint(error)
        raise CheckpointError(f"{folder / DESCRIPTION}: not the description of a model ({told})") from error
    return classifier, loss, train_points


def _check_counts(counts: Tensor, train_points: int, path: Path) -> None:
    if len(counts) and not 0 <= int(counts.min()) <= int(counts.max()) <= train_points:
        raise CheckpointError(
            f"{path}: counts of labels must be from 0 to train_points, {train_points}; these are from "
            f"{int(counts.min())} to {int(counts.max())}; restore the model folder"
        )
