"""The relevant labels of each row, and the files ``label:value ...`` and ``row label`` that hold them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from fanin.data.batches import join_offsets
from fanin.data.lines import read_blocks
from fanin.data.tokens import Tokens, describe_token, scan
from fanin.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from numpy.typing import NDArray

MAX_COLUMNS = 2**31 - 1
_HEADER = re.compile(rb"[ \t]*(\d{1,18})[ \t]+(\d{1,18})[ \t]*")
_THREE_NUMBERS = re.compile(rb"\s*\d+\s+\d+\s+\d+\s*")


@dataclass(frozen=True)
class LabelRows:
    """Relevant labels as CSR; within a row they are sorted and stand once. Rows may be empty.

    Attributes:
        indptr: (N + 1,) int64, row i owns ``indices[indptr[i]:indptr[i + 1]]``.
        indices: (P,) int32 label ids, each below ``columns``.
        columns: L, the number of labels.
    """

    indptr: NDArray[np.int64]
    indices: NDArray[np.int32]
    columns: int

    def __len__(self) -> int:
        """N, the number of rows."""
        return len(self.indptr) - 1

    def counts(self) -> NDArray[np.int64]:
        """How many rows have each label, (L,) int64."""
        return np.bincount(self.indices, minlength=self.columns).astype(np.int64)


def make_label_rows(rows: NDArray[np.int64], labels: NDArray[np.int64], n_rows: int, columns: int) -> LabelRows:
    """Sort (row, label) pairs into CSR; a pair that stands twice counts once.

    Args:
        rows: (P,) in [0, n_rows), in any order.
        labels: (P,) in [0, columns).
        n_rows: number of rows.
        columns: number of labels.
    """
    if len(rows) > 1:
        ordered = (rows[1:] > rows[:-1]) | ((rows[1:] == rows[:-1]) & (labels[1:] > labels[:-1]))
        if not ordered.all():
            order = np.lexsort((labels, rows))
            rows, labels = rows[order], labels[order]
            first = np.ones(len(rows), dtype=np.bool_)
            first[1:] = (rows[1:] != rows[:-1]) | (labels[1:] != labels[:-1])
            rows, labels = rows[first], labels[first]
    indptr = np.zeros(n_rows + 1, dtype=np.int64)
    np.cumsum(np.bincount(rows, minlength=n_rows), out=indptr[1:])
    return LabelRows(indptr, labels.astype(np.int32), columns)


def read_header(path: Path) -> tuple[int, int]:
    """The rows and columns that the first line of a label file promises; nothing is allocated for them.

    Raises:
        DataError: the file cannot be read or its first line is not two whole numbers.
    """
    line = next(read_blocks(path))[1].split(b"\n", 1)[0]
    match = _HEADER.fullmatch(line)
    if match is None:
        what = f'expected the header "rows columns", found {describe_token(line)}'
        if _THREE_NUMBERS.fullmatch(line):
            what += " (the header of a bag-of-words file; name it train.txt or test.txt)"
        raise DataError(f"{path}, line 1: {what}; write the number of texts and of labels there")
    rows, columns = int(match[1]), int(match[2])
    if columns > MAX_COLUMNS:
        raise DataError(f"{path}, line 1: {columns} columns (labels); at most {MAX_COLUMNS} are supported")
    return rows, columns


def label_row_blocks(path: Path) -> Iterator[LabelRows]:
    """Read "rows columns", then a row a line of ``label:value`` or ``label``, parted by spaces or tabs, in blocks.

    A label whose value is 0 is not relevant; a label that stands twice in a row counts once.

    Raises:
        DataError: the file is unreadable or empty, the header is malformed or disagrees with the number of lines, a
            label id is not a whole number in [0, columns), or a value is not a finite number of at least 0.
    """
    n_rows, columns = read_header(path)
    for first_line, block, lines in promised_blocks(path, n_rows):
        tokens = scan(path, first_line, block, columns)
        relevant = tokens.value > 0
        yield make_label_rows(tokens.line[relevant], tokens.number[relevant], lines, columns)


def read_pairs(path: Path, n_rows: int, columns: int) -> LabelRows:
    """Read "row label" pairs, one a line (blank lines are passed over); an empty file holds none.

    Raises:
        DataError: the file is unreadable, a line is not two whole numbers, or one of them is out of range.
    """
    rows, labels = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
    if path.is_file() and path.stat().st_size == 0:
        return make_label_rows(rows[0], labels[0], n_rows, columns)
    for first_line, block in read_blocks(path):
        tokens = scan(path, first_line, block, np.iinfo(np.int64).max, with_values=False)
        per_line = np.bincount(tokens.line, minlength=1)
        wrong = np.flatnonzero((per_line != 2) & (per_line != 0))
        if len(wrong):
            line = first_line + int(wrong[0])
            raise DataError(f'{path}, line {line}: expected "row label", found {per_line[wrong[0]]} numbers')
        row, label = tokens.number[0::2], tokens.number[1::2]
        _check_range(path, first_line, tokens, row, n_rows, "row")
        _check_range(path, first_line, tokens, label, columns, "label id")
        rows.append(row)
        labels.append(label)
    return make_label_rows(np.concatenate(rows), np.concatenate(labels), n_rows, columns)


def blocks_after_header(path: Path) -> Iterator[tuple[int, bytes]]:
    """As :func:`fanin.data.lines.read_blocks`, from line 2 on."""
    for first_line, block in read_blocks(path):
        if first_line > 1:
            yield first_line, block
            continue
        rest = block.split(b"\n", 1)[1]
        if rest:
            yield 2, rest


def promised_blocks(path: Path, n_rows: int) -> Iterator[tuple[int, bytes, int]]:
    """As :func:`blocks_after_header`, with the number of lines of each block; nothing is allocated for a promise.

    Args:
        path: of the file.
        n_rows: how many rows its header promises.

    Raises:
        DataError: there are more or fewer lines.
    """
    seen = 0
    for first_line, block in blocks_after_header(path):
        lines = block.count(b"\n")
        if seen + lines > n_rows:
            raise row_mismatch(path, n_rows, f"more lines than that, from line {n_rows + 2} on")
        yield first_line, block, lines
        seen += lines
    if seen < n_rows:
        raise row_mismatch(path, n_rows, f"only {seen} lines behind it")


def row_mismatch(path: Path, promised: int, found: str) -> DataError:
    """What to raise where a header and its file disagree; ``found`` says what there is."""
    return DataError(
        f"{path}, line 1: the header promises {promised} rows, but there are {found}; "
        "correct the header, or complete the file (a text without labels is an empty line)"
    )


def _check_range(path: Path, first_line: int, tokens: Tokens, values: NDArray[np.int64], limit: int, what: str) -> None:
    wrong = np.flatnonzero(values >= limit)
    if len(wrong):
        line = first_line + int(tokens.line[2 * wrong[0]])
        raise DataError(f"{path}, line {line}: {what} {values[wrong[0]]} is not below {limit}; ids count from 0")


def join_label_rows(blocks: Iterable[LabelRows], columns: int) -> LabelRows:
    """Blocks of rows, one behind the other; there may be none."""
    parts = list(blocks)
    if len(parts) == 1:
        return parts[0]
    indices = np.concatenate([np.empty(0, np.int32), *(part.indices for part in parts)])
    return LabelRows(join_offsets(part.indptr for part in parts), indices, columns)
