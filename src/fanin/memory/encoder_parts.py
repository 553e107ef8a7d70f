"""What an encoder takes in memory: weights, the state of their updates, and what a batch leaves behind in it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import torch

from fanin.encoders.bag import BagEncoder
from fanin.encoders.intermediate import IntermediateLayer, base_encoder
from fanin.encoders.storage import in_bfloat16
from fanin.encoders.transformer_encoder import TransformerEncoder
from fanin.memory.data_sizes import occupied
from fanin.memory.gpu_parts import ENCODED_AT_A_TIME
from fanin.memory.parts import Part, part
from fanin.recipes.recipe import BagSection, FeaturesSection, TransformerSection
from fanin.training.assemble import build_bag, build_features

if TYPE_CHECKING:
    from fanin.encoders.interface import Encoder
    from fanin.memory.data_sizes import DataSizes
    from fanin.recipes.optimizer_recipe import Master
    from fanin.recipes.recipe import Recipe

_FLOAT = 4
_STATE_OF_A_ROW = 8  # of an embedding table: second moment and touches
_OF_A_TOKEN = 80  # int64 arrays of tokens, bags and offsets, weights, and their copies without the dropped ones
_ENCODED_AT_A_TIME = 1024  # padded tokens of a frozen transformer on the CPU


def lay_out_encoder(recipe: Recipe, sizes: DataSizes) -> Encoder:
    """The recipe's encoder without memory for its weights.

    Raises:
        ConfigError: a transformer's configuration cannot be read.
    """
    section = recipe.encoder
    with torch.device("meta"):
        match section:
            case BagSection():
                encoder: Encoder = build_bag(section, sizes.vocabulary(recipe.tokenizer), 0)
            case FeaturesSection():
                encoder = build_features(section, sizes.columns, 0, sparse=not sizes.feature_bytes)
            case TransformerSection():
                from fanin.encoders.transformer import lay_out_pretrained
                from fanin.training.assemble import build_transformer

                encoder = build_transformer(section, lay_out_pretrained(section.model, section.max_length), 0)
        if recipe.intermediate is not None:
            encoder = IntermediateLayer(encoder, recipe.intermediate.width, dropout=recipe.intermediate.dropout)
        return encoder if section.master is None else in_bfloat16(encoder)


def weight_parts(encoder: Encoder) -> list[Part]:
    """The weights, a table apart from the rest."""
    table = _table(encoder)
    total = sum(tensor.nbytes for tensor in encoder.state_dict().values())
    return part("embedding table", table) + part("encoder's other weights", total - table)


def update_parts(encoder: Encoder, sizes: DataSizes, rows: int, master: Master | None = None) -> list[Part]:
    """The state of the updates, and gradients.

    Args:
        encoder: the encoder, its weights perhaps without memory.
        sizes: of the data.
        rows: B.
        master: what AdamW keeps of parameters in bfloat16; None where they are in float32.
    """
    trained = sum(parameter.nbytes for parameter in encoder.dense_parameters() if parameter.requires_grad)
    # Of each parameter: two moments; with a compensation; with a copy, and all in float32 beside bfloat16.
    states = {None: 2, "kahan": 3, "fp32": 6}[master]
    found = part("encoder's AdamW state", states * trained) + part("encoder's gradients", trained)
    base = base_encoder(encoder)
    if isinstance(base, BagEncoder):
        touched = min(_read_rows(sizes, rows), len(base.table))
        found += part("embedding table's state", _STATE_OF_A_ROW * len(base.table))
        found += part("embedding table's gradient", 3 * touched * base.table.shape[1] * _FLOAT)
    return found


def update_bytes(encoder: Encoder, master: Master | None) -> int:
    """What an update of the dense parameters makes for a while: AdamW's roots of all second moments at once."""
    if master is not None:
        return 0  # a piece of one parameter at a time
    groups = encoder.parameter_groups()
    # The intermediate layer's update is fused.
    at_once = [parameter for name, own in groups.items() if name != "intermediate" for parameter in own]
    return sum(parameter.nbytes for parameter in at_once if parameter.requires_grad)


def activation_bytes(
    encoder: Encoder, recipe: Recipe, sizes: DataSizes, rows: int, *, training: bool, gpu: bool = False
) -> int:
    """What a batch leaves in the encoder, or takes at most on its way through it where nothing is kept."""
    base, section = base_encoder(encoder), recipe.encoder
    found = 0.0
    if isinstance(base, TransformerEncoder):
        section = cast("TransformerSection", section)
        found = _transformer_bytes(base, section, sizes, rows, training=training, gpu=gpu)
    elif isinstance(base, BagEncoder):
        E, D = base.table.shape[1], base.learned_features
        kept = 4 * E + 6 * D
        if isinstance(section, BagSection):
            kept += section.blocks * (8 * D + 4 * section.block_width)
            if not training:
                kept = 2 * E + 4 * D + 2 * section.block_width
        found = rows * (kept * _FLOAT + sizes.read_per_text * _OF_A_TOKEN)
        found += 3 * rows * active_lexical(base, sizes, rows) * _FLOAT
    else:
        found = rows * (sizes.columns + 3 * base.out_features) * _FLOAT
    if isinstance(encoder, IntermediateLayer):
        found += (4 if training else 2) * rows * encoder.learned_features * _FLOAT
    return int(found)


def kept_vector_bytes(encoder: Encoder) -> int:
    """Bytes of a text's vector in the cache of a frozen transformer; 0 for other encoders."""
    base = base_encoder(encoder)
    return base.tail.in_features * _FLOAT if isinstance(base, TransformerEncoder) and base.frozen else 0


def active_lexical(encoder: Encoder, sizes: DataSizes, rows: int) -> float:
    """Lexical features that some text of a batch has."""
    base = base_encoder(encoder)
    lexical = base.out_features - base.learned_features
    return min(lexical, sizes.distinct_tokens(rows)) if lexical else 0.0


def _table(encoder: Encoder) -> int:
    base = base_encoder(encoder)
    return base.table.nbytes if isinstance(base, BagEncoder) else 0


def _read_rows(sizes: DataSizes, rows: int) -> float:
    """Rows of the table that a batch reads, of sparse features as if all were equally frequent."""
    if sizes.columns:
        return occupied(rows * sizes.values_per_text, sizes.columns)
    return sizes.distinct_tokens(rows)


def _transformer_bytes(
    base: TransformerEncoder, section: TransformerSection, sizes: DataSizes, rows: int, *, training: bool, gpu: bool
) -> float:
    """Of a layer some 18 arrays of (tokens, hidden size) are kept for its gradient; without one a few are there."""
    config: Any = base.transformer.config
    hidden, layers = int(config.hidden_size), int(config.num_hidden_layers)
    pooled = rows * base.tail.in_features * 4 * _FLOAT
    if training and section.frozen:  # it reads vectors that are there already
        return pooled
    if not training:
        return pooled + (ENCODED_AT_A_TIME if gpu else _ENCODED_AT_A_TIME) * hidden * 12 * _FLOAT
    padded = rows * min(1.3 * sizes.tokens_per_text, section.max_length)
    trained = max(layers - section.freeze_layers, 0)
    kept = trained if not section.gradient_checkpointing else 1 + trained / 18
    return pooled + padded * hidden * _FLOAT * (18 * kept + 12)
