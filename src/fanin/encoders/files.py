"""Encoders and their tokenizers in a model folder, by kind."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from fanin.encoders.bag import BagEncoder, block_count
from fanin.encoders.features import FeatureEncoder, SparseFeatureEncoder
from fanin.encoders.intermediate import IntermediateLayer
from fanin.encoders.storage import widened
from fanin.encoders.tokenization import Tokenizer
from fanin.encoders.transformer_encoder import TransformerEncoder
from fanin.errors import CheckpointError, ConfigError
from fanin.tensor_files import load_into, tensor_shapes, write_tensors

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from torch import nn

    from fanin.encoders.interface import Encoder, TextTokenizer

WEIGHTS_FILE, TOKENIZER_FOLDER = "encoder.safetensors", "tokenizer"
_INTERMEDIATE_FILE = "intermediate.safetensors"


class EncoderKind(NamedTuple):
    """How one kind of encoder is kept.

    Attributes:
        encoder: its class.
        save: writes its weights into a folder.
        load: reads them, given the encoder's settings.
        load_tokenizer: reads its tokenizer from a folder; None for an encoder that reads no texts.
    """

    encoder: type
    save: Callable[[Any, Path], None]
    load: Callable[[Path, Mapping[str, Any]], Encoder]
    load_tokenizer: Callable[[Path], TextTokenizer] | None


def save_encoder(encoder: Encoder, tokenizer: TextTokenizer | None, folder: Path) -> str:
    """Write an encoder and its tokenizer; gives the kind by which to load them.

    Raises:
        OSError: a file cannot be written; so does a SafetensorError.
    """
    name, kind = next((name, kind) for name, kind in ENCODERS.items() if type(encoder) is kind.encoder)
    kind.save(encoder, folder)
    if tokenizer is not None:
        tokenizer.save(folder / TOKENIZER_FOLDER)
    return name


def load_encoder(kind: str, settings: Mapping[str, Any], folder: Path) -> tuple[Encoder, TextTokenizer | None]:
    """Read what :func:`save_encoder` wrote.

    Args:
        kind: what it gave.
        settings: the encoder's.
        folder: the model folder.

    Raises:
        CheckpointError: a file is missing or damaged, or the files do not fit each other.
        ConfigError: a package is missing that this kind needs.
        KeyError: there is no such kind.
    """
    chosen = ENCODERS[kind]
    encoder = chosen.load(folder, settings)
    if chosen.load_tokenizer is None:
        return encoder, None
    tokenizer = chosen.load_tokenizer(folder / TOKENIZER_FOLDER)
    rows = encoder.vocabulary_size if isinstance(encoder, TransformerEncoder) else encoder.table.shape[0]
    # Transformers often have some rows that no token uses.
    fits = tokenizer.vocabulary_size <= rows if kind == "transformer" else tokenizer.vocabulary_size == rows
    if not fits:
        raise CheckpointError(f"{folder}: the tokenizer has {tokenizer.vocabulary_size} tokens, the encoder {rows}")
    return encoder, tokenizer


def save_intermediate(encoder: IntermediateLayer, folder: Path) -> dict[str, Any]:
    """Write an intermediate layer without its encoder; gives the settings by which to load it.

    Raises:
        OSError: the file cannot be written; so does a SafetensorError.
    """
    write_tensors(widened(encoder.layer.state_dict()), folder / _INTERMEDIATE_FILE)
    return dict(encoder.settings)


def load_intermediate(encoder: Encoder, settings: Mapping[str, Any], folder: Path) -> IntermediateLayer:
    """Read what :func:`save_intermediate` wrote, and put it behind its encoder.

    Raises:
        CheckpointError: the file is missing or damaged, or does not fit settings and encoder.
    """
    # On the meta device nothing is allocated, whatever sizes the description promises.
    try:
        with torch.device("meta"):
            widened = IntermediateLayer(encoder, **settings)
    except ConfigError as error:
        raise CheckpointError(f"{folder / 'model.json'}: {error}; restore the model folder") from error
    load_into(widened.layer, folder / _INTERMEDIATE_FILE)
    return widened


def _save_weights(encoder: nn.Module, folder: Path) -> None:
    write_tensors(widened(encoder.state_dict()), folder / WEIGHTS_FILE)


def _load_bag(folder: Path, settings: Mapping[str, Any]) -> Encoder:
    # Every block is a module, so their number must not be the description's alone to choose.
    blocks = block_count(tensor_shapes(folder / WEIGHTS_FILE))
    if settings["blocks"] != blocks:
        raise CheckpointError(
            f"{folder / 'model.json'}: encoder.blocks is {settings['blocks']!r}, but {WEIGHTS_FILE} holds {blocks}; "
            "restore the model folder"
        )
    encoder: Encoder = _load_weights(BagEncoder, folder, settings)
    return encoder


def _load_features(folder: Path, settings: Mapping[str, Any]) -> Encoder:
    encoder: Encoder = _load_weights(FeatureEncoder, folder, settings)
    return encoder


def _load_sparse_features(folder: Path, settings: Mapping[str, Any]) -> Encoder:
    encoder: Encoder = _load_weights(SparseFeatureEncoder, folder, settings)
    return encoder


def _load_weights(cls: Any, folder: Path, settings: Mapping[str, Any]) -> Any:
    # On the meta device nothing is allocated, whatever sizes the description promises.
    try:
        with torch.device("meta"):
            encoder = cls(**settings)
    except ConfigError as error:
        raise CheckpointError(f"{folder / 'model.json'}: {error}; restore the model folder") from error
    load_into(encoder, folder / WEIGHTS_FILE)
    return encoder


def _save_transformer(encoder: TransformerEncoder, folder: Path) -> None:
    from fanin.encoders.transformer import save_transformer

    save_transformer(encoder, folder)


def _load_transformer(folder: Path, settings: Mapping[str, Any]) -> Encoder:
    from fanin.encoders.transformer import load_transformer

    return load_transformer(folder, settings)


def _load_transformer_tokenizer(folder: Path) -> TextTokenizer:
    from fanin.encoders.transformer import load_tokenizer

    return load_tokenizer(folder)


ENCODERS = {
    "bag": EncoderKind(BagEncoder, _save_weights, _load_bag, Tokenizer.load),
    "transformer": EncoderKind(TransformerEncoder, _save_transformer, _load_transformer, _load_transformer_tokenizer),
    "features": EncoderKind(FeatureEncoder, _save_weights, _load_features, None),
    "sparse_features": EncoderKind(SparseFeatureEncoder, _save_weights, _load_sparse_features, None),
}
"""Every kind of encoder that a model folder may hold."""
