"""Texts to the token ids that index an embedding table: words or subwords, word pairs and character n-grams."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fanin.encoders.frequent import FrequentCodes
from fanin.encoders.hashing import character_ngrams, pair_codes, string_bucket
from fanin.encoders.subwords import SubwordVocabulary
from fanin.encoders.tokenizer_settings import MOST_TOKENS, TokenizerSettings
from fanin.encoders.words import WordVocabulary, split_words
from fanin.errors import CheckpointError, ConfigError
from fanin.kernels.drawing import mix

if TYPE_CHECKING:
    from numpy.typing import NDArray

TOKENIZER_VERSION = 1
"""To be raised whenever the files of a tokenizer change, or the tokens that it gives for a text."""

TOKENIZER_FILE = "fanin_tokenizer.json"
_SUBWORD_FILE = "tokenizer.json"
_TEXTS_AT_A_TIME = 16_384
_RESTORE = "restore the model folder or train the model again"


class Tokenizer:
    """A tokenizer trained on a corpus. Made by :meth:`train` or :meth:`load`.

    Example:
        >>> tokenizer = Tokenizer.train(["the sea", "the sea wolf", "wolf"], min_count=2)
        >>> [row.tolist() for row in tokenizer.encode_batch(["The Sea!", ""])]
        [[1, 0, 1027], []]
    """

    def __init__(
        self, settings: TokenizerSettings, vocabulary: WordVocabulary | SubwordVocabulary, pairs: NDArray[np.uint64]
    ) -> None:
        self.settings = settings
        self._vocabulary = vocabulary
        self._pairs = pairs  # (frequent pairs,) codes, ascending

    @classmethod
    def train(cls, texts: Iterable[str], **settings: Any) -> Tokenizer:
        """Learns the vocabulary and the frequent pairs.

        Args:
            texts: the corpus; read twice, so a one-way iterator is first copied into a list.
            **settings: fields of :class:`TokenizerSettings`.

        Raises:
            ConfigError: if a setting is unknown or invalid.
        """
        chosen = TokenizerSettings.of(settings)
        corpus = list(texts) if isinstance(texts, Iterator) else texts
        vocabulary: WordVocabulary | SubwordVocabulary
        if chosen.unit == "word":
            vocabulary = WordVocabulary.train(corpus, chosen.vocabulary_size, chosen.min_count, chosen.unknown_buckets)
        else:
            vocabulary = SubwordVocabulary.train(corpus, chosen.vocabulary_size, chosen.min_count)
        tokenizer = cls(chosen, vocabulary, np.empty(0, np.uint64))
        if chosen.frequent_pairs:
            tokenizer._pairs = tokenizer._find_frequent_pairs(corpus)
        return tokenizer

    @property
    def vocabulary_size(self) -> int:
        """Rows that an embedding table needs: every token is below it."""
        return self._first_character_bucket + self.settings.character_buckets

    @property
    def key(self) -> str:
        """32 hex digits of version, settings and vocabulary: tokenizers of one key give the same tokens."""
        parts = [str(TOKENIZER_VERSION), json.dumps(self._description(), sort_keys=True)]
        if isinstance(self._vocabulary, SubwordVocabulary):
            parts.append(self._vocabulary.to_json())
        return hashlib.blake2b("\0".join(parts).encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()

    def encode_batch(self, texts: Sequence[str]) -> list[NDArray[np.int32]]:
        """Tokens of each text, an int32 array a text; empty where nothing of the text is left."""
        tokens, offsets = self.encode_flat(texts)
        return np.split(tokens, offsets[1:-1]) if len(texts) else []

    def encode_flat(self, texts: Sequence[str]) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        """Tokens of all texts one after the other (N,) int32, and offsets (B + 1,) int64.

        Text b has ``tokens[offsets[b]:offsets[b + 1]]``: its units in order, then its pairs, then its n-grams.
        """
        words = self._split(texts)
        units, lengths = self._units(texts, words)
        pieces = [(units, np.repeat(np.arange(len(texts)), lengths)), self._pair_tokens(units, lengths)]
        if self.settings.character_buckets:
            pieces.append(self._character_tokens(words))
        tokens = np.concatenate([piece[0] for piece in pieces])
        rows = np.concatenate([piece[1] for piece in pieces])
        order = np.argsort(rows, kind="stable")
        offsets = np.zeros(len(texts) + 1, np.int64)
        np.cumsum(np.bincount(rows, minlength=len(texts)), out=offsets[1:])
        return tokens[order], offsets

    def save(self, folder: str | Path) -> None:
        """Writes the tokenizer's JSON files into a folder, made if missing."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        text = json.dumps({"format": TOKENIZER_VERSION, **self._description()}, ensure_ascii=True)
        (folder / TOKENIZER_FILE).write_text(text, encoding="utf-8")
        if isinstance(self._vocabulary, SubwordVocabulary):
            self._vocabulary.save(folder / _SUBWORD_FILE)

    @classmethod
    def load(cls, folder: str | Path) -> Tokenizer:
        """Reads what :meth:`save` wrote.

        Raises:
            CheckpointError: if a file is missing, damaged or of another version.
        """
        path = Path(folder) / TOKENIZER_FILE
        found = _read_json(path)
        if found.get("format") != TOKENIZER_VERSION:
            raise CheckpointError(
                f"{path}: format {found.get('format')!r}, this version of fanin reads {TOKENIZER_VERSION}; "
                "train the model again"
            )
        try:
            settings = TokenizerSettings.of(found["settings"])
            pairs = np.array(found["pairs"], np.uint64).reshape(-1)
            words = found["words"] if settings.unit == "word" else []
            distinct = len(set(words)) == len(words) and all(isinstance(word, str) for word in words)
        except (ConfigError, ValueError, TypeError, KeyError, AttributeError, OverflowError) as error:
            raise CheckpointError(f"{path}: is damaged ({type(error).__name__}: {error}); {_RESTORE}") from error
        if not distinct or (pairs[1:] <= pairs[:-1]).any():
            raise CheckpointError(f"{path}: words are not distinct strings or pairs not in order; {_RESTORE}")
        if settings.unit == "word":
            tokenizer = cls(settings, WordVocabulary(words, settings.unknown_buckets), pairs)
        else:
            tokenizer = cls(settings, SubwordVocabulary.load(Path(folder) / _SUBWORD_FILE), pairs)
        if tokenizer.vocabulary_size >= MOST_TOKENS:
            raise CheckpointError(f"{path}: {tokenizer.vocabulary_size} tokens; no more are supported; {_RESTORE}")
        return tokenizer

    @property
    def _first_pair_bucket(self) -> int:
        return self._vocabulary.unit_count + len(self._pairs)

    @property
    def _first_character_bucket(self) -> int:
        return self._first_pair_bucket + self.settings.pair_buckets

    def _description(self) -> dict[str, Any]:
        description = {"settings": asdict(self.settings), "pairs": self._pairs.tolist()}
        if isinstance(self._vocabulary, WordVocabulary):
            description["words"] = list(self._vocabulary.words)
        return description

    def _split(self, texts: Sequence[str]) -> list[list[str]]:
        if self.settings.unit != "word":
            return []
        return [split_words(text)[: self.settings.max_length] for text in texts]

    def _units(self, texts: Sequence[str], words: list[list[str]]) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        if isinstance(self._vocabulary, WordVocabulary):
            return self._vocabulary.units(words)
        return self._vocabulary.units(texts, self.settings.max_length)

    def _pair_tokens(
        self, units: NDArray[np.int32], lengths: NDArray[np.int64]
    ) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        """Tokens of the pairs and the text of each: a frequent pair's own, a bucket, or none."""
        codes, texts = pair_codes(units, lengths)
        place = np.searchsorted(self._pairs, codes)
        frequent = np.zeros(len(codes), bool)
        if len(self._pairs):
            frequent = self._pairs[np.minimum(place, len(self._pairs) - 1)] == codes
        tokens = place + self._vocabulary.unit_count
        if not self.settings.pair_buckets:
            return tokens[frequent].astype(np.int32), texts[frequent]
        buckets = mix(codes) % np.uint64(self.settings.pair_buckets)
        tokens = np.where(frequent, tokens, buckets.astype(np.int64) + self._first_pair_bucket)
        return tokens.astype(np.int32), texts

    def _character_tokens(self, words: list[list[str]]) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        assert isinstance(self._vocabulary, WordVocabulary)
        known, first, buckets = self._vocabulary, self._first_character_bucket, self.settings.character_buckets
        rows = [
            [first + string_bucket(g, buckets) for word in text if word not in known for g in character_ngrams(word)]
            for text in words
        ]
        texts = np.repeat(np.arange(len(rows)), [len(row) for row in rows])
        return np.array(list(chain.from_iterable(rows)), np.int32), texts

    def _find_frequent_pairs(self, corpus: Iterable[str]) -> NDArray[np.uint64]:
        """Codes, ascending, of the most frequent pairs; ties by lower code."""
        frequent = FrequentCodes()
        for texts in _batches(corpus):
            frequent.add(pair_codes(*self._units(texts, self._split(texts)))[0])
        codes, counts = frequent.finish()
        by_count = np.argsort(-counts, kind="stable")[: self.settings.frequent_pairs]
        return np.sort(codes[by_count[counts[by_count] >= self.settings.min_count]])


def _batches(corpus: Iterable[str]) -> Iterator[list[str]]:
    texts = iter(corpus)
    while batch := list(islice(texts, _TEXTS_AT_A_TIME)):
        yield batch


def _read_json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: cannot be read ({type(error).__name__}: {error}); {_RESTORE}") from error
    if not isinstance(found, dict):
        raise CheckpointError(f"{path}: holds no JSON object; {_RESTORE}")
    return found
