"""A start in which every label reads the tokens that mark its texts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from fanin.classifier.topology import draw_index
from fanin.data.store import TokenizedSplit
from fanin.kernels.drawing import mix_seed
from fanin.labels.strongest_tokens import marking_tokens
from fanin.labels.weighted_texts import JoinedTexts, WeightedTexts

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    from fanin.classifier.sparse import SparsePart
    from fanin.data.extended_split import ExtendedSplit
    from fanin.data.feature_rows import FeatureSplit
    from fanin.encoders.bag import BagEncoder
    from fanin.training.progress import ProgressDisplay


@torch.no_grad()
def start_from_tokens(
    parts: Sequence[SparsePart],
    encoder: BagEncoder,
    split: TokenizedSplit | ExtendedSplit,
    rows: NDArray[np.int64],
    gain: float,
    seed: int,
    display: ProgressDisplay,
) -> None:
    """Set index sets and weights by :func:`fanin.labels.strongest_tokens.marking_tokens`, on the lexical features.

    What a label's texts leave free of its index set reads random learned features, with weights of zero.

    Args:
        parts: the layers to change in place; their biases stay.
        encoder: with lexical features; not changed.
        split: texts of the labels: those trained on, names, or both.
        rows: (n,) the rows that count, ascending.
        gain: score of a text that holds just the marking tokens of a label, above the label's bias.
        seed: of the random features.
        display: told of the progress.
    """
    assert encoder.lexical_features, "the recipe is checked for it"
    display.start("marking tokens", sum(len(part.own_labels) for part in parts))
    token_weights = encoder.token_weights[: encoder.lexical_features].numpy()
    texts = weighted_texts(split, token_weights)
    indptr, positives = split.labels_indptr, split.labels
    for number, part in enumerate(parts):
        layer, labels = part.layer, part.own_labels
        F, G = layer.fan_in, layer.group_size
        learned = layer.in_features - encoder.lexical_features  # an intermediate layer may stand between the two
        own_seed = mix_seed(seed, number) if number else seed
        layer.index.copy_(draw_index(len(layer.index), F, learned, own_seed, layer.backend, None, layer.first_set))
        for start, found in marking_tokens(texts, indptr, positives, rows, labels.numpy(), F, G):
            sets = slice(start // G, start // G + len(found.tokens))
            chosen = torch.from_numpy(found.tokens).to(layer.index.device)  # (s, F)
            inputs = torch.where(chosen >= 0, chosen + learned, layer.index[sets].long())
            layer.index[sets] = inputs.to(layer.index.dtype)
            weights = torch.from_numpy(found.weights) * (gain / encoder.lexical_scale)
            layer.weight[start : start + len(weights)] = weights
            display.advance(len(weights))


def weighted_texts(
    split: TokenizedSplit | ExtendedSplit, token_weights: NDArray[np.float32]
) -> WeightedTexts | JoinedTexts:
    """The texts of a split, or of two joined ones, as weighted bags of their lexical features.

    Args:
        split: of tokens.
        token_weights: (V,) weight of each lexical feature.
    """
    if isinstance(split, TokenizedSplit):
        return _tokenized(split, token_weights)
    first, second = (_tokenized(part, token_weights) for part in (split.first, split.second))
    return JoinedTexts(first, len(split.first), second)


def _tokenized(split: TokenizedSplit | FeatureSplit, token_weights: NDArray[np.float32]) -> WeightedTexts:
    assert isinstance(split, TokenizedSplit), "lexical features come with tokens"
    return WeightedTexts(split.tokens, split.tokens_indptr, token_weights)
