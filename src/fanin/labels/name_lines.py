"""Label names as lines of JSON strings: checked, written and read block by block."""

from __future__ import annotations

import json
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np

from fanin.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

NAMES_AT_A_TIME = 65_536
_READ_BYTES = 1 << 20
_NEWLINE = ord("\n")
_encode = json.JSONEncoder(ensure_ascii=False).encode


def blocks(names: Iterable[str]) -> Iterator[list[str]]:
    """The names in lists of up to 65,536."""
    ahead = iter(names)
    while block := list(islice(ahead, NAMES_AT_A_TIME)):
        yield block


def encode_names(names: Sequence[str], first: int, source: str) -> bytes:
    """Some names as UTF-8, a JSON string a line.

    Args:
        names: the names.
        first: place of the first one among all names, from 0.
        source: what they were read from, for the message of an error.

    Raises:
        DataError: a name is blank or not valid Unicode.
    """
    for i, name in enumerate(names, first + 1):
        if not name or name.isspace():
            raise DataError(f"{source}, line {i}: the label name is empty; give every label a name")
    try:
        return "".join([_encode(name) + "\n" for name in names]).encode()
    except UnicodeEncodeError as error:
        wrong = next(name for name in names if any("\ud800" <= character <= "\udfff" for character in name))
        raise DataError(f"{source}: the label name {wrong!r} holds half a surrogate pair; repair it") from error


def line_lengths(lines: bytes) -> NDArray[np.uint32]:
    """How many bytes each line has, its line end included; a last line may be without one."""
    ends = np.flatnonzero(np.frombuffer(lines, np.uint8) == _NEWLINE) + 1
    if lines and not lines.endswith(b"\n"):
        ends = np.append(ends, len(lines))
    return np.diff(ends, prepend=0).astype(np.uint32)


def read_name_lines(path: Path) -> Iterator[tuple[bytes, list[str]]]:
    """The lines of a file in blocks, as they stand there and as the names that they hold.

    Raises:
        DataError: the file cannot be read or a line is no JSON string; the message names it.
    """
    line, byte = 1, 0
    for block in _whole_lines(path):
        yield block, _parsed(block, path, line, byte)
        line += block.count(b"\n")
        byte += len(block)


def parse_names(lines: Iterable[bytes | bytearray]) -> list[str]:
    """The names in lines that were checked before, each with or without its line end."""
    names: list[str] = json.loads(b"[" + b",".join(lines) + b"]")
    return names


def whole_lines(lines: bytes) -> list[bytes]:
    """Some lines one by one."""
    return lines.removesuffix(b"\n").split(b"\n")


def hashes(names: Sequence[str]) -> NDArray[np.int64]:
    """A number for each name, equal for equal names; another one in every process."""
    return np.fromiter(map(hash, names), np.int64, len(names))


def first_repeated(found: NDArray[np.int64], name: Callable[[int], str]) -> tuple[int, int] | None:
    """The two places at which one name stands, the second as early as possible; None where all differ.

    Args:
        found: (L,) the hash of every name.
        name: gives the name at a place.
    """
    ascending = np.sort(found)
    again = np.unique(ascending[1:][ascending[1:] == ascending[:-1]])
    first: dict[str, int] = {}
    for place in np.flatnonzero(np.isin(found, again)).tolist() if len(again) else ():
        if first.setdefault(name(place), place) != place:
            return first[name(place)], place
    return None


def _whole_lines(path: Path) -> Iterator[bytes]:
    pending = b""
    try:
        with path.open("rb") as file:
            while piece := file.read(_READ_BYTES):
                end = piece.rfind(b"\n") + 1
                if end:
                    yield pending + piece[:end]
                    pending = piece[end:]
                else:
                    pending += piece
    except OSError as error:
        raise DataError(f"{path}: cannot read the label names ({error.strerror}); is it complete?") from error
    if pending:
        yield pending


def _parsed(block: bytes, path: Path, first_line: int, first_byte: int) -> list[str]:
    try:
        lines = block.decode().removesuffix("\n").split("\n")
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path}: byte {first_byte + error.start + 1} is not UTF-8; copy the damaged file again"
        ) from error
    # One call for the whole block is many times faster than one a line. It accepts nothing else than a string a line: a
    # string cannot run over a line end, and a line of two would need one of none, which is no JSON between two commas.
    try:
        names = json.loads("[" + ",\n".join(lines) + "]")
    except (ValueError, RecursionError):
        names = None
    if names is not None and len(names) == len(lines) and all(isinstance(name, str) for name in names):
        return list(names)
    for number, line in enumerate(lines, first_line):
        try:
            name = json.loads(line)
        except (ValueError, RecursionError):
            name = None
        if not isinstance(name, str):
            raise DataError(f"{path}, line {number}: not a JSON string; the file was damaged, copy it again")
    raise AssertionError("every line is a JSON string, so the block as a whole must have parsed")
