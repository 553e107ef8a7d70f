"""The frontier: accuracy against the size of the classifier, as a picture."""

from __future__ import annotations

import itertools
import math
import re
from typing import TYPE_CHECKING, Any

from fanin.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from fanin.report.summary import Summary

_PANELS = ("P@1", "P@5", "PSP@1")
_MARKERS = "osD^vPX<>*"
_NUMBERED = re.compile(r"(?P<family>.*[^\W\d_].*?)[-_ =.]*(?P<number>(?<!\d)\d+)")
_LEGEND_LETTERS = 48  # that a panel is wide


def draw_frontier(summaries: Sequence[Summary], subject: str, folder: Path, stem: str = "compare") -> list[Path]:
    """Draw P@1, P@5 and PSP@1 against the classifier's bytes (log axis): a point a recipe, bars for the deviation.

    Recipes whose names differ in a number at the end only, such as F8 and F16, are a family: they have one colour, and
    a line joins them.

    Args:
        summaries: the recipes.
        subject: what the scores are of, for the title.
        folder: where ``stem``.png and ``stem``.svg are written.
        stem: their name.

    Returns:
        The two files; none where no recipe has such scores.

    Raises:
        ConfigError: matplotlib is not installed.
    """
    try:
        from matplotlib import colormaps
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ConfigError(f"a plot needs matplotlib ({error}); install it with: pip install 'fanin[report]'") from error

    panels = [name for name in _PANELS if any(name in summary.figures for summary in summaries)]
    if not panels:
        return []
    families = _families(summaries)
    longest = max(map(len, families)) + 6
    columns = min(max(_LEGEND_LETTERS * len(panels) // longest, 1), len(panels), len(families))
    legend_height = 0.25 * -(-len(families) // columns) + 0.3
    # No pyplot: its state outlives the call, and it may look for a screen.
    figure = Figure(figsize=(4.2 * len(panels), 4.0 + legend_height), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, len(panels), squeeze=False)[0]
    palette = colormaps["tab10"] if len(families) <= 10 else colormaps["turbo"].resampled(len(families))
    styles = [(palette(i), marker) for i, marker in zip(range(len(families)), itertools.cycle(_MARKERS), strict=False)]
    for axis, score in zip(axes, panels, strict=True):
        _draw_panel(axis, score, families, styles)
    handles, names = axes[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=columns, frameon=False)
    figure.suptitle(f"Accuracy against size of the classifier: {_plain(subject)}")
    files = [folder / f"{stem}.{suffix}" for suffix in ("png", "svg")]
    for file in files:
        figure.savefig(file, dpi=150)
    return files


def _families(summaries: Sequence[Summary]) -> dict[str, list[tuple[Summary, str]]]:
    """The recipes of each family with what is written at their points, the smallest classifier first."""
    stems = [_NUMBERED.fullmatch(summary.name) for summary in summaries]
    names = [summary.name if stem is None else stem["family"] for summary, stem in zip(summaries, stems, strict=True)]
    families: dict[str, list[tuple[Summary, str]]] = {}
    for summary, stem, name in zip(summaries, stems, names, strict=True):
        alone = names.count(name) == 1
        number = "" if alone or stem is None else stem["number"]
        families.setdefault(summary.name if alone else name, []).append((summary, number))
    return {name: sorted(members, key=lambda member: _megabytes(member[0])) for name, members in families.items()}


def _megabytes(summary: Summary) -> float:
    return summary.figures["classifier_bytes"].mean / 1e6


def _draw_panel(
    axis: Any, score: str, families: dict[str, list[tuple[Summary, str]]], styles: Sequence[tuple[Any, str]]
) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    for (name, members), (colour, marker) in zip(families.items(), styles, strict=True):
        found = [summary.figures.get(score) for summary, _ in members]
        sizes = [_megabytes(summary) for summary, _ in members]
        means = [float("nan") if figure is None else 100 * figure.mean for figure in found]
        deviations = [0.0 if figure is None else 100 * (figure.deviation or 0.0) for figure in found]
        spread = deviations if any(deviations) else None
        bars = axis.errorbar(sizes, means, yerr=spread, color=colour, marker=marker, capsize=3, linewidth=1)
        bars.set_label(_plain(name))
        for size, mean, (_, number) in zip(sizes, means, members, strict=True):
            if number and not math.isnan(mean):
                axis.annotate(number, (size, mean), xytext=(4, 4), textcoords="offset points", fontsize=7, color=colour)
    axis.set_xscale("log")
    # Plain numbers at 1, 2 and 5 of every decade: powers of ten alone would leave most plots with one number or none.
    axis.xaxis.set_major_locator(LogLocator(base=10, subs=(1, 2, 5)))
    axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.xaxis.set_minor_formatter(NullFormatter())
    axis.margins(x=0.12, y=0.12)
    axis.set_xlabel("classifier, MB")
    axis.set_ylabel(f"{score}, %")
    axis.grid(visible=True, which="major", alpha=0.3)


def _plain(text: str) -> str:
    """A text that matplotlib does not read as a formula."""
    return text.replace("$", r"\$")
