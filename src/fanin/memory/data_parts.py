"""What a data set takes in memory: while it is made ready, and while a run reads it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fanin.data.batches import ROWS_KEPT
from fanin.data.building import BLOCK_TEXTS
from fanin.data.feature_rows import MAPPED_WHOLE, ROWS_MAPPED
from fanin.data.features import BLOCK_VALUES
from fanin.data.lines import BLOCK_BYTES
from fanin.encoders.frequent import MOST_CODES, MOST_WORDS
from fanin.labels.features import BLOCK_ROWS, SUMMED_VALUES
from fanin.labels.relevant_texts import MOST_PAIRS, MOST_WORK
from fanin.labels.text_vectors import BLOCK_TOKENS, DEFAULT_DIM
from fanin.labels.two_means import NODE_ROWS
from fanin.memory.data_sizes import occupied
from fanin.memory.parts import Part, part
from fanin.recipes.recipe import BagSection, FeaturesSection, TransformerSection

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fanin.memory.data_sizes import DataSizes
    from fanin.recipes.recipe import Recipe

_FLOAT, _LONG = 4, 8
_WORD = 170  # bytes of a word and of its count in a dictionary
_CODE = 50  # bytes of a pair that is counted, while counts are merged
_SPLIT_WORD = 130  # bytes of a word of a text that is being turned into tokens
_COUNTED_TEXTS = 16_384
_SPARSE_VALUE = 7  # bytes of a sparse feature in a file, "123:1.5"
_PARSED_VALUE = 170  # bytes of one that is being read
_CHECKED_VALUE = 30  # bytes of a dense feature that is being checked
_OF_A_ROW = 8
_WHILE_DRAWN = 41  # bytes a training text while rows are held out
_OF_AN_EPOCH = 24  # bytes a training text: the order of an epoch
_AROUND_A_ROW = 1 << 16  # bytes of a file that come into memory with a row
_AROUND_A_VECTOR = 1 << 17  # of a larger one, which the system keeps in larger pieces
_OF_AN_ENTRY = 60  # bytes of an entry of labels' texts while they are added up
_NAME_AS_TEXT = 68  # bytes of a label name of four tokens: these, offsets, its label, and its place in an epoch
_NAME_CHECK = 28  # bytes a label while names are checked


def preparation_bytes(recipe: Recipe, sizes: DataSizes) -> int:
    """The most that is there for a while when the data are made ready, where nothing of it is in the cache yet."""
    names = _NAME_CHECK * sizes.labels
    if isinstance(recipe.encoder, FeaturesSection):
        rows = sizes.rows + sizes.other_rows
        parsed = _PARSED_VALUE * min(rows * sizes.values_per_text, BLOCK_BYTES / _SPARSE_VALUE)
        checked = _CHECKED_VALUE * min(rows * sizes.columns, BLOCK_VALUES) if sizes.feature_bytes else 0
        return int(max(names + parsed, checked, sizes.rows * _WHILE_DRAWN))
    block = min(BLOCK_TEXTS, sizes.rows) * (sizes.words_per_text or sizes.tokens_per_text) * _SPLIT_WORD
    most = max(names + block, sizes.rows * _WHILE_DRAWN)
    if isinstance(recipe.encoder, BagSection):
        words = _WORD * min(sizes.distinct_words, MOST_WORDS)
        pairs = _CODE * min(sizes.distinct_pairs, MOST_CODES) if recipe.tokenizer.frequent_pairs else 0
        counted = min(_COUNTED_TEXTS, sizes.rows) * sizes.words_per_text * _SPLIT_WORD
        most = max(most, words, pairs + counted)
    return int(most)


def data_parts(recipe: Recipe, sizes: DataSizes, vector: int) -> list[Part]:
    """The data as a run reads them, rows and label names.

    Args:
        recipe: the recipe.
        sizes: of the data.
        vector: bytes of the vector of a text, where a frozen transformer's are kept on disk.
    """
    rows = sizes.rows + sizes.other_rows
    steps = recipe.training.steps
    batch = recipe.training.batch_size
    read = ROWS_KEPT + batch if steps is None else min(ROWS_KEPT, steps * batch) + batch  # and not given back
    labels, offsets = rows * sizes.labels_per_text * _FLOAT, rows * _LONG
    held = part("rows", sizes.rows * (_OF_A_ROW + _OF_AN_EPOCH)) + part("label names", 5 * sizes.labels)
    held += part("label counts", _LONG * sizes.labels)
    if recipe.training.label_texts or recipe.training.label_features != "texts":
        held += part("label names as texts", _NAME_AS_TEXT * sizes.labels)
    match recipe.encoder:
        case FeaturesSection():
            values = rows * sizes.values_per_text * _FLOAT
            sparse = [] if sizes.feature_bytes else [values, values, offsets]
            dense = _vectors_brought(read, rows * sizes.columns * sizes.feature_bytes)
            return [*held, *_on_disk("features and labels", read, [*sparse, labels, offsets], dense)]
        case TransformerSection(frozen=True):
            dense = _vectors_brought(read, rows * vector)
            if recipe.training.label_features != "texts":
                dense += _vectors_brought(sizes.labels, sizes.labels * vector)
            return [*held, *_on_disk("vectors and labels", read, [labels, offsets], dense)]
        case _:
            vocabulary = sizes.vocabulary(recipe.tokenizer)
            tokens = rows * sizes.tokens_per_text * (2 if vocabulary <= 1 << 16 else 4)
            own_words = min(sizes.frequent_words, recipe.tokenizer.vocabulary_size)
            own_pairs = min(sizes.frequent_pairs, recipe.tokenizer.frequent_pairs)
            return [
                *held,
                *part("tokenizer", _WORD * own_words + _LONG * own_pairs),
                *_on_disk("tokens and labels", read, [tokens, offsets, labels, offsets]),
            ]


def _on_disk(what: str, rows: int, arrays: Sequence[float], further: float = 0) -> list[Part]:
    """What rows at random bring into memory of mapped arrays of so many bytes, beside further bytes."""
    return part(f"{what} on disk", further + sum(_brought(rows, array) for array in arrays), mapped=True)


def _brought(rows: int, array: float, around: int = _AROUND_A_ROW) -> float:
    """Bytes of an array of so many that come into memory with rows at random, some of which lie close to each other."""
    return min(array, around * occupied(rows, 1 + array / around))


def _vectors_brought(rows: int, array: float) -> float:
    """The same of dense vectors, of which most are read from a file that was just written, in large pieces."""
    return _brought(rows if array <= MAPPED_WHOLE else ROWS_MAPPED, array, _AROUND_A_VECTOR)


def label_order_bytes(recipe: Recipe, sizes: DataSizes, features: int) -> int:
    """The most that is there for a while when related labels are found.

    Args:
        recipe: the recipe.
        sizes: of the data.
        features: of a vector, where texts have no tokens.
    """
    tokens = not isinstance(recipe.encoder, FeaturesSection)
    dim = DEFAULT_DIM if tokens else features
    projected = min(BLOCK_TOKENS, sizes.rows * sizes.tokens_per_text)
    texts = projected / max(sizes.tokens_per_text, 1)
    table = _FLOAT * sizes.vocabulary(recipe.tokenizer) * dim if tokens else 0
    projecting = 2 * table + projected * 9 * _LONG + texts * dim * _FLOAT if tokens else 0
    vectors = sizes.labels * dim
    # Some labels at a time: vectors of the texts of a block that have any, their sums by label, the labels' before.
    summed = min(sizes.labels, SUMMED_VALUES // dim)
    pairs = min(BLOCK_ROWS, sizes.rows) * sizes.labels_per_text * summed / sizes.labels
    adding = _FLOAT * dim * (min(pairs, BLOCK_ROWS) + 2 * occupied(pairs, summed))
    summing = table + vectors + _FLOAT * summed * dim + max(projected * 4 * _LONG, adding)
    clustering = vectors + 4 * _LONG * sizes.labels + 2 * _FLOAT * min(sizes.labels, NODE_ROWS) * dim
    return int(max(projecting, summing, clustering))


def relevant_texts_bytes(sizes: DataSizes) -> int:
    """The most that is there for a while when labels' own texts are gone through, at a start or for margins."""
    pairs = sizes.rows * sizes.labels_per_text
    worked_on = min(pairs * sizes.tokens_per_text, MOST_WORK)
    return int(2 * _LONG * min(pairs, MOST_PAIRS) + _OF_AN_ENTRY * worked_on + 8 * _LONG * sizes.labels)


def joined_sources_bytes(recipe: Recipe, sizes: DataSizes) -> int:
    """Offsets, rows and labels of texts and names as one split, where labels are known by both."""
    if recipe.training.label_features != "both":
        return 0
    rows = sizes.rows + sizes.labels
    return int(2 * _LONG * rows + _FLOAT * (sizes.rows * sizes.labels_per_text + sizes.labels))


def evaluation_bytes(labels: int) -> int:
    """What metrics keep of every label, and make of it at first."""
    return 74 * labels
