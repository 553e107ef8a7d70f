"""The frontier: accuracy against the size of the classifier, as a picture."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

from fanin.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from fanin.report.summary import Summary

_PANELS = ("P@1", "P@5", "PSP@1")
_MARKERS = "osD^vPX<>*"
_LEGEND_LETTERS = 48  # that a panel is wide


def draw_frontier(summaries: Sequence[Summary], subject: str, folder: Path, stem: str = "compare") -> list[Path]:
    """Draw P@1, P@5 and PSP@1 against the classifier's bytes (log axis): a point a recipe, bars for the deviation.

    Args:
        summaries: the recipes; one colour each.
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
    longest = max(len(summary.name) for summary in summaries) + 6
    columns = min(max(_LEGEND_LETTERS * len(panels) // longest, 1), len(panels), len(summaries))
    legend_height = 0.25 * -(-len(summaries) // columns) + 0.3
    # No pyplot: its state outlives the call, and it may look for a screen.
    figure = Figure(figsize=(4.2 * len(panels), 4.0 + legend_height), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, len(panels), squeeze=False)[0]
    palette = colormaps["tab10"] if len(summaries) <= 10 else colormaps["turbo"].resampled(len(summaries))
    styles = [(palette(i), marker) for i, marker in zip(range(len(summaries)), itertools.cycle(_MARKERS), strict=False)]
    for axis, score in zip(axes, panels, strict=True):
        _draw_panel(axis, score, summaries, styles)
    handles, names = axes[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=columns, frameon=False)
    figure.suptitle(f"Accuracy against size of the classifier: {_plain(subject)}")
    files = [folder / f"{stem}.{suffix}" for suffix in ("png", "svg")]
    for file in files:
        figure.savefig(file, dpi=150)
    return files


def _draw_panel(axis: Any, score: str, summaries: Sequence[Summary], styles: Sequence[tuple[Any, str]]) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    for summary, (colour, marker) in zip(summaries, styles, strict=True):
        found = summary.figures.get(score)
        size = summary.figures["classifier_bytes"].mean / 1e6
        deviation = 0.0 if found is None or found.deviation is None else 100 * found.deviation
        mean = float("nan") if found is None else 100 * found.mean
        bars = axis.errorbar(size, mean, yerr=deviation or None, color=colour, marker=marker, capsize=3, linestyle="")
        bars.set_label(_plain(summary.name))
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
