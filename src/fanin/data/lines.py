"""Reading UTF-8 files line by line, in blocks of bounded size."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fanin.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

BLOCK_BYTES = 1 << 20
MAX_LINE_BYTES = 1 << 26
_BOM = b"\xef\xbb\xbf"


def read_blocks(path: Path, block_bytes: int = BLOCK_BYTES) -> Iterator[tuple[int, bytes]]:
    r"""Whole lines in blocks of about ``block_bytes``, without a UTF-8 BOM, with ``\r\n`` turned into ``\n``.

    Yields:
        The number of the block's first line, from 1, and the lines, each ended by ``\n`` (the file's last line too).

    Raises:
        DataError: the file cannot be read, is empty, or has a line of more than 64 MiB.
    """
    line = 1
    for block in _whole_lines(path, block_bytes):
        yield line, block.replace(b"\r\n", b"\n") if b"\r" in block else block
        line += block.count(b"\n")


def read_lines(path: Path) -> Iterator[str]:
    r"""The lines of a file, split on ``\n`` only (U+2028, ``\x0b``, ``\x85``, a lone ``\r`` ... are text).

    Raises:
        DataError: as :func:`read_blocks`, or a line is not UTF-8 (the message names the line and the byte).
    """
    for first_line, block in read_blocks(path):
        yield from decode(path, first_line, block).removesuffix("\n").split("\n")


def count_lines(path: Path) -> int:
    """How many lines a file has; a last line without a line end counts.

    Raises:
        DataError: as :func:`read_blocks`.
    """
    return sum(block.count(b"\n") for _, block in read_blocks(path))


def decode(path: Path, first_line: int, block: bytes) -> str:
    """The text of a block of lines, the first of which is line ``first_line`` of the file.

    Raises:
        DataError: a line is not UTF-8.
    """
    try:
        return block.decode()
    except UnicodeDecodeError as error:
        line = first_line + block.count(b"\n", 0, error.start)
        byte = error.start - (block.rfind(b"\n", 0, error.start) + 1) + 1
        raise DataError(
            f"{path}, line {line}: byte {byte} (0x{block[error.start]:02x}) is not valid UTF-8; save the file as UTF-8"
        ) from error


def _whole_lines(path: Path, block_bytes: int) -> Iterator[bytes]:
    pending: list[bytes] = []  # the pieces of a line that no block has ended yet
    pending_bytes = 0
    for piece in _pieces(path, block_bytes):
        end = piece.rfind(b"\n") + 1
        if end:
            yield b"".join([*pending, piece[:end]])
            pending, pending_bytes = [], 0
        pending.append(piece[end:])
        pending_bytes += len(piece) - end
        if pending_bytes > MAX_LINE_BYTES:
            raise DataError(f"{path}: a line is longer than {MAX_LINE_BYTES >> 20} MiB; end each text with a line feed")
    if pending_bytes:
        yield b"".join([*pending, b"\n"])


def _pieces(path: Path, block_bytes: int) -> Iterator[bytes]:
    if path.exists() and not path.is_file():
        raise DataError(f"{path}: is not a regular file; give a file of lines")
    try:
        with path.open("rb") as file:
            piece = file.read(block_bytes).removeprefix(_BOM)
            if not piece:
                raise DataError(f"{path}: the file is empty; it must have at least one line")
            while piece:
                yield piece
                piece = file.read(block_bytes)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); check the path and its permissions") from error
