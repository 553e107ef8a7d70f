"""How large a data set is in all that memory depends on: counted on a sample of its texts, or assumed."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from itertools import chain, islice
from typing import TYPE_CHECKING, Any

import numpy as np

from fanin.encoders.hashing import pair_codes
from fanin.encoders.words import WordVocabulary, split_words
from fanin.errors import ConfigError, DataError
from fanin.labels.vocabulary import MAX_LABELS
from fanin.recipes.recipe import BagSection, FeaturesSection, TransformerSection

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fanin.data.dataset import Dataset
    from fanin.recipes.recipe import Recipe, TokenizerSection

SAMPLE = 4000
"""Texts that are looked at; a data set no larger is counted exactly."""

_ASSUMED_WORDS, _ASSUMED_LABELS = 12, 3
_ASSUMED_GROWTH = 0.6  # of the number of different words with the number of texts, as of titles
_WORD_BYTES = 7  # of a text, with its space
_BATCH = 512


@dataclass(frozen=True)
class DataSizes:
    """Numbers of a data set, most of them means or estimates.

    Attributes:
        labels: L.
        rows: training texts, held-out ones included.
        other_rows: texts of the other splits.
        labels_per_text: mean number of labels of a text.
        tokens_per_text: mean number of tokens of a text; of a transformer at most its ``max_length``.
        words_per_text: mean number of words, cut at the tokenizer's ``max_length``.
        text_bytes: mean bytes of a text.
        frequent_words: words that are frequent enough for a token of their own.
        frequent_pairs: pairs of adjacent words that are.
        distinct_words: different words of all texts.
        distinct_pairs: different pairs of adjacent words of all texts.
        batch_tokens: different tokens among 512 texts.
        columns: features in place of tokens, 0 without.
        feature_bytes: bytes of a value of dense features, 0 where they are sparse.
        values_per_text: sparse features of a text.
    """

    labels: int
    rows: int
    other_rows: int = 0
    labels_per_text: float = _ASSUMED_LABELS
    tokens_per_text: float = 0.0
    words_per_text: float = 0.0
    text_bytes: float = 0.0
    frequent_words: float = 0.0
    frequent_pairs: float = 0.0
    distinct_words: float = 0.0
    distinct_pairs: float = 0.0
    batch_tokens: float = 0.0
    columns: int = 0
    feature_bytes: int = 0
    values_per_text: float = 0.0

    @property
    def read_per_text(self) -> float:
        """What an embedding table reads of a text: sparse features, or tokens."""
        return self.values_per_text or self.tokens_per_text

    def vocabulary(self, section: TokenizerSection) -> int:
        """How many tokens a tokenizer of these settings knows."""
        own_words = min(section.vocabulary_size, self.frequent_words)
        own_pairs = min(section.frequent_pairs, self.frequent_pairs)
        return round(own_words + own_pairs) + section.unknown_buckets + section.pair_buckets + section.character_buckets

    def distinct_tokens(self, rows: int) -> float:
        """Different tokens among so many texts."""
        seen: float = self.batch_tokens * (rows / _BATCH) ** _ASSUMED_GROWTH
        return min(seen, rows * self.tokens_per_text)


def assumed_sizes(labels: int, rows: int | None, recipe: Recipe) -> DataSizes:
    """Sizes of short texts of which nothing is known but their numbers: 12 words and 3 labels a text.

    Args:
        labels: L.
        rows: training texts; by default as many as there are labels.
        recipe: says what is read of them.

    Raises:
        ConfigError: the recipe reads features, whose number only the data can tell; or there are too many labels.
    """
    if labels > MAX_LABELS:
        raise ConfigError(f"--labels {labels}: more than {MAX_LABELS} labels; no more are supported")
    rows = labels if rows is None else rows
    text: dict[str, Any] = {"words_per_text": float(_ASSUMED_WORDS), "text_bytes": float(_WORD_BYTES * _ASSUMED_WORDS)}
    match recipe.encoder:
        case BagSection():
            section = recipe.tokenizer
            words = min(float(_ASSUMED_WORDS), float(section.max_length))
            return DataSizes(
                labels,
                rows,
                tokens_per_text=words * (1.5 if section.frequent_pairs else 1) + (words if section.pair_buckets else 0),
                frequent_words=math.inf,
                frequent_pairs=math.inf,
                distinct_words=30_000.0 + rows**_ASSUMED_GROWTH,
                distinct_pairs=5.0 * rows,
                batch_tokens=3500.0,
                **text,
            )
        case TransformerSection():
            return DataSizes(labels, rows, tokens_per_text=min(1.4 * _ASSUMED_WORDS, recipe.encoder.max_length), **text)
        case FeaturesSection():
            raise ConfigError(
                "encoder.kind features: give the data set; only its files say how many features there are"
            )


def sampled_sizes(dataset: Dataset, recipe: Recipe) -> DataSizes:
    """Sizes of a data set, by its headers and the first 4,000 training texts.

    Raises:
        DataError: a file is faulty, or there is not what the recipe's encoder reads.
    """
    rows = {split: dataset.row_count(split) for split in dataset.split_names}
    block = next(dataset.label_blocks("train"), None)
    if block is None or not len(block):
        raise DataError(f"{dataset.path}: the training split has no texts; there is nothing to train on")
    found: dict[str, Any]
    if isinstance(recipe.encoder, FeaturesSection):
        found = dataset.feature_sizes("train")._asdict()
    else:
        found = _text_sizes(list(islice(dataset.texts("train"), SAMPLE)), rows["train"], recipe)
    return DataSizes(
        labels=block.columns,
        rows=rows["train"],
        other_rows=sum(rows.values()) - rows["train"],
        labels_per_text=len(block.indices) / len(block),
        **found,
    )


def _text_sizes(texts: Sequence[str], rows: int, recipe: Recipe) -> dict[str, float]:
    text_bytes = sum(len(text.encode()) for text in texts) / len(texts)
    if isinstance(recipe.encoder, TransformerSection):
        # Word pieces: about one to four bytes of plain text, and two special ones.
        tokens = sum(min(2 + len(text) / 4, recipe.encoder.max_length) for text in texts) / len(texts)
        return {"text_bytes": text_bytes, "tokens_per_text": tokens}
    section = recipe.tokenizer
    whole, half = _Sampled(texts, section), _Sampled(texts[: len(texts) // 2], section)
    factor = rows / len(texts)
    return {
        "text_bytes": text_bytes,
        "words_per_text": whole.words_per_text,
        "tokens_per_text": whole.tokens_per_text,
        "frequent_words": _grown(half.frequent_words, whole.frequent_words, factor),
        "frequent_pairs": _grown(half.frequent_pairs, whole.frequent_pairs, factor),
        "distinct_words": _grown(half.words, whole.words, factor),
        "distinct_pairs": _grown(half.pairs, whole.pairs, factor),
        "batch_tokens": whole.batch_tokens,
    }


def _grown(half: float, whole: float, factor: float) -> float:
    """A number of different things in ``factor`` times as many texts, by how it grew from half the sample to all.

    >>> round(_grown(100, 200, 10)), round(_grown(100, 100, 10))
    (2000, 100)
    """
    if factor <= 1 or not half or not whole:
        return float(whole)
    return float(whole * factor ** min(1.0, max(0.0, math.log2(whole / half))))


class _Sampled:
    """What a tokenizer finds in some texts; subwords are taken for words."""

    def __init__(self, texts: Sequence[str], section: TokenizerSection) -> None:
        split = [split_words(text) for text in texts]
        words = Counter(chain.from_iterable(split))
        self.words = len(words)
        self.frequent_words = sum(count >= section.min_count for count in words.values())
        own = WordVocabulary.train(texts, section.vocabulary_size, section.min_count, section.unknown_buckets)
        units, lengths = own.units([words[: section.max_length] for words in split])
        codes, text = pair_codes(units, lengths)
        pairs, pair, counts = np.unique(codes, return_inverse=True, return_counts=True)
        frequent = np.zeros(len(pairs), bool)
        frequent[np.argsort(-counts, kind="stable")[: section.frequent_pairs]] = True
        frequent &= counts >= section.min_count
        self.pairs, self.frequent_pairs = len(pairs), int((counts >= section.min_count).sum())
        own_pair = frequent[pair]  # of every pair in the texts
        kept = len(pair) if section.pair_buckets else int(own_pair.sum())
        self.words_per_text = len(units) / len(texts)
        self.tokens_per_text = (len(units) + kept) / len(texts)
        first = text < _BATCH
        others = len(np.unique(pair[first & ~own_pair]))
        self.batch_tokens = (
            len(np.unique(units[: int(lengths[:_BATCH].sum())]))
            + len(np.unique(pair[first & own_pair]))
            + occupied(others, section.pair_buckets)
        )


def occupied(things: float, buckets: float) -> int:
    """How many buckets are not empty when things are thrown into them.

    >>> occupied(1000, 1000), occupied(5, 0)
    (632, 0)
    """
    return round(buckets * (1 - (1 - 1 / buckets) ** things)) if buckets else 0
