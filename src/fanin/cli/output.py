"""What the commands print: results on standard output, everything else on standard error, all of it literally."""

from __future__ import annotations

import json
import re
import sys
from typing import TYPE_CHECKING, Any

from fanin.errors import FaninError, MemoryPlanError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

# Control characters, line and paragraph separators, marks that turn the direction of writing, half surrogate pairs.
_UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
_PIPE_WIDTH = 10_000


def literal(text: object) -> str:
    r"""A text as it may be shown: what would move the cursor or hide characters is escaped, all else stays.

    >>> literal("[red]tea\x1b[31m\n")
    '[red]tea\\x1b[31m\\n'
    """
    return _UNSAFE.sub(lambda match: match[0].encode("unicode_escape").decode(), str(text))


def write_line(line: str) -> None:
    """A line of results, on standard output."""
    sys.stdout.write(literal(line) + "\n")


def note(line: str) -> None:
    """A line for the person at the terminal, on standard error."""
    sys.stderr.write(literal(line) + "\n")


def write_error(error: FaninError) -> None:
    """What was refused and why, on standard error; the ways out of a budget have a line each."""
    text = f"error: {error}"
    for line in text.split("\n") if isinstance(error, MemoryPlanError) else [text]:
        note(line)


def write_json(document: Any, *, indent: int | None = 2) -> None:
    """A JSON document on standard output; characters that a terminal would act on are escaped inside its strings."""
    # A stream of another encoding gets pure ASCII, which every encoding has.
    unicode_stream = (sys.stdout.encoding or "").lower().replace("-", "") == "utf8"
    text = json.dumps(document, indent=indent, ensure_ascii=not unicode_stream)
    lines = (_UNSAFE.sub(lambda match: f"\\u{ord(match[0]):04x}", line) for line in text.split("\n"))
    sys.stdout.write("\n".join(lines) + "\n")


def write_table(header: Sequence[str] | None, *sections: Iterable[Sequence[str]]) -> None:
    """A table and an empty line on standard output; columns of figures stand to the right, others to the left.

    Args:
        header: names of the columns, or None for a table without any.
        sections: rows; a line of its own parts a section from the next.
    """
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    blocks = [[[literal(cell) for cell in row] for row in section] for section in sections]
    table = Table(box=box.SIMPLE_HEAD, show_header=header is not None, show_edge=False, pad_edge=False)
    columns = zip(*(row for block in blocks for row in block), strict=True)
    for i, cells in enumerate(columns):
        figures = header is not None and i > 0 and all(cell == "-" or cell[:1].isdigit() for cell in cells)
        name = Text("" if header is None else literal(header[i]))
        table.add_column(name, justify="right" if figures else "left")
    for block in blocks:
        for row in block:
            table.add_row(*map(Text, row))
        table.add_section()
    console = Console(file=sys.stdout, width=None if sys.stdout.isatty() else _PIPE_WIDTH)
    with console.capture() as capture:
        console.print(table)
    lines = (line.rstrip() for line in capture.get().strip("\n").split("\n"))
    sys.stdout.write("\n".join(lines) + "\n\n")


def percent(share: float) -> str:
    """A share as it stands in tables.

    >>> percent(0.447)
    '44.70'
    """
    return f"{100 * share:.2f}"


def stored_size(count: float) -> str:
    """The size of something stored, in units of a thousand.

    >>> stored_size(5_560_000), stored_size(800)
    ('5.56 MB', '0.80 kB')
    """
    return f"{count / 1e6:,.2f} MB" if count >= 1e5 else f"{count / 1e3:,.2f} kB"


def mebibytes(count: float) -> str:
    """An amount of working memory.

    >>> mebibytes(3 * 2**20)
    '3 MiB'
    """
    return f"{count / 2**20:,.0f} MiB"
