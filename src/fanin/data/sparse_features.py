"""Sparse features in text files: rows of ``feature:value``, alone or behind a row's labels."""

from __future__ import annotations

import re
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from fanin.data.feature_rows import FeatureSizes, SparseFeatures
from fanin.data.label_rows import MAX_COLUMNS, LabelRows, blocks_after_header, make_label_rows, row_mismatch
from fanin.data.lines import read_blocks
from fanin.data.tokens import describe_token, scan
from fanin.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

_HEADER = re.compile(rb"[ \t]*(\d{1,18})[ \t]+(\d{1,18})(?:[ \t]+(\d{1,18}))?[ \t]*")


def read_sparse_features(path: Path) -> SparseFeatures:
    """Read "rows columns", then a row a line of ``feature:value``, parted by spaces or tabs.

    A feature without a value counts as 1, one that stands twice in a row as the sum.

    Raises:
        DataError: the file is unreadable or empty, the header is malformed or disagrees with the number of lines, a
            feature is not a whole number in [0, columns), or a value is not a finite number.
    """
    n_rows, columns, n_labels = _read_header(path)
    if n_labels is not None:
        raise DataError(
            f'{path}, line 1: expected the header "rows features", found three numbers; a file with labels and '
            "features in one is named train.txt or test.txt"
        )
    collected = _Collected(path, n_rows, columns)
    for first_line, block in blocks_after_header(path):
        collected.add(first_line, block)
    return collected.finish()


def sparse_feature_sizes(path: Path) -> FeatureSizes:
    """How large the features in a file are, by its header and its first rows.

    Raises:
        DataError: as :func:`read_sparse_features`.
    """
    _, columns, _ = _read_header(path)
    return _sizes(path, columns, blocks_after_header(path))


def _sizes(path: Path, columns: int, blocks: Iterator[tuple[int, bytes]]) -> FeatureSizes:
    values = lines = 0
    for first_line, block in islice(blocks, 1):
        values += len(scan(path, first_line, block, columns, signed=True, name="feature").number)
        lines += block.count(b"\n")
    return FeatureSizes(columns, 0, values / max(lines, 1))


class BagOfWordsHeader(NamedTuple):
    """What the first line of a file of the Extreme Classification Repository promises.

    Attributes:
        rows: N.
        columns: D0, the number of features.
        labels: L.
    """

    rows: int
    columns: int
    labels: int


def read_bag_of_words_header(path: Path) -> BagOfWordsHeader:
    """The header of a file that :func:`read_bag_of_words` reads.

    Raises:
        DataError: the file is unreadable or empty, or the header is malformed.
    """
    rows, columns, labels = _read_header(path)
    if labels is None:
        raise DataError(f'{path}, line 1: expected the header "rows features labels", found two numbers')
    return BagOfWordsHeader(rows, columns, labels)


def bag_of_words_sizes(path: Path) -> FeatureSizes:
    """As :func:`sparse_feature_sizes`, of a file that :func:`read_bag_of_words` reads."""
    columns = read_bag_of_words_header(path).columns
    return _sizes(path, columns, ((line, _part(block)[1]) for line, block in blocks_after_header(path)))


def bag_of_words_labels(path: Path) -> Iterator[LabelRows]:
    """The labels alone of a file that :func:`read_bag_of_words` reads, in blocks of rows.

    Raises:
        DataError: as there, but for what is wrong with the features.
    """
    header, seen = read_bag_of_words_header(path), 0
    for first_line, block in blocks_after_header(path):
        tokens = scan(path, first_line, _part(block)[0], header.labels, with_values=False)
        lines = block.count(b"\n")
        yield make_label_rows(tokens.line, tokens.number, lines, header.labels)
        seen += lines
    if seen != header.rows:
        raise row_mismatch(path, header.rows, f"{seen} lines behind it")


def read_bag_of_words(path: Path) -> tuple[SparseFeatures, LabelRows]:
    """Read a file of the Extreme Classification Repository: "rows features labels", then ``l,l f:v f:v`` a line.

    Labels are parted by commas; a line that begins with a space, or with a feature, has none.

    Raises:
        DataError: as :func:`read_sparse_features`, or a label is not a whole number in [0, labels).
    """
    n_rows, columns, n_labels = read_bag_of_words_header(path)
    collected = _Collected(path, n_rows, columns)
    parts = []
    for first_line, block in blocks_after_header(path):
        labels, features = _part(block)
        lines = collected.add(first_line, features)
        tokens = scan(path, first_line, labels, n_labels, with_values=False)
        parts.append((tokens.line + (first_line - 2), tokens.number))
        assert lines == block.count(b"\n")
    rows = np.concatenate([np.empty(0, np.int64), *(part[0] for part in parts)])
    numbers = np.concatenate([np.empty(0, np.int64), *(part[1] for part in parts)])
    features_found = collected.finish()
    return features_found, make_label_rows(rows, numbers, len(features_found), n_labels)


class _Collected:
    """Rows of features as they are read; what the header promises is compared, and never allocated."""

    def __init__(self, path: Path, n_rows: int, columns: int) -> None:
        self._path, self._n_rows, self._columns = path, n_rows, columns
        self._lengths: list[NDArray[np.int64]] = []
        self._indices: list[NDArray[np.int32]] = []
        self._values: list[NDArray[np.float32]] = []
        self._seen = 0

    def add(self, first_line: int, block: bytes) -> int:
        """Read a block; gives its number of lines."""
        lines = block.count(b"\n")
        if self._seen + lines > self._n_rows:
            raise row_mismatch(self._path, self._n_rows, f"more lines than that, from line {self._n_rows + 2} on")
        tokens = scan(self._path, first_line, block, self._columns, signed=True, name="feature")
        self._lengths.append(np.bincount(tokens.line, minlength=lines))
        self._indices.append(tokens.number.astype(np.int32))
        self._values.append(self._narrowed(first_line, tokens.line, tokens.value))
        self._seen += lines
        return lines

    def finish(self) -> SparseFeatures:
        if self._seen < self._n_rows:
            raise row_mismatch(self._path, self._n_rows, f"only {self._seen} lines behind it")
        indptr = np.zeros(self._seen + 1, np.int64)
        if self._lengths:
            np.cumsum(np.concatenate(self._lengths), out=indptr[1:])
        indices = np.concatenate([np.empty(0, np.int32), *self._indices])
        values = np.concatenate([np.empty(0, np.float32), *self._values])
        return SparseFeatures(indptr, indices, values, self._columns)

    def _narrowed(self, first_line: int, line: NDArray[np.int64], value: NDArray[np.float64]) -> NDArray[np.float32]:
        wide = np.flatnonzero(np.abs(value) > np.finfo(np.float32).max)
        if len(wide):
            place = f"{self._path}, line {first_line + int(line[wide[0]])}"
            raise DataError(f"{place}: the value {value[wide[0]]:g} is too large for float32; scale the features")
        return value.astype(np.float32)


def _read_header(path: Path) -> tuple[int, int, int | None]:
    """Rows, features, and labels if the header has three numbers."""
    line = next(read_blocks(path))[1].split(b"\n", 1)[0]
    match = _HEADER.fullmatch(line)
    if match is None:
        raise DataError(
            f'{path}, line 1: expected the header "rows features" or "rows features labels", found '
            f"{describe_token(line)}"
        )
    numbers = [int(part) if part else None for part in match.groups()]
    for what, number in (("features", numbers[1]), ("labels", numbers[2])):
        if number is not None and number > MAX_COLUMNS:
            raise DataError(f"{path}, line 1: {number} {what}; at most {MAX_COLUMNS} are supported")
    assert numbers[0] is not None
    assert numbers[1] is not None
    return numbers[0], numbers[1], numbers[2]


def _part(block: bytes) -> tuple[bytes, bytes]:
    """The labels of each line, parted by spaces, and its features; both again as blocks of lines."""
    labels, features = [], []
    for line in block.split(b"\n")[:-1]:
        first, _, rest = line.replace(b"\t", b" ").partition(b" ")
        if b":" in first:
            first, rest = b"", line
        labels.append(first.replace(b",", b" "))
        features.append(rest)
    return b"\n".join([*labels, b""]), b"\n".join([*features, b""])
