"""The names of the labels and their outer ids."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, overload

import numpy as np

from fanin.errors import DataError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

MAX_LABELS = 2**31 - 1
"""Label ids are stored in 32 bits."""


class LabelVocabulary(Sequence[str]):
    """Label names, unique and not blank; a name's place is its outer id.

    The names are held as one UTF-8 buffer with offsets (30 MB for 10^6 names of 22 bytes), not as Python strings; the
    table from names to ids is made at the first look-up by name.

    >>> vocabulary = LabelVocabulary(["tea", "coffee"])
    >>> len(vocabulary), vocabulary[1], vocabulary.names([1, 0])
    (2, 'coffee', ['coffee', 'tea'])
    >>> vocabulary.ids(["coffee", "milk"])
    array([ 1, -1])

    Args:
        names: in the order of the ids.
        source: what the names were read from, for the message of an error.

    Raises:
        DataError: there are no names, or a name is blank, stands twice or is not valid Unicode.
    """

    def __init__(self, names: Iterable[str], *, source: str = "label names") -> None:
        names = names if isinstance(names, list | tuple) else list(names)
        _check_names(names, source)
        encoded = [name.encode() for name in names]
        self._bytes = b"".join(encoded)
        self._offsets = np.zeros(len(encoded) + 1, dtype=np.int64)  # (L + 1,)
        np.cumsum(np.fromiter(map(len, encoded), dtype=np.int64, count=len(encoded)), out=self._offsets[1:])
        self._id_of: dict[str, int] | None = None

    def __len__(self) -> int:
        """L, the number of labels."""
        return len(self._offsets) - 1

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> list[str]: ...
    def __getitem__(self, index: int | slice) -> str | list[str]:
        """The name of one label, or the names of a range; negative indices count from the end."""
        if isinstance(index, slice):
            return [self._name(i) for i in range(*index.indices(len(self)))]
        place = index + len(self) if index < 0 else index
        if not 0 <= place < len(self):
            raise IndexError(f"label id {index} is not below the {len(self)} labels")
        return self._name(place)

    def __iter__(self) -> Iterator[str]:
        """The names in the order of the ids."""
        return (self._name(i) for i in range(len(self)))

    def __eq__(self, other: object) -> bool:
        """Whether the other vocabulary has the same names in the same order."""
        if not isinstance(other, LabelVocabulary):
            return NotImplemented
        return self._bytes == other._bytes and np.array_equal(self._offsets, other._offsets)

    __hash__ = None  # type: ignore[assignment]

    def names(self, ids: ArrayLike) -> list[str]:
        """The names of many labels, in the order of ``ids`` (flattened)."""
        return [self[int(i)] for i in np.asarray(ids, dtype=np.int64).ravel()]

    def ids(self, names: Iterable[str]) -> NDArray[np.int64]:
        """The ids of many names, -1 where a name is unknown."""
        if self._id_of is None:
            self._id_of = {name: i for i, name in enumerate(self)}
        id_of = self._id_of
        return np.array([id_of.get(name, -1) for name in names], dtype=np.int64)

    def save(self, path: Path | str) -> None:
        """Write the names as UTF-8, one JSON string a line."""
        with Path(path).open("w", encoding="utf-8", newline="\n") as file:
            file.writelines(json.dumps(name, ensure_ascii=False) + "\n" for name in self)

    @classmethod
    def load(cls, path: Path | str) -> LabelVocabulary:
        """Read a file written by :meth:`save`.

        Raises:
            DataError: the file cannot be read or is not of that form; the message names the line.
        """
        path = Path(path)
        try:
            lines = path.read_bytes().decode().removesuffix("\n").split("\n")
        except OSError as error:
            raise DataError(f"{path}: cannot read the label names ({error.strerror}); is it complete?") from error
        except UnicodeDecodeError as error:
            raise DataError(f"{path}: byte {error.start + 1} is not UTF-8; copy the damaged file again") from error
        return cls(_parse_names(lines, path), source=str(path))

    def _name(self, place: int) -> str:
        return self._bytes[self._offsets[place] : self._offsets[place + 1]].decode()


def _check_names(names: Sequence[str], source: str) -> None:
    if not names:
        raise DataError(f"{source}: there are no labels; give at least one")
    if len(names) > MAX_LABELS:
        raise DataError(f"{source}: {len(names)} labels; at most {MAX_LABELS} are supported")
    for i, name in enumerate(names):
        if not name or name.isspace():
            raise DataError(f"{source}, line {i + 1}: the label name is empty; give every label a name")
    if len(set(names)) < len(names):
        first: dict[str, int] = {}
        for i, name in enumerate(names):
            if first.setdefault(name, i) != i:
                raise DataError(
                    f"{source}, lines {first[name] + 1} and {i + 1}: both labels are named {name!r}; "
                    "merge the two labels or give them different names"
                )
    try:
        for name in names:
            name.encode()
    except UnicodeEncodeError as error:
        raise DataError(f"{source}: the label name {error.object!r} holds half a surrogate pair; repair it") from error


def _parse_names(lines: list[str], path: Path) -> list[str]:
    # One call for the whole file is many times faster than one a line. It accepts nothing else than a string a line: a
    # string cannot run over a line end, and a line of two would need one of none, which is no JSON between two commas.
    try:
        names = json.loads("[" + ",\n".join(lines) + "]")
    except (ValueError, RecursionError):
        names = None
    if names is not None and len(names) == len(lines) and all(isinstance(name, str) for name in names):
        return list(names)
    for number, line in enumerate(lines, 1):
        try:
            name = json.loads(line)
        except (ValueError, RecursionError):
            name = None
        if not isinstance(name, str):
            raise DataError(f"{path}, line {number}: not a JSON string; the file was damaged, copy it again")
    raise AssertionError("every line is a JSON string, so the file as a whole must have parsed")
