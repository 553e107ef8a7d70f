"""From a data set to what a training loop reads: tokenizer, tokenised store, and the rows to train and validate on."""

from __future__ import annotations

import contextlib
import json
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from fanin.data.batches import Batches, gather_rows
from fanin.data.building import build_store
from fanin.data.content import cache_folder, content_key, make_key
from fanin.data.extended_split import joined
from fanin.data.feature_store import FeatureStore
from fanin.data.store import TokenizedSplit
from fanin.data.validation import draw_validation, row_keys
from fanin.encoders.tokenization import TOKENIZER_FILE, TOKENIZER_VERSION, Tokenizer
from fanin.errors import CheckpointError, ConfigError, DataError
from fanin.folders import replacing_folder
from fanin.mapped_arrays import forget
from fanin.model import check_features
from fanin.recipes.recipe import BagSection, FeaturesSection, TransformerSection
from fanin.training.assemble import build_transformer
from fanin.training.label_texts import label_texts
from fanin.training.progress import Silent, stage_progress
from fanin.training.vector_cache import vector_split, vector_store

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    import torch
    from numpy.typing import NDArray

    from fanin.data.batches import Split
    from fanin.data.dataset import Dataset
    from fanin.data.feature_rows import FeatureSplit
    from fanin.data.store import SplitStore
    from fanin.encoders.interface import TextTokenizer
    from fanin.encoders.transformer_encoder import TransformerEncoder
    from fanin.model import TextModel
    from fanin.recipes.recipe import Recipe, TokenizerSection
    from fanin.training.progress import ProgressDisplay

SCORING_BATCH = 1024
_COUNT_BLOCK = 1 << 22
_COUNT_ROWS = 1 << 16


@dataclass(frozen=True)
class PreparedData:
    """Everything a run reads.

    Attributes:
        tokenizer: of the texts; None where features stand in their place.
        key: of the content of the data set's files that are read.
        store: the data set, tokenised or as features.
        train_rows: (n,) rows of the train split to train on.
        validation: name of the split that holds the validation rows, "dev" or "train".
        validation_rows: (m,) rows of it.
        length_window: training batches that are sorted by length together.
        trained_names: label names that are trained on beside the texts; they are not counted.
        known_names: label names that labels are known by, see :meth:`label_sources`.
        known_by_texts: labels are known by their texts, too.
        cache: folder of what was derived from the data, None for the usual one.
    """

    key: str
    tokenizer: TextTokenizer | None
    store: SplitStore
    train_rows: NDArray[np.int64]
    validation: str
    validation_rows: NDArray[np.int64]
    length_window: int = 1
    trained_names: TokenizedSplit | None = None
    known_names: TokenizedSplit | FeatureSplit | None = None
    known_by_texts: bool = True
    cache: Path | None = None

    @property
    def validation_source(self) -> str:
        """In words, where the validation rows come from."""
        return "dev split" if self.validation == "dev" else "held out from training"

    def train_batches(self, batch_size: int, seed: int, own_rows: Callable[[int], slice] = slice) -> Batches:
        """Shuffled batches of the training rows, and of the label names that are trained on.

        Args:
            batch_size: B.
            seed: of the order.
            own_rows: see :class:`fanin.data.batches.Batches`.
        """
        split: Split = self.store.split("train")
        rows = self.train_rows
        if self.trained_names is not None:
            split, rows = joined([(split, rows), (self.trained_names, np.arange(len(self.trained_names)))])
        return Batches(split, batch_size, seed=seed, rows=rows, length_window=self.length_window, own_rows=own_rows)

    def label_sources(self) -> list[tuple[Split, NDArray[np.int64]]]:
        """What each label is known by: splits that hold it as a positive, and the rows of them that count.

        They are the rows trained on, the label names (each a row with its label), or both.
        """
        train: list[tuple[Split, NDArray[np.int64]]] = [(self.store.split("train"), self.train_rows)]
        sources = train if self.known_by_texts else []
        return sources if self.known_names is None else [*sources, (self.known_names, np.arange(len(self.known_names)))]

    def validation_batches(self, own_rows: Callable[[int], slice] = slice) -> Batches:
        """The validation rows in order."""
        split, rows = self.store.split(self.validation), self.validation_rows
        return Batches(split, SCORING_BATCH, shuffle=False, rows=rows, own_rows=own_rows)

    def test_batches(self, own_rows: Callable[[int], slice] = slice) -> Batches:
        """The test rows in order; there must be a test split."""
        return Batches(self.store.split("test"), SCORING_BATCH, shuffle=False, own_rows=own_rows)

    def token_counts(self) -> NDArray[np.int64]:
        """How often each token stands in the training texts, (V,); there must be tokens."""
        split = self.store.split("train")
        assert isinstance(split, TokenizedSplit)
        assert self.tokenizer is not None
        tokens = split.tokens
        counts = np.zeros(self.tokenizer.vocabulary_size, dtype=np.int64)
        for start in range(0, len(tokens), _COUNT_BLOCK):
            counts += np.bincount(tokens[start : start + _COUNT_BLOCK], minlength=len(counts))
            forget(tokens)
        return counts

    def train_counts(self) -> NDArray[np.int64]:
        """Training points of each label among the rows trained on, (L,)."""
        split, rows = self.store.split("train"), self.train_rows
        counts = np.zeros(self.store.n_labels, np.int64)
        for start in range(0, len(rows), _COUNT_ROWS):
            labels, _ = gather_rows(split.labels, split.labels_indptr, rows[start : start + _COUNT_ROWS])
            np.add.at(counts, labels, 1)
        forget(split.labels)
        return counts


def prepare(
    dataset: Dataset,
    recipe: Recipe,
    cache: Path | None = None,
    display: ProgressDisplay | None = None,
    device: torch.device | None = None,
) -> PreparedData:
    """Make the texts what the recipe's encoder reads and choose the validation rows; all but the last only once.

    Texts are tokenised, by a tokenizer trained on them or by a transformer's own; those of a frozen transformer are
    encoded; features are opened and checked.

    Args:
        dataset: an opened data set.
        recipe: its tokenizer, encoder and training sections are used.
        cache: folder for stores, tokenizers and vectors; by default FANIN_CACHE or ~/.cache/fanin.
        display: told of the progress.
        device: where a frozen transformer encodes the texts, by default the CPU.

    Raises:
        DataError: a file is faulty, or there is nothing to train on, to know labels by, or not what the encoder reads.
        ConfigError: a transformer cannot be loaded, or the cache cannot be written.
    """
    if not dataset.row_count("train"):
        raise DataError(f"{dataset.path}: the training split has no texts; there is nothing to train on")
    read = dataset.feature_files if isinstance(recipe.encoder, FeaturesSection) else ()
    key = content_key(dataset, cache, read)
    tokenizer, store, frozen = _readable(dataset, recipe, cache, display or Silent(), device)
    train = store.split("train")
    training, encoder = recipe.training, recipe.encoder
    window = encoder.length_window if isinstance(encoder, TransformerSection) and not encoder.frozen else 1
    known, trained, known_names = training.label_features != "texts", None, None
    if training.label_texts or known:
        assert tokenizer is not None, "the recipe is checked for it"
        names = label_texts(tokenizer, store.vocabulary, display or Silent())
        if training.label_features == "names" and not len(names):
            raise DataError(
                f"{dataset.names_source}: the tokenizer leaves nothing of any label name, and training.label_features "
                "names knows labels by nothing else; set it to texts or both"
            )
        trained = names if training.label_texts else None
        if known:
            known_names = names if frozen is None else vector_split(names, frozen, cache, display or Silent())
    if "dev" in store.split_names:
        dev, validation = store.split("dev"), "dev"
        kept, held_out = np.arange(len(train)), _at_most(np.arange(len(dev)), training.validation_rows, training.seed)
    else:
        share, validation = min(training.validation_share, training.validation_rows / len(train)), "train"
        kept, held_out = draw_validation(row_keys(train), share, training.seed)
    return PreparedData(
        key,
        tokenizer,
        store,
        train_rows=kept,
        validation=validation,
        validation_rows=held_out,
        length_window=window,
        trained_names=trained,
        known_names=known_names,
        known_by_texts=training.label_features != "names",
        cache=cache,
    )


def _readable(
    dataset: Dataset, recipe: Recipe, cache: Path | None, display: ProgressDisplay, device: torch.device | None
) -> tuple[TextTokenizer | None, SplitStore, TransformerEncoder | None]:
    """The tokenizer of the recipe's encoder, the data set as what the encoder reads, and a frozen transformer."""
    section = recipe.encoder
    tokenizing = stage_progress(display, "tokenising")
    match section:
        case FeaturesSection():
            return None, FeatureStore(dataset, stage_progress(display, "checking features"), cache=cache), None
        case BagSection():
            tokenizer = _tokenizer(dataset, recipe.tokenizer, cache)
            return tokenizer, build_store(dataset, tokenizer.encode_batch, tokenizer.key, cache, tokenizing), None
        case TransformerSection():
            from fanin.encoders.transformer import load_pretrained

            pretrained = load_pretrained(section.model, section.max_length)
            own = pretrained.tokenizer
            store = build_store(dataset, own.encode_batch, own.key, cache, tokenizing)
            if not section.frozen:
                return own, store, None
            encoder = build_transformer(section, pretrained, seed=0).to(device)
            return own, vector_store(store, encoder, cache, display), encoder


def open_split(
    dataset: Dataset, model: TextModel, name: str, cache: Path | None = None, display: ProgressDisplay | None = None
) -> SplitStore:
    """A data set as what a trained model reads, to score it on one split.

    Args:
        dataset: an opened data set.
        model: what will read it; the texts of a frozen transformer are encoded by it, none are taken from the cache.
        name: the split; of features no other can be read.
        cache: folder for stores; by default FANIN_CACHE or ~/.cache/fanin.
        display: told of the progress.

    Raises:
        DataError: a file is faulty, or there is no such split, or it is not what the model reads.
        ConfigError: the cache cannot be written.
    """
    display = display or Silent()
    if model.tokenizer is not None:
        tokenizer = model.tokenizer
        return build_store(dataset, tokenizer.encode_batch, tokenizer.key, cache, stage_progress(display, "tokenising"))
    sizes = dataset.feature_sizes(name)
    check_features(model.encoder, sizes.columns, sparse=sizes.sparse)
    return FeatureStore(dataset, stage_progress(display, "checking features"), (name,), cache)


class _Corpus:
    """The training texts, to be read again and again without being held."""

    def __init__(self, dataset: Dataset) -> None:
        self._dataset = dataset

    def __iter__(self) -> Iterator[str]:
        return self._dataset.texts("train")


def _tokenizer(dataset: Dataset, section: TokenizerSection, cache: Path | None) -> Tokenizer:
    settings = section.model_dump()
    parts = ["tokenizer", str(TOKENIZER_VERSION), content_key(dataset, cache), json.dumps(settings, sort_keys=True)]
    folder = cache_folder(cache) / "tokenizers" / make_key(parts)
    known = _cached_tokenizer(folder)
    if known is not None:
        return known
    shutil.rmtree(folder, ignore_errors=True)  # it may be damaged
    tokenizer = Tokenizer.train(_Corpus(dataset), **settings)
    try:
        with replacing_folder(folder, TOKENIZER_FILE) as new:
            tokenizer.save(new)
    except OSError as error:
        known = _cached_tokenizer(folder)  # another process may have been faster
        if known is not None:
            return known
        raise ConfigError(
            f"{folder}: the tokenizer cannot be written ({error.strerror or error}); free space there, or name "
            "another folder in the environment variable FANIN_CACHE"
        ) from error
    return tokenizer


def _cached_tokenizer(folder: Path) -> Tokenizer | None:
    with contextlib.suppress(CheckpointError):
        return Tokenizer.load(folder)
    return None


def _at_most(rows: NDArray[np.int64], count: int, seed: int) -> NDArray[np.int64]:
    """At most ``count`` of the rows, drawn at random, in ascending order."""
    if len(rows) <= count:
        return rows
    return np.sort(np.random.default_rng([seed, len(rows)]).permutation(rows)[:count])
