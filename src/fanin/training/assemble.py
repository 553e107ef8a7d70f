"""The one place that turns a recipe into objects."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from fanin.data.feature_store import FeatureStore
from fanin.encoders.bag import BagEncoder
from fanin.encoders.features import FeatureEncoder, SparseFeatureEncoder
from fanin.encoders.intermediate import IntermediateLayer
from fanin.encoders.storage import in_bfloat16
from fanin.encoders.transformer_encoder import TransformerEncoder
from fanin.errors import ConfigError
from fanin.kernels.drawing import mix_seed
from fanin.processes.group import ALONE
from fanin.recipes.recipe import BagSection, FeaturesSection, TransformerSection
from fanin.training.encoder_update import EncoderUpdate
from fanin.training.enough_memory import enough_memory

if TYPE_CHECKING:
    from fanin.encoders.interface import Encoder
    from fanin.encoders.transformer import Pretrained
    from fanin.processes.group import Processes
    from fanin.recipes.optimizer_recipe import ScheduleSection
    from fanin.recipes.recipe import AnyEncoderSection
    from fanin.recipes.remedies_recipe import IntermediateSection
    from fanin.training.preparation import PreparedData


def build_encoder(
    section: AnyEncoderSection, data: PreparedData, seed: int, intermediate: IntermediateSection | None = None
) -> Encoder:
    """The recipe's encoder for a data set.

    Args:
        section: its settings.
        data: what it will read.
        seed: of the weights that are drawn.
        intermediate: settings of the layer behind it, if there is one.

    Raises:
        MemoryPlanError: there is too little memory for it.
        ConfigError: a transformer cannot be loaded, or a setting does not fit it or the data.
    """
    encoder = _build_encoder(section, data, seed)
    if intermediate is not None:
        with enough_memory(f"an intermediate layer of {intermediate.width:,} features", "intermediate.width"):
            dropout = intermediate.dropout
            encoder = IntermediateLayer(encoder, intermediate.width, dropout=dropout, seed=mix_seed(seed, 1))
    return encoder if section.master is None else in_bfloat16(encoder)


def _build_encoder(section: AnyEncoderSection, data: PreparedData, seed: int) -> Encoder:
    match section:
        case BagSection():
            assert data.tokenizer is not None
            encoder = build_bag(section, data.tokenizer.vocabulary_size, seed)
            if section.rarity_weights:
                encoder.weigh_by_rarity(torch.from_numpy(data.token_counts()), len(data.store.split("train")))
            return encoder
        case TransformerSection():
            from fanin.encoders.transformer import load_pretrained

            return build_transformer(section, load_pretrained(section.model, section.max_length), seed)
        case FeaturesSection():
            assert isinstance(data.store, FeatureStore)
            return build_features(section, data.store.columns, seed, sparse=data.store.sparse)


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


def build_features(section: FeaturesSection, columns: int, seed: int, *, sparse: bool) -> Encoder:
    """The recipe's encoder of so many features, dense or sparse ones.

    Raises:
        MemoryPlanError: there is too little memory for it.
        ConfigError: sparse features have no projection.
    """
    with enough_memory(f"an encoder of {columns:,} features", "encoder.out_features"):
        if not sparse:
            return FeatureEncoder(
                columns,
                section.out_features,
                layer_norm=section.layer_norm,
                dropout=section.dropout,
                seed=seed,
            )
        if section.out_features is None:
            raise ConfigError(f"encoder.out_features is null; {columns:,} sparse features need a projection: set it")
        return SparseFeatureEncoder(columns, section.out_features, dropout=section.dropout, seed=seed)


def build_bag(section: BagSection, vocabulary_size: int, seed: int) -> BagEncoder:
    """The recipe's encoder of tokens.

    Raises:
        MemoryPlanError: there is too little memory for it.
    """
    settings = "encoder.embedding_dim, encoder.out_features, encoder.block_width or the tokenizer's sizes"
    with enough_memory(f"an encoder of {vocabulary_size:,} tokens", settings):
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


def build_encoder_update(
    section: AnyEncoderSection,
    encoder: Encoder,
    total_steps: int,
    intermediate: IntermediateSection | None = None,
    processes: Processes = ALONE,
) -> EncoderUpdate:
    """How the recipe trains its encoder, and the intermediate layer behind it."""
    schedules = _schedules(section)
    if intermediate is not None:
        schedules["intermediate"] = intermediate.schedule
    return EncoderUpdate(
        encoder,
        schedules,
        weight_decay=section.weight_decay,
        clip_norm=section.clip_norm,
        total_steps=total_steps,
        master=section.master,
        processes=processes,
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
