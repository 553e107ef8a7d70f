"""The classifier's first connections, where the recipe takes them from the labels' texts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from fanin.classifier.dense import DenseLinear
from fanin.classifier.sharded import ShardedClassifier
from fanin.data.extended_split import ExtendedSplit, joined
from fanin.data.store import TokenizedSplit
from fanin.encoders.bag import BagEncoder
from fanin.encoders.intermediate import base_encoder
from fanin.encoders.transformer_encoder import TransformerEncoder
from fanin.kernels.drawing import mix_seed
from fanin.recipes.classifier_recipe import DenseStartSection, FixedFanInSection
from fanin.training.token_start import start_from_tokens
from fanin.training.vector_cache import vector_split
from fanin.training.warm_start import start_from_centroids

if TYPE_CHECKING:
    from pathlib import Path

    from fanin.classifier.interface import Classifier
    from fanin.classifier.sparse import SparseLinear
    from fanin.data.batches import Split
    from fanin.recipes.recipe import Recipe
    from fanin.training.parts import TrainingParts
    from fanin.training.preparation import PreparedData
    from fanin.training.progress import ProgressDisplay


def start_classifier(
    recipe: Recipe, data: PreparedData, parts: TrainingParts, display: ProgressDisplay, device: torch.device
) -> bool:
    """Set the first connections if the recipe says so; gives whether it does.

    For centroids, a transformer that will be trained encodes the texts once, into the cache.

    Args:
        recipe: its classifier section is used.
        data: the rows trained on.
        parts: on the CPU; the classifier is changed in place.
        display: told of the progress.
        device: where a transformer encodes the texts; all else is computed on the CPU.

    Raises:
        ConfigError: the cache cannot be written, or a text's vector is not finite.
    """
    section, classifier = recipe.classifier, parts.classifier
    if not isinstance(section, FixedFanInSection | DenseStartSection) or section.start == "random":
        return False
    sources, gain = data.label_sources(), section.start_gain
    encoder = base_encoder(parts.encoder)
    if section.start == "centroids":
        if isinstance(encoder, TransformerEncoder):  # passes over the texts are dear
            encoder.to(device)
            sources = [(_vectors(split, encoder, data.cache, display), rows) for split, rows in sources]
            encoder.to(torch.device("cpu"))
        start_from_centroids(_layers(classifier), parts.encoder, *joined(sources), gain, display)
    else:
        assert isinstance(encoder, BagEncoder)
        split, rows = joined(sources)
        assert isinstance(split, TokenizedSplit | ExtendedSplit)
        seed = mix_seed(recipe.training.seed, 5)
        start_from_tokens(classifier.sparse_parts(), encoder, split, rows, gain, seed, display)
    return True


def _vectors(split: Split, encoder: TransformerEncoder, cache: Path | None, display: ProgressDisplay) -> Split:
    return vector_split(split, encoder, cache, display) if isinstance(split, TokenizedSplit) else split


def _layers(classifier: Classifier) -> list[tuple[SparseLinear | DenseLinear, torch.Tensor]]:
    """The layers that start from centroids, or what one process has of them, with the ids of their labels."""
    sparse = classifier.sparse_parts()
    if sparse:
        return [(part.layer, part.own_labels) for part in sparse]
    layer = classifier.bands[0] if isinstance(classifier, ShardedClassifier) else classifier
    assert isinstance(layer, DenseLinear)
    return [(layer, layer.shard.first + torch.arange(layer.out_features))]
