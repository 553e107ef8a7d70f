"""Texts to predict for: a line each, from a file, a pipe or the keyboard, as they come."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, cast

from fanin.data.lines import MAX_LINE_BYTES, decode
from fanin.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from io import BufferedReader

_READ_BYTES = 1 << 18
_BOM = b"\xef\xbb\xbf"
_STANDARD_INPUT = Path("standard input")


def file_texts(path: Path) -> Iterator[list[str]]:
    """The lines of a file in blocks; see :func:`stream_texts`.

    Raises:
        DataError: the file cannot be read, is empty, or a line of it is not UTF-8.
    """
    try:
        if path.is_file() and path.stat().st_size == 0:
            raise DataError(f"{path}: the file is empty; give a text a line")
        with path.open("rb") as stream:
            yield from stream_texts(stream, path)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); check the path and its permissions") from error


def standard_input_texts() -> Iterator[list[str]]:
    """The lines of standard input in blocks; see :func:`stream_texts`."""
    return stream_texts(cast("BufferedReader", sys.stdin.buffer), _STANDARD_INPUT)


def stream_texts(stream: BufferedReader, name: Path) -> Iterator[list[str]]:
    r"""The lines of a stream in blocks, each as soon as its lines are there; never more than one block is held.

    Lines are split on ``\n`` only; ``\r\n`` and a UTF-8 BOM are accepted.

    Args:
        stream: to read from.
        name: what stands in the message of an error.

    Raises:
        DataError: a line is not UTF-8, or longer than 64 MiB.
    """
    line = 1  # the number of the next block's first line
    for block in _whole_lines(stream, name):
        if line == 1:
            block = block.removeprefix(_BOM)  # noqa: PLW2901
        yield decode(name, line, block.replace(b"\r\n", b"\n")).removesuffix("\n").split("\n")
        line += block.count(b"\n")


def _whole_lines(stream: BufferedReader, name: Path) -> Iterator[bytes]:
    pending: list[bytes] = []  # the pieces of a line whose end has not come yet
    # read1 returns what a pipe holds already instead of waiting until so many bytes are there.
    while piece := stream.read1(_READ_BYTES):
        end = piece.rfind(b"\n") + 1
        if end:
            yield b"".join([*pending, piece[:end]])
            pending = []
        pending.append(piece[end:])
        if sum(map(len, pending)) > MAX_LINE_BYTES:
            raise DataError(f"{name}: a line is longer than {MAX_LINE_BYTES >> 20} MiB; end each text with a line feed")
    rest = b"".join(pending)
    if rest:
        yield rest + b"\n"
