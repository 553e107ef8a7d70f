"""Tables of several recipes: for people as Markdown, for programs as CSV."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fanin.labels.frequency import GROUP_NAMES
from fanin.report.summary import FIGURES

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from fanin.report.summary import Figure, Summary


@dataclass(frozen=True)
class Column:
    """One figure as a column.

    Attributes:
        figure: its name in :data:`fanin.report.summary.FIGURES`.
        title: what stands above it, unit included.
        scale: the figure is shown times this.
        digits: behind the point.
    """

    figure: str
    title: str
    scale: float = 100.0
    digits: int = 2


def _scores(*names: str) -> tuple[Column, ...]:
    return tuple(Column(name, name) for name in names)


# Four narrow tables instead of one that no page holds.
TABLES: Mapping[str, tuple[Column, ...]] = {
    "Accuracy, %": _scores("P@1", "P@3", "P@5", "PSP@1", "PSP@3", "PSP@5"),
    "Ranking, recall and coverage of labels, %": _scores(
        "nDCG@3", "nDCG@5", "PSnDCG@5", "R@1", "R@3", "R@5", "coverage@1", "coverage@3", "coverage@5"
    ),
    "What head, middle and tail labels contribute, percentage points": _scores(
        *(f"{group} P@{k}" for k in (1, 5) for group in GROUP_NAMES)
    ),
    "Size, memory and time": (
        Column("classifier_bytes", "classifier MB", 1e-6),
        Column("model_bytes", "model MB", 1e-6, 1),
        Column("peak_bytes", "peak memory MiB", 2.0**-20, 0),
        Column("train_texts_per_second", "trained texts/s", 1, 0),
        Column("scored_texts_per_second", "scored texts/s", 1, 0),
        Column("train_seconds", "training s", 1, 1),
    ),
}


def table_rows(columns: Sequence[Column], summaries: Sequence[Summary]) -> list[list[str]]:
    """The header, then a row for every recipe: its name, how many runs it has, and a cell a column."""
    rows = [["recipe", "runs", *(column.title for column in columns)]]
    for summary in summaries:
        cells = [_cell(column, summary.figures.get(column.figure)) for column in columns]
        rows.append([summary.name, str(summary.runs), *cells])
    return rows


def markdown(title: str, facts: Sequence[str], summaries: Sequence[Summary]) -> str:
    """All tables as a Markdown page.

    Args:
        title: of the page.
        facts: paragraphs in front of the tables; a paragraph of several lines is a list.
        summaries: a row each.
    """
    parts = [f"# {title}", *facts]
    for heading, columns in TABLES.items():
        header, *rows = [[_escaped(cell) for cell in row] for row in table_rows(columns, summaries)]
        ruler = ["---", *("---:" for _ in header[1:])]
        lines = [f"| {' | '.join(cells)} |" for cells in (header, ruler, *rows)]
        parts += [f"## {heading}", "\n".join(lines)]
    return "\n\n".join(parts) + "\n"


def comma_separated(summaries: Sequence[Summary]) -> str:
    """All figures as CSV, unrounded and in plain units (shares, bytes, seconds): mean and deviation a column each."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(["recipe", "runs", *(f"{name} {what}" for name in FIGURES for what in ("mean", "deviation"))])
    for summary in summaries:
        cells: list[float | None] = []
        for name in FIGURES:
            figure = summary.figures.get(name)
            cells += [None, None] if figure is None else [figure.mean, figure.deviation]
        writer.writerow([summary.name, summary.runs, *cells])
    return file.getvalue()


def _cell(column: Column, figure: Figure | None) -> str:
    if figure is None:
        return "-"
    mean = f"{figure.mean * column.scale:,.{column.digits}f}"
    if not figure.deviation:  # a single run, or a size that no seed changes
        return mean
    return f"{mean} ± {figure.deviation * column.scale:,.{column.digits}f}"


def _escaped(cell: str) -> str:
    return cell.replace("\\", "\\\\").replace("|", "\\|").replace("\n", " ")
