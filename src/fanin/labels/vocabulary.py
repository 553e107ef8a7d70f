"""The names of the labels and their outer ids."""

from __future__ import annotations

import mmap
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias, overload

import numpy as np

from fanin.errors import DataError
from fanin.labels.name_lines import (
    NAMES_AT_A_TIME,
    blocks,
    encode_names,
    first_repeated,
    hashes,
    line_lengths,
    parse_names,
    read_name_lines,
    whole_lines,
)

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    Lines: TypeAlias = bytearray | mmap.mmap

MAX_LABELS = 2**31 - 1
"""Label ids are stored in 32 bits."""


class _Index(NamedTuple):
    """What a name is looked up by."""

    hashes: NDArray[np.int64]  # (L,) ascending
    places: NDArray[np.int32]  # (L,) the label of each


class LabelVocabulary(Sequence[str]):
    """Label names, unique and not blank; a name's place is its outer id.

    The names are never held as Python strings: they stay in the file that they are loaded from, which is memory-mapped,
    or else in one buffer of the same form. Beside them stand 4 bytes a label, and 12 more from the first look-up by
    name on.

    >>> vocabulary = LabelVocabulary(["tea", "coffee"])
    >>> len(vocabulary), vocabulary[1], vocabulary.names([1, 0])
    (2, 'coffee', ['coffee', 'tea'])
    >>> vocabulary.ids(["coffee", "milk"])
    array([ 1, -1])

    Args:
        names: in the order of the ids; read once.
        source: what the names were read from, for the message of an error.

    Raises:
        DataError: there are no names, or a name is blank, stands twice or is not valid Unicode.
    """

    def __init__(self, names: Iterable[str], *, source: str = "label names") -> None:
        lines, count = bytearray(), 0
        lengths, found = [], []
        for block in blocks(names):
            encoded = encode_names(block, count, source)
            lines += encoded
            lengths.append(line_lengths(encoded))
            found.append(hashes(block))
            count += len(block)
            _check_count(count, source)
        self._take(lines, lengths, found, source)

    def _take(
        self, lines: Lines, lengths: list[NDArray[np.uint32]], found: list[NDArray[np.int64]], source: str
    ) -> None:
        """Take up checked lines with their lengths; ``found`` are the hashes of the names."""
        if not lengths:
            raise DataError(f"{source}: there are no labels; give at least one")
        self._lines = lines
        self._starts = _starts(np.concatenate(lengths))  # (L + 1,)
        repeated = first_repeated(np.concatenate(found), self._name)
        if repeated is not None:
            first, second = repeated
            raise DataError(
                f"{source}, lines {first + 1} and {second + 1}: both labels are named {self[first]!r}; "
                "merge the two labels or give them different names"
            )

    def __len__(self) -> int:
        """L, the number of labels."""
        return len(self._starts) - 1

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> list[str]: ...
    def __getitem__(self, index: int | slice) -> str | list[str]:
        """The name of one label, or the names of a range; negative indices count from the end."""
        if isinstance(index, slice):
            return self._names(range(*index.indices(len(self))))
        place = index + len(self) if index < 0 else index
        if not 0 <= place < len(self):
            raise IndexError(f"label id {index} is not below the {len(self)} labels")
        return self._name(place)

    def __iter__(self) -> Iterator[str]:
        """The names in the order of the ids."""
        for lines in self._blocks():
            yield from parse_names(whole_lines(lines))

    def __eq__(self, other: object) -> bool:
        """Whether the other vocabulary has the same names in the same order."""
        if not isinstance(other, LabelVocabulary):
            return NotImplemented
        if len(self) != len(other):
            return False
        for own, their in zip(self._blocks(), other._blocks(), strict=True):
            if own != their and parse_names(whole_lines(own)) != parse_names(whole_lines(their)):
                return False
        return True

    __hash__ = None  # type: ignore[assignment]

    def names(self, ids: ArrayLike) -> list[str]:
        """The names of many labels, in the order of ``ids`` (flattened)."""
        wanted = np.asarray(ids, dtype=np.int64).ravel()
        wrong = wanted[(wanted < -len(self)) | (wanted >= len(self))]
        if len(wrong):
            raise IndexError(f"label id {wrong[0]} is not below the {len(self)} labels")
        return self._names((wanted % len(self)).tolist())

    def ids(self, names: Iterable[str]) -> NDArray[np.int64]:
        """The ids of many names, -1 where a name is unknown."""
        if isinstance(names, LabelVocabulary) and names == self:
            return np.arange(len(self))
        return np.concatenate([np.empty(0, np.int64), *map(self._ids, blocks(names))])

    def save(self, path: Path | str) -> None:
        """Write the names as UTF-8, one JSON string a line."""
        with Path(path).open("wb") as file:
            file.writelines(self._blocks())

    @classmethod
    def write(cls, names: Iterable[str], path: Path | str, *, source: str = "label names") -> LabelVocabulary:
        """Write names as :meth:`save` does, without holding them, and map the file.

        Args:
            names: in the order of the ids; read once.
            path: of the file.
            source: what the names were read from, for the message of an error.

        Raises:
            DataError: as for the class.
        """
        count = 0
        with Path(path).open("wb") as file:
            for block in blocks(names):
                file.write(encode_names(block, count, source))
                count += len(block)
                _check_count(count, source)
        if not count:
            raise DataError(f"{source}: there are no labels; give at least one")
        return cls.load(path, source=source)

    @classmethod
    def load(cls, path: Path | str, *, source: str | None = None) -> LabelVocabulary:
        """Map a file written by :meth:`save`; it is read and checked once, and must stay as it is.

        Args:
            path: of the file.
            source: what the names were read from in the first place, for the message of an error; by default the file.

        Raises:
            DataError: the file cannot be read or is not of that form; the message names the line.
        """
        path = Path(path)
        source = source or str(path)
        vocabulary = cls.__new__(cls)
        lengths, found, count = [], [], 0
        for lines, names in read_name_lines(path):
            encode_names(names, count, source)
            lengths.append(line_lengths(lines))
            found.append(hashes(names))
            count += len(names)
            _check_count(count, source)
        if not lengths:
            raise DataError(f"{path}, line 1: not a JSON string; the file was damaged, copy it again")
        with path.open("rb") as file:
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        vocabulary._take(mapped, lengths, found, source)  # noqa: SLF001 - our own
        return vocabulary

    def _name(self, place: int) -> str:
        return self._names([place])[0]

    def _names(self, places: Sequence[int]) -> list[str]:
        wanted = np.asarray(places, np.int64)
        spans = zip(self._starts[wanted].tolist(), self._starts[wanted + 1].tolist(), strict=True)
        return parse_names(self._lines[start:stop] for start, stop in spans)

    def _ids(self, names: list[str]) -> NDArray[np.int64]:
        index, wanted = self._index, hashes(names)
        place = np.minimum(np.searchsorted(index.hashes, wanted), len(self) - 1)
        ids = np.full(len(names), -1)
        likely = np.flatnonzero(index.hashes[place] == wanted)
        labels = index.places[place[likely]].tolist()
        for i, label, name in zip(likely.tolist(), labels, self._names(labels), strict=True):
            ids[i] = label if name == names[i] else self._with_this_hash(names[i], int(place[i]))
        return ids

    def _with_this_hash(self, name: str, place: int) -> int:
        """The id of a name whose hash others have too, in the index from ``place`` on; -1 if it is unknown."""
        index = self._index
        last = int(np.searchsorted(index.hashes, index.hashes[place], side="right"))
        return next((label for label in index.places[place:last].tolist() if self._name(label) == name), -1)

    @cached_property
    def _index(self) -> _Index:
        found = np.concatenate([hashes(parse_names(whole_lines(lines))) for lines in self._blocks()])
        order = np.argsort(found, kind="stable").astype(np.int32)
        return _Index(found[order], order)

    def _blocks(self) -> Iterator[bytes]:
        """All lines, so many names at a time; of a mapped file no block stays in memory."""
        for first in range(0, len(self), NAMES_AT_A_TIME):
            start, stop = (int(self._starts[min(i, len(self))]) for i in (first, first + NAMES_AT_A_TIME))
            yield bytes(self._lines[start:stop])
            if isinstance(self._lines, mmap.mmap):
                page = start - start % mmap.PAGESIZE
                self._lines.madvise(mmap.MADV_DONTNEED, page, stop - page)


def _check_count(count: int, source: str) -> None:
    if count > MAX_LABELS:
        raise DataError(f"{source}: more than {MAX_LABELS} labels; no more are supported")


def _starts(lengths: NDArray[np.uint32]) -> NDArray[np.integer[Any]]:
    """Where each line starts, and where the last one ends; in 4 bytes each where they suffice."""
    total = int(lengths.sum(dtype=np.int64))
    starts: NDArray[np.integer[Any]] = np.zeros(len(lengths) + 1, np.int64 if total >> 32 else np.uint32)
    np.cumsum(lengths, dtype=starts.dtype, out=starts[1:])
    return starts
