"""Sparse features in text files: rows of ``feature:value``, alone or behind a row's labels."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from fanin.data.feature_rows import FeatureSizes, SparseFeatures, join_features
from fanin.data.label_rows import MAX_COLUMNS, LabelRows, blocks_after_header, make_label_rows, promised_blocks
from fanin.data.lines import read_blocks
from fanin.data.tokens import describe_token, scan
from fanin.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_HEADER = re.compile(rb"[ \t]*(\d{1,18})[ \t]+(\d{1,18})(?:[ \t]+(\d{1,18}))?[ \t]*")


def sparse_feature_blocks(path: Path) -> Iterator[SparseFeatures]:
    """Stream "rows columns", then a row a line of ``feature:value``, parted by spaces or tabs, in blocks of rows.

    A feature without a value counts as 1, one that stands twice in a row as the sum.

    Raises:
        DataError: the file is unreadable or empty, the header is malformed or disagrees with the number of lines, a
            feature is not a whole number in [0, columns), or a value is not a finite number.
    """
    n_rows, columns = _read_own_header(path)
    for first_line, block, lines in promised_blocks(path, n_rows):
        yield _features(path, first_line, block, lines, columns)


def read_sparse_features(path: Path) -> SparseFeatures:
    """All of :func:`sparse_feature_blocks`, in memory.

    Raises:
        DataError: as there.
    """
    _, columns = _read_own_header(path)
    return join_features(sparse_feature_blocks(path), columns)


def sparse_feature_sizes(path: Path) -> FeatureSizes:
    """How large the features in a file are, by its header and its first rows.

    Raises:
        DataError: as :func:`sparse_feature_blocks`.
    """
    _, columns = _read_own_header(path)
    return _sizes(path, columns, next(blocks_after_header(path), None))


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
    """The header of a file that :func:`bag_of_words_features` reads.

    Raises:
        DataError: the file is unreadable or empty, or the header is malformed.
    """
    rows, columns, labels = _read_header(path)
    if labels is None:
        raise DataError(f'{path}, line 1: expected the header "rows features labels", found two numbers')
    return BagOfWordsHeader(rows, columns, labels)


def bag_of_words_features(path: Path) -> Iterator[SparseFeatures]:
    """Stream the features in a file of the Extreme Classification Repository, in blocks of rows.

    Such a file has the header "rows features labels", then ``l,l f:v f:v`` a line. Labels are parted by commas; a line
    that begins with a space, or with a feature, has none.

    Raises:
        DataError: as :func:`sparse_feature_blocks`, but for what is wrong with the labels.
    """
    n_rows, columns, _ = read_bag_of_words_header(path)
    for first_line, block, lines in promised_blocks(path, n_rows):
        yield _features(path, first_line, _part(block)[1], lines, columns)


def bag_of_words_labels(path: Path) -> Iterator[LabelRows]:
    """Stream the labels in a file that :func:`bag_of_words_features` reads, in blocks of rows.

    Raises:
        DataError: the file is unreadable or empty, the header is malformed or disagrees with the number of lines, or a
            label is not a whole number in [0, labels).
    """
    n_rows, _, n_labels = read_bag_of_words_header(path)
    for first_line, block, lines in promised_blocks(path, n_rows):
        tokens = scan(path, first_line, _part(block)[0], n_labels, with_values=False)
        yield make_label_rows(tokens.line, tokens.number, lines, n_labels)


def bag_of_words_sizes(path: Path) -> FeatureSizes:
    """As :func:`sparse_feature_sizes`, of a file that :func:`bag_of_words_features` reads."""
    columns = read_bag_of_words_header(path).columns
    first = next(blocks_after_header(path), None)
    return _sizes(path, columns, first and (first[0], _part(first[1])[1]))


def _features(path: Path, first_line: int, block: bytes, lines: int, columns: int) -> SparseFeatures:
    """The rows of a block of so many lines."""
    tokens = scan(path, first_line, block, columns, signed=True, name="feature")
    wide = np.flatnonzero(np.abs(tokens.value) > np.finfo(np.float32).max)
    if len(wide):
        place = f"{path}, line {first_line + int(tokens.line[wide[0]])}"
        raise DataError(f"{place}: the value {tokens.value[wide[0]]:g} is too large for float32; scale the features")
    indptr = np.zeros(lines + 1, np.int64)
    np.cumsum(np.bincount(tokens.line, minlength=lines), out=indptr[1:])
    return SparseFeatures(indptr, tokens.number.astype(np.int32), tokens.value.astype(np.float32), columns)


def _sizes(path: Path, columns: int, first: tuple[int, bytes] | None) -> FeatureSizes:
    """By the first block of rows, if there are any."""
    if first is None:
        return FeatureSizes(columns, 0, 0.0)
    first_line, block = first
    lines = block.count(b"\n")
    return FeatureSizes(columns, 0, len(_features(path, first_line, block, lines, columns).indices) / lines)


def _read_own_header(path: Path) -> tuple[int, int]:
    """Rows and features of a file without labels."""
    n_rows, columns, n_labels = _read_header(path)
    if n_labels is not None:
        raise DataError(
            f'{path}, line 1: expected the header "rows features", found three numbers; a file with labels and '
            "features in one is named train.txt or test.txt"
        )
    return n_rows, columns


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
