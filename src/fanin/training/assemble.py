"""The one place that turns a recipe into objects."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np
import torch

from fanin.classifier.dense import DenseLinear
from fanin.classifier.sparse import SparseLinear
from fanin.data.feature_store import FeatureStore
from fanin.encoders.bag import BagEncoder
from fanin.encoders.features import FeatureEncoder, SparseFeatureEncoder
from fanin.encoders.transformer_encoder import TransformerEncoder
from fanin.errors import ConfigError, MemoryPlanError
from fanin.kernels.spec import Loss
from fanin.training.encoder_update import EncoderUpdate
from fanin.training.recipe import BagSection, FeaturesSection, SparseSection, TransformerSection

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from fanin.classifier.interface import Classifier
    from fanin.encoders.interface import Encoder
    from fanin.encoders.transformer import Pretrained
    from fanin.training.preparation import PreparedData
    from fanin.training.recipe import AnyClassifierSection, AnyEncoderSection, ScheduleSection

_PRIOR_COUNT = 0.1  # added to every label's count, so that labels without training points have a finite bias
# torch has no type of its own for these; sizes whose product overflows would not fit into any memory.
_TORCH_MEMORY_ERRORS = ("can't allocate memory", "DefaultCPUAllocator", "not enough memory", "overflow")


def build_encoder(section: AnyEncoderSection, data: PreparedData, seed: int) -> Encoder:
    """The recipe's encoder for a data set.

    Args:
        section: its settings.
        data: what it will read.
        seed: of the weights that are drawn.

    Raises:
        MemoryPlanError: there is too little memory for it.
        ConfigError: a transformer cannot be loaded, or a setting does not fit it or the data.
    """
    match section:
        case BagSection():
            assert data.tokenizer is not None
            encoder = _build_bag(section, data.tokenizer.vocabulary_size, seed)
            if section.rarity_weights:
                encoder.weigh_by_rarity(torch.from_numpy(data.token_counts()), len(data.store.split("train")))
            return encoder
        case TransformerSection():
            from fanin.encoders.transformer import load_pretrained

            return build_transformer(section, load_pretrained(section.model, section.max_length), seed)
        case FeaturesSection():
            assert isinstance(data.store, FeatureStore)
            return _build_features(section, data.store, seed)


def build_transformer(section: TransformerSection, pretrained: Pretrained, seed: int) -> TransformerEncoder:
    """The recipe's encoder around a pretrained transformer.

    Raises:
        ConfigError: a setting does not fit it.
    """
    return TransformerEncoder(
        pretrained.transformer,
        padding=pretrained.tokenizer.padding,
        pooling=section.pooling,
        last_layers=section.last_layers,
        out_features=section.out_features,
        layer_norm=section.layer_norm,
        dropout=section.dropout,
        frozen=section.frozen,
        freeze_embeddings=section.freeze_embeddings,
        freeze_layers=section.freeze_layers,
        gradient_checkpointing=section.gradient_checkpointing,
        autocast=section.autocast,
        seed=seed,
    )


def _build_features(section: FeaturesSection, store: FeatureStore, seed: int) -> Encoder:
    with _enough_memory(f"an encoder of {store.columns:,} features", "encoder.out_features"):
        if not store.sparse:
            return FeatureEncoder(
                store.columns,
                section.out_features,
                layer_norm=section.layer_norm,
                dropout=section.dropout,
                seed=seed,
            )
        if section.out_features is None:
            raise ConfigError(
                f"encoder.out_features is null; {store.columns:,} sparse features need a projection: set it"
            )
        return SparseFeatureEncoder(store.columns, section.out_features, dropout=section.dropout, seed=seed)


def _build_bag(section: BagSection, vocabulary_size: int, seed: int) -> BagEncoder:
    settings = "encoder.embedding_dim, encoder.out_features, encoder.block_width or the tokenizer's sizes"
    with _enough_memory(f"an encoder of {vocabulary_size:,} tokens", settings):
        return BagEncoder(
            vocabulary_size,
            section.out_features,
            embedding_dim=section.embedding_dim,
            blocks=section.blocks,
            block_width=section.block_width,
            dropout=section.dropout,
            token_dropout=section.token_dropout,
            lexical_features=section.lexical_features,
            lexical_scale=section.lexical_scale,
            seed=seed,
        )


def build_encoder_update(section: AnyEncoderSection, encoder: Encoder, total_steps: int) -> EncoderUpdate:
    """How the recipe trains its encoder."""
    return EncoderUpdate(
        encoder,
        _schedules(section),
        weight_decay=section.weight_decay,
        clip_norm=section.clip_norm,
        total_steps=total_steps,
    )


def _schedules(section: AnyEncoderSection) -> dict[str, ScheduleSection]:
    """The schedule of each group of an encoder's parameters."""
    match section:
        case BagSection():
            return {"layers": section.optimizer, "table": section.table}
        case TransformerSection():
            return {"layers": section.optimizer, "projection": section.projection}
        case FeaturesSection():
            return {"layers": section.optimizer, "projection": section.optimizer, "table": section.table}


def build_classifier(
    section: AnyClassifierSection,
    encoder: Encoder,
    train_counts: NDArray[np.int64],
    train_points: int,
    seed: int,
    order: torch.Tensor | None = None,
) -> Classifier:
    """The recipe's output layer.

    Args:
        section: its settings.
        encoder: gives its inputs.
        train_counts: (L,) training points of each label.
        train_points: N.
        seed: of weights and index sets.
        order: (L,) the internal order of a sparse layer's labels, None for that of their numbers.

    Raises:
        MemoryPlanError: there is too little memory for it.
    """
    in_features, L = encoder.out_features, len(train_counts)
    prior = torch.from_numpy(_prior(section.loss, train_counts, train_points))
    classifier: Classifier
    if isinstance(section, SparseSection):
        with _enough_memory(f"a classifier of {L:,} labels", "classifier.fan_in"):
            classifier = SparseLinear(
                in_features,
                L,
                section.fan_in,
                section.group_size,
                cluster_size=section.cluster_size,
                cluster_inputs=learned_features(encoder) if section.cluster_size else None,
                ordered=order is not None,
                seed=seed,
                initial_scale=section.initial_scale,
            )
        if classifier.order is not None and order is not None:
            classifier.order.assign(order)
        if section.prior_bias:
            classifier.set_bias(prior)
    else:
        with _enough_memory(f"a classifier of {L:,} labels", "encoder.out_features, or set classifier.kind to sparse"):
            classifier = DenseLinear(in_features, L, seed=seed, initial_scale=section.initial_scale)
        if section.prior_bias:
            assert classifier.bias is not None
            with torch.no_grad():
                classifier.bias.copy_(prior)
    return classifier


def learned_features(encoder: Encoder) -> int:
    """How many features of x are learned; lexical ones follow them."""
    return encoder.learned_features if isinstance(encoder, BagEncoder) else encoder.out_features


@contextmanager
def _enough_memory(part: str, settings: str) -> Iterator[None]:
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not isinstance(error, MemoryError) and not any(sign in str(error) for sign in _TORCH_MEMORY_ERRORS):
            raise
        raise MemoryPlanError(f"there is too little memory for {part}; lower {settings}") from error


def _prior(loss: Loss, train_counts: NDArray[np.int64], train_points: int) -> NDArray[np.float64]:
    """The best constant score of every label, (L,)."""
    if loss is Loss.SQUARED_HINGE:
        return np.full(len(train_counts), -1.0)
    share = (train_counts + _PRIOR_COUNT) / (train_points + 2 * _PRIOR_COUNT)
    return np.asarray(np.log(share / (1 - share)))
