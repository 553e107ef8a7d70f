"""From a data set to what a training loop reads: tokenizer, tokenised store, and the rows to train and validate on."""

from __future__ import annotations

import contextlib
import json
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from fanin.data.batches import Batches
from fanin.data.building import build_store
from fanin.data.content import cache_folder, content_key, make_key
from fanin.data.validation import draw_validation, text_keys
from fanin.encoders.tokenization import TOKENIZER_FILE, TOKENIZER_VERSION, Tokenizer
from fanin.errors import CheckpointError, ConfigError, DataError
from fanin.folders import replacing_folder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from fanin.data.dataset import Dataset
    from fanin.data.store import Store
    from fanin.training.recipe import Recipe, TokenizerSection

SCORING_BATCH = 1024
_COUNT_BLOCK = 1 << 22


@dataclass(frozen=True)
class PreparedData:
    """Everything a run reads.

    Attributes:
        tokenizer: trained on the training texts.
        store: the tokenised data set.
        train_rows: (n,) rows of the train split to train on.
        validation: name of the split that holds the validation rows, "dev" or "train".
        validation_rows: (m,) rows of it.
    """

    tokenizer: Tokenizer
    store: Store
    train_rows: NDArray[np.int64]
    validation: str
    validation_rows: NDArray[np.int64]

    @property
    def validation_source(self) -> str:
        """In words, where the validation rows come from."""
        return "dev split" if self.validation == "dev" else "held out from training"

    def train_batches(self, batch_size: int, seed: int) -> Batches:
        """Shuffled batches of the training rows."""
        return Batches(self.store.split("train"), batch_size, seed=seed, rows=self.train_rows)

    def validation_batches(self) -> Batches:
        """The validation rows in order."""
        return Batches(self.store.split(self.validation), SCORING_BATCH, shuffle=False, rows=self.validation_rows)

    def test_batches(self) -> Batches:
        """The test rows in order; there must be a test split."""
        return Batches(self.store.split("test"), SCORING_BATCH, shuffle=False)

    def token_counts(self) -> NDArray[np.int64]:
        """How often each token stands in the training texts, (V,)."""
        tokens = self.store.split("train").tokens
        counts = np.zeros(self.tokenizer.vocabulary_size, dtype=np.int64)
        for start in range(0, len(tokens), _COUNT_BLOCK):
            counts += np.bincount(tokens[start : start + _COUNT_BLOCK], minlength=len(counts))
        return counts

    def train_counts(self) -> NDArray[np.int64]:
        """Training points of each label among the rows trained on, (L,)."""
        split = self.store.split("train")
        trained = np.zeros(len(split), dtype=bool)
        trained[self.train_rows] = True
        of_row = np.repeat(trained, np.diff(split.labels_indptr))  # (P,)
        return np.bincount(split.labels[of_row], minlength=self.store.n_labels).astype(np.int64)


def prepare(
    dataset: Dataset,
    recipe: Recipe,
    cache: Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> PreparedData:
    """Train the tokenizer, tokenise the texts and choose the validation rows; all but the last only once.

    Args:
        dataset: an opened data set.
        recipe: its tokenizer and training sections are used.
        cache: folder for stores and tokenizers; by default FANIN_CACHE or ~/.cache/fanin.
        progress: called with (texts done, texts in all) while texts are tokenised.

    Raises:
        DataError: a file is faulty, or there is nothing to train on.
    """
    if not len(dataset.positives("train")):
        raise DataError(f"{dataset.path}: the training split has no texts; there is nothing to train on")
    tokenizer = _tokenizer(dataset, recipe.tokenizer, cache)
    store = build_store(dataset, tokenizer.encode_batch, tokenizer.key, cache, progress)
    train = store.split("train")
    training = recipe.training
    if "dev" in store.split_names:
        dev = store.split("dev")
        rows = _at_most(np.arange(len(dev)), training.validation_rows, training.seed)
        return PreparedData(tokenizer, store, np.arange(len(train)), "dev", rows)
    share = min(training.validation_share, training.validation_rows / len(train))
    kept, held_out = draw_validation(text_keys(train), share, training.seed)
    return PreparedData(tokenizer, store, kept, "train", held_out)


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
