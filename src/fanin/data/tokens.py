"""Vectorised parsing of ``number`` and ``number:value`` tokens, a block of lines at a time."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from fanin.errors import DataError

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

_MAX_DIGITS = 18  # a number of 18 digits fits int64
_SHORT_VALUE = 8  # values of up to 8 bytes are compared as one uint64
_NEWLINE, _SPACE, _TAB, _COLON, _ZERO, _NINE = b"\n \t:09"
_VALUE = re.compile(rb"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
_NOT_FINITE = re.compile(rb"[+-]?(nan|inf|infinity)", re.IGNORECASE)


class Tokens(NamedTuple):
    """The tokens of a block of lines, in order."""

    line: NDArray[np.int64]  # (P,) from 0, within the block
    number: NDArray[np.int64]  # (P,) the part in front of the colon
    value: NDArray[np.float64]  # (P,) the part behind it, 1 where there is none


class _Places(NamedTuple):
    """Where the tokens stand in the block: bytes [start, end), the number up to ``split``."""

    start: NDArray[np.int64]
    split: NDArray[np.int64]
    end: NDArray[np.int64]


def scan(
    path: Path,
    first_line: int,
    block: bytes,
    limit: int,
    *,
    with_values: bool = True,
    signed: bool = False,
    name: str = "label",
) -> Tokens:
    """Parse every token of a block.

    Args:
        path: named in errors.
        first_line: the file's line number of the block's first line.
        block: whole lines, each ended by a line feed; tokens are parted by spaces and tabs.
        limit: numbers must be below it.
        with_values: whether ``:value`` may follow a number.
        signed: whether values may be negative.
        name: what the numbers are, for errors.

    Raises:
        DataError: the first token in the block that is malformed or out of range.
    """
    data = np.frombuffer(block, dtype=np.uint8)
    places = _find(data)
    number, malformed = _numbers(data, places)
    has_value = places.split < places.end
    value, not_finite = _values(data, block, places, has_value) if with_values else (np.ones(len(number)), has_value)
    bad = malformed | (number >= limit) | not_finite
    if not signed:
        bad |= value < 0
    newlines = np.flatnonzero(data == _NEWLINE)
    line = np.searchsorted(newlines, places.start)
    if bad.any():
        i = int(np.flatnonzero(bad)[0])
        token = block[places.start[i] : places.end[i]]
        fault = _fault(token, limit, name, malformed=bool(malformed[i]), with_values=with_values)
        raise DataError(f"{path}, line {first_line + int(line[i])}: {fault}")
    return Tokens(line.astype(np.int64), number, value)


def describe_token(token: bytes) -> str:
    """A token for an error message: quoted, escaped and shortened."""
    return repr(token[:40].decode(errors="replace")) + ("..." if len(token) > 40 else "")


def _find(data: NDArray[np.uint8]) -> _Places:
    inside = np.zeros(len(data) + 2, dtype=np.int8)
    inside[1:-1] = (data != _SPACE) & (data != _TAB) & (data != _NEWLINE)
    edge = np.diff(inside)
    start, end = np.flatnonzero(edge == 1), np.flatnonzero(edge == -1)
    colons = np.append(np.flatnonzero(data == _COLON), len(data))
    split = np.minimum(colons[np.searchsorted(colons, start)], end)
    return _Places(start, split, end)


def _numbers(data: NDArray[np.uint8], places: _Places) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """The numbers, and which of them are no numbers (their value is then meaningless, but never negative)."""
    length = places.split - places.start
    malformed = (length == 0) | (length > _MAX_DIGITS)
    number = np.zeros(len(length), dtype=np.int64)
    for i in range(min(int(length.max(initial=0)), _MAX_DIGITS)):
        here = np.flatnonzero(length > i)
        digit = data[places.start[here] + i].astype(np.int64)
        malformed[here] |= (digit < _ZERO) | (digit > _NINE)
        number[here] = number[here] * 10 + np.clip(digit - _ZERO, 0, 9)
    return number, malformed


def _values(
    data: NDArray[np.uint8], block: bytes, places: _Places, has_value: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """The values (1 where there is none, NaN where malformed), and which are not finite numbers."""
    value = np.ones(len(has_value))
    begin = places.split + 1
    length = np.where(has_value, places.end - begin, 0)
    # Nearly every file says 1.0 or 1 throughout: equal short values are parsed once.
    short = np.flatnonzero(has_value & (length <= _SHORT_VALUE))
    key = np.full((len(short), _SHORT_VALUE), _SPACE, dtype=np.uint8)  # no token holds a space
    for i in range(min(int(length[short].max(initial=0)), _SHORT_VALUE)):
        here = np.flatnonzero(length[short] > i)
        key[here, i] = data[begin[short[here]] + i]
    distinct, first, which = np.unique(key.view(np.uint64).ravel(), return_index=True, return_inverse=True)
    parsed = np.empty(len(distinct))
    for j, i in enumerate(short[first]):
        parsed[j] = _parse_value(block[begin[i] : places.end[i]])
    value[short] = parsed[which]
    for long in np.flatnonzero(has_value & (length > _SHORT_VALUE)):
        value[long] = _parse_value(block[begin[long] : places.end[long]])
    return value, ~np.isfinite(value)


def _parse_value(text: bytes) -> float:
    return float(text) if _VALUE.fullmatch(text) else math.nan


def _fault(token: bytes, limit: int, name: str, *, malformed: bool, with_values: bool) -> str:
    shown = describe_token(token)
    number, colon, value = token.partition(b":")
    if not with_values and colon:
        return f'expected "row label" without values, found {shown}'
    if malformed:
        negative = number[:1] == b"-" and number[1:].isdigit()
        expected = f'expected "{name}:value" or "{name}" with a whole number as {name}'
        what = "the id is negative" if negative else expected
        return f"{what}, found {shown}; ids count from 0"
    if int(number) >= limit:
        return f"id {int(number)} is not below {limit}, the number of columns; ids count from 0"
    if _NOT_FINITE.fullmatch(value) or (_VALUE.fullmatch(value) and not math.isfinite(float(value))):
        return f"the value in {shown} is not finite; give a finite number or leave the value out"
    if _VALUE.fullmatch(value):
        return f"the value in {shown} is negative; give a number of at least 0 or leave the value out"
    return f"the value in {shown} is not a number; give one or leave the value out"
