"""Synthetic data sets of any size: Zipf's law for the labels, and words that a good model can learn them by.

Every label owns a few words and belongs to a topic, which owns a few as well; a word may belong to many labels, only
their combination tells one. A text holds most of the words of its labels, a word of each label's topic, and noise.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from fanin.errors import ConfigError
from fanin.folders import replacing_folder
from fanin.kernels.drawing import draw, mix_seed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path
    from typing import TextIO

    from numpy.typing import NDArray

WORDS = 20_000
"""How many words there are; a tokenizer of 30,000 words holds them all."""

OWN_WORDS, TOPIC_WORDS = 3, 4
_OWN_SHARE = 0.8  # of a label's own words that stand in a text of it
_BLOCK_ROWS = 8192  # a part of the data set's definition: every block has a generator of its own
_NAMES_AT_A_TIME = 65_536
_MOST_LABELS = 2**31 - 1
_STREAMS = {"train": 0, "test": 1}
_PREFIXES = {"train": "trn", "test": "tst"}
_TOPICS, _PLACES, _ROWS = 1, 2, 3  # streams of the seed
_NAMES_FILE = "Y.txt"
_SCATTER = 617_283  # odd and not a multiple of 5, so that it permutes the numbers below 10^6
_CONSONANTS, _VOWELS = "bcdfghjklmnprstvwxyz", "aeiou"


class SyntheticRows(NamedTuple):
    """Some texts and their labels, as CSR."""

    texts: list[str]
    indptr: NDArray[np.int64]  # (n + 1,)
    labels: NDArray[np.int64]  # (P,) ascending within a row, each once


class SyntheticTexts:
    """Texts drawn from a planted structure; block after block, without holding any.

    The label of frequency rank r (from 0) has the share ``log((r + 2) / (r + 1)) / log(L + 1)`` of all draws, which is
    Zipf's law, 1 / (r + 1), in a form that can be drawn at once for any L. Ids are the ranks in a scrambled order.

    Args:
        labels: L.
        seed: decides everything.
        labels_per_text: the mean; a text has 1 to twice as many less 1, and fewer where one is drawn twice.
        noise_words: words of a text that tell nothing, by Zipf's law too.

    Raises:
        ConfigError: a number is out of range.

    >>> rows = SyntheticTexts(1000, seed=0).rows("train", 0, 2)
    >>> len(rows.texts), rows.indptr[-1] == len(rows.labels)
    (2, np.True_)
    """

    def __init__(self, labels: int, *, seed: int = 0, labels_per_text: int = 3, noise_words: int = 4) -> None:
        for name, value, least, most in (
            ("labels", labels, 1, _MOST_LABELS),
            ("labels-per-text", labels_per_text, 1, 1000),
            ("noise-words", noise_words, 0, 100_000),
            ("seed", seed, 0, 2**63 - 1),
        ):
            if not least <= value <= most:
                raise ConfigError(f"--{name} is {value}; it must lie in {least}..{most}")
        self.labels = labels
        self._seed, self._labels_per_text, self._noise_words = seed, labels_per_text, noise_words
        self._topics = max(1, math.isqrt(labels))
        self._words = np.array([_word(i) for i in range(WORDS)], dtype=object)
        self._step = _coprime(mix_seed(seed, _PLACES), labels)

    def ids(self, ranks: NDArray[np.int64]) -> NDArray[np.int64]:
        """The label ids of frequency ranks, a permutation of [0, L)."""
        return (ranks * self._step + self._step) % self.labels

    def shares(self, ranks: NDArray[np.int64]) -> NDArray[np.float64]:
        """The share of all draws that the label of each rank has."""
        return np.asarray(np.log((ranks + 2) / (ranks + 1)) / math.log(self.labels + 1))

    def names(self, start: int, stop: int) -> list[str]:
        """The names of a range of labels: a word of the topic and the label's number."""
        labels = np.arange(start, stop)
        words = self._words[self._topic_words(self._topic(labels), np.zeros(len(labels), np.int64))]
        return [f"{word} {label}" for word, label in zip(words, labels, strict=True)]

    def rows(self, split: str, block: int, count: int = _BLOCK_ROWS) -> SyntheticRows:
        """The first rows of a block of a split, "train" or "test".

        Args:
            split: whose; both are drawn alike, each from a stream of its own.
            block: its number, from 0.
            count: how many rows, at most 8192; fewer are the same ones.
        """
        assert count <= _BLOCK_ROWS
        random = np.random.default_rng([self._seed, _ROWS, _STREAMS[split], block])
        # Everything is drawn for a whole block, so that its first rows do not depend on their number.
        wanted = random.integers(1, 2 * self._labels_per_text, _BLOCK_ROWS)  # (n,) labels of each row
        row = np.repeat(np.arange(_BLOCK_ROWS), wanted)
        pairs = np.unique(row * self.labels + self.ids(self._zipf(random.random(len(row)), self.labels)))
        row, label = pairs // self.labels, pairs % self.labels
        indptr = np.searchsorted(row, np.arange(count + 1))
        texts = self._texts(row, label, random)
        return SyntheticRows(texts[:count], indptr, label[: indptr[-1]])

    def _texts(self, row: NDArray[np.int64], label: NDArray[np.int64], random: np.random.Generator) -> list[str]:
        """The texts of a block, by its pairs of row and label."""
        topic = self._topic(label)
        of_topic = self._topic_words(topic, random.integers(0, TOPIC_WORDS, len(label)))
        parts = [(row, of_topic)]
        for i in range(OWN_WORDS):
            own = draw(self._seed, label, i, np.full(len(label), WORDS))
            there = random.random(len(label)) < _OWN_SHARE
            parts.append((row[there], own[there]))
        noise_rows = np.repeat(np.arange(_BLOCK_ROWS), self._noise_words)
        parts.append((noise_rows, self._zipf(random.random(len(noise_rows)), WORDS)))
        rows, words = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
        order = np.argsort(rows + random.random(len(rows)), kind="stable")
        ends = np.cumsum(np.bincount(rows, minlength=_BLOCK_ROWS)).tolist()
        flat = self._words[words[order]].tolist()
        return [" ".join(flat[start:end]) for start, end in zip([0, *ends[:-1]], ends, strict=True)]

    def _topic(self, labels: NDArray[np.int64]) -> NDArray[np.int64]:
        return draw(self._seed, labels, OWN_WORDS, np.full(len(labels), self._topics))

    def _topic_words(self, topics: NDArray[np.int64], which: NDArray[np.int64]) -> NDArray[np.int64]:
        keys = topics * TOPIC_WORDS + which
        return draw(mix_seed(self._seed, _TOPICS), keys, 0, np.full(len(keys), WORDS))

    @staticmethod
    def _zipf(uniform: NDArray[np.float64], count: int) -> NDArray[np.int64]:
        """Ranks from 0 by the inverse of the distribution function log(r + 1) / log(count + 1)."""
        return np.minimum(np.expm1(uniform * math.log(count + 1)).astype(np.int64), count - 1)


def write_synthetic(
    folder: Path,
    texts: SyntheticTexts,
    rows: int,
    test_rows: int,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Write a raw-text folder, whole or not at all; the memory taken does not depend on the number of rows.

    Args:
        folder: new or empty.
        texts: what to write.
        rows: of the train split.
        test_rows: of the test split.
        progress: called with (texts done, texts in all) now and then.

    Raises:
        ConfigError: a number of rows is below 1, or the folder holds something or cannot be written.
    """
    for name, value in (("rows", rows), ("test-rows", test_rows)):
        if value < 1:
            raise ConfigError(f"--{name} is {value}; it must be at least 1")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigError(f"{folder}: is there already and is not an empty folder; name another one")
    try:
        with replacing_folder(folder, _NAMES_FILE) as draft:
            _write(draft, texts, {"train": rows, "test": test_rows}, progress)
    except OSError as error:
        raise ConfigError(
            f"{folder}: the data set cannot be written ({error.strerror or error}), and nothing of it is left; free "
            "some space, check the permissions, or name another folder"
        ) from error


def _write(
    folder: Path, texts: SyntheticTexts, rows: Mapping[str, int], progress: Callable[[int, int], None] | None
) -> None:
    with _created(folder / _NAMES_FILE) as names:
        for start in range(0, texts.labels, _NAMES_AT_A_TIME):
            some = texts.names(start, min(start + _NAMES_AT_A_TIME, texts.labels))
            names.writelines(f"{name}\n" for name in some)
    done = 0
    for split, count in rows.items():
        prefix = _PREFIXES[split]
        with _created(folder / f"{prefix}_X.txt") as lines, _created(folder / f"{prefix}_X_Y.txt") as labels:
            labels.write(f"{count} {texts.labels}\n")
            for block in _blocks(texts, split, count):
                lines.writelines(f"{text}\n" for text in block.texts)
                labels.writelines(_label_lines(block))
                done += len(block.texts)
                if progress is not None:
                    progress(done, sum(rows.values()))


def _created(path: Path) -> TextIO:
    return path.open("w", encoding="utf-8", newline="\n")


def _blocks(texts: SyntheticTexts, split: str, rows: int) -> Iterator[SyntheticRows]:
    for block, start in enumerate(range(0, rows, _BLOCK_ROWS)):
        yield texts.rows(split, block, min(_BLOCK_ROWS, rows - start))


def _label_lines(rows: SyntheticRows) -> Iterator[str]:
    pairs = [f"{label}:1" for label in rows.labels.tolist()]
    bounds = rows.indptr.tolist()
    return (" ".join(pairs[bounds[i] : bounds[i + 1]]) + "\n" for i in range(len(rows.texts)))


def _word(number: int) -> str:
    """A word of three syllables, another one for every number below 10^6."""
    number = number * _SCATTER % 10**6
    syllables = []
    for _ in range(3):
        number, syllable = divmod(number, 100)
        syllables.append(_CONSONANTS[syllable // 5] + _VOWELS[syllable % 5])
    return "".join(syllables)


def _coprime(seed: int, count: int) -> int:
    """A number in [1, count] without a common divisor with ``count``, by the seed."""
    number = seed % count + 1
    while math.gcd(number, count) > 1:
        number = number % count + 1
    return number
