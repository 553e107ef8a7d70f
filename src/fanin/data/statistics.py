"""What is in a data set, in numbers."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from fanin.labels.frequency import label_groups

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from fanin.data.dataset import Dataset
    from fanin.data.label_rows import LabelRows

FREQUENCY_CLASSES = ((0, 0), (1, 1), (2, 5), (6, 10), (11, 100), (101, 1000), (1001, None))
"""Classes of labels by their number of training points, both ends included."""

QUANTILES = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0)


@dataclass(frozen=True)
class SplitStatistics:
    """One split.

    Attributes:
        rows: number of texts.
        positives: number of (text, relevant label) pairs.
        positives_per_row: their mean number a text.
        most_positives: the most that one text has.
        rows_without_labels: texts with no relevant label.
        labels: labels that are relevant for some text.
        labels_unseen: of these, how many have no training point.
        positives_unseen: pairs whose label has no training point.
        empty_texts: texts of white space alone.
        repeated_texts: texts that stood before in the same split.
        texts_in_train: texts that also stand in the training split (0 for that split).
        words: quantiles of the number of words, parted by white space, keyed by the quantile ("0.5" is the median).
        characters: the same for Unicode characters.
    """

    rows: int
    positives: int
    positives_per_row: float
    most_positives: int
    rows_without_labels: int
    labels: int
    labels_unseen: int
    positives_unseen: int
    empty_texts: int
    repeated_texts: int
    texts_in_train: int
    words: dict[str, float]
    characters: dict[str, float]


@dataclass(frozen=True)
class LabelClass:
    """Labels whose number of training points lies in a range.

    Attributes:
        at_least: least number of training points.
        at_most: largest, None without a limit.
        labels: how many labels there are.
        positives: their training positives.
    """

    at_least: int
    at_most: int | None
    labels: int
    positives: int


@dataclass(frozen=True)
class DatasetStatistics:
    """A whole data set.

    Attributes:
        path: where it is.
        format: the name and version of its format.
        labels: L.
        labels_without_training_points: labels that no training text has.
        most_training_points: of a label.
        median_training_points: over all labels.
        head_labels: the most frequent labels that together hold the first third of the training positives.
        middle_labels: those that hold the second third.
        tail_labels: all others.
        label_classes: labels by their number of training points.
        splits: the splits by name.
    """

    path: str
    format: str
    labels: int
    labels_without_training_points: int
    most_training_points: int
    median_training_points: float
    head_labels: int
    middle_labels: int
    tail_labels: int
    label_classes: tuple[LabelClass, ...]
    splits: dict[str, SplitStatistics]

    def as_dict(self) -> dict[str, Any]:
        """The same as plain dicts, lists and numbers, for JSON."""
        return asdict(self)


def describe(dataset: Dataset) -> DatasetStatistics:
    """Count what a data set holds; texts are streamed, 24 bytes a text are kept.

    Raises:
        DataError: a file of the data set is faulty.
    """
    counts = dataset.positives("train").counts()
    train = _Texts(dataset.texts("train"))
    splits = {}
    for split in dataset.split_names:
        texts = train if split == "train" else _Texts(dataset.texts(split))
        in_train = 0 if split == "train" else int(np.isin(texts.digests, train.digests).sum())
        splits[split] = _describe_split(dataset.positives(split), counts, texts, in_train)
    head, middle, tail = np.bincount(label_groups(counts), minlength=3).tolist()
    return DatasetStatistics(
        path=str(dataset.path),
        format=dataset.format_name,
        labels=len(counts),
        labels_without_training_points=int((counts == 0).sum()),
        most_training_points=int(counts.max()),
        median_training_points=float(np.median(counts)),
        head_labels=head,
        middle_labels=middle,
        tail_labels=tail,
        label_classes=tuple(_label_class(counts, at_least, at_most) for at_least, at_most in FREQUENCY_CLASSES),
        splits=splits,
    )


class _Texts:
    """Lengths and digests of a stream of texts."""

    def __init__(self, texts: Iterable[str]) -> None:
        numbers = np.fromiter(
            ((len(text.split()), len(text), _digest(text)) for text in texts),
            dtype=[("words", np.int64), ("characters", np.int64), ("digest", np.uint64)],
        )
        self.words: NDArray[np.int64] = numbers["words"]
        self.characters: NDArray[np.int64] = numbers["characters"]
        self.digests: NDArray[np.uint64] = numbers["digest"]


def _digest(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")


def _describe_split(positives: LabelRows, counts: NDArray[np.int64], texts: _Texts, in_train: int) -> SplitStatistics:
    per_row = np.diff(positives.indptr)
    present = positives.counts() > 0
    return SplitStatistics(
        rows=len(positives),
        positives=len(positives.indices),
        positives_per_row=len(positives.indices) / max(1, len(positives)),
        most_positives=int(per_row.max(initial=0)),
        rows_without_labels=int((per_row == 0).sum()),
        labels=int(present.sum()),
        labels_unseen=int((present & (counts == 0)).sum()),
        positives_unseen=int((counts[positives.indices] == 0).sum()),
        empty_texts=int((texts.words == 0).sum()),
        repeated_texts=len(texts.digests) - len(np.unique(texts.digests)),
        texts_in_train=in_train,
        words=_quantiles(texts.words),
        characters=_quantiles(texts.characters),
    )


def _quantiles(values: NDArray[np.int64]) -> dict[str, float]:
    return {f"{q:g}": float(value) for q, value in zip(QUANTILES, np.quantile(values, QUANTILES), strict=True)}


def _label_class(counts: NDArray[np.int64], at_least: int, at_most: int | None) -> LabelClass:
    inside = counts >= at_least
    if at_most is not None:
        inside &= counts <= at_most
    return LabelClass(at_least, at_most, int(inside.sum()), int(counts[inside].sum()))
