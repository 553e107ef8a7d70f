"""``fanin bench``: speed and memory on this machine."""

from __future__ import annotations

from dataclasses import asdict, fields
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fanin.cli.options import Data, Json, Run
from fanin.cli.output import percent, write_json, write_table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from _typeshed import DataclassInstance

app = typer.Typer(help="Measure speed and memory on this machine.", rich_markup_mode=None)


@app.command("prediction")
def bench_prediction(
    run: Run,
    data: Data,
    k: Annotated[int, typer.Option("-k", min=1, help="How many labels a text.")] = 5,
    json: Json = False,
) -> None:
    """Measure how fast a model predicts.

    In batch and one text at a time, on the test split (the training split where there is none).
    """
    from fanin.bench.prediction import measure_prediction
    from fanin.data.formats import open_dataset
    from fanin.model_files import load_model
    from fanin.training.run_folder import model_folder

    dataset = open_dataset(data)
    split = "test" if "test" in dataset.split_names else "train"
    _write_rows([measure_prediction(load_model(model_folder(run)), dataset.texts(split), k=k)], json=json)


def _write_rows(rows: Sequence[DataclassInstance], *, json: bool) -> None:
    """Rows of one dataclass: a table with a column a field, in the unit that the end of the field's name tells."""
    if json:
        write_json([asdict(row) for row in rows])
        return
    names = [field.name for field in fields(rows[0])]
    header = [name.replace("_", " ") + (" %" if name.endswith("_share") else "") for name in names]
    write_table(header, [[_cell(name, getattr(row, name)) for name in names] for row in rows])


def _cell(name: str, value: Any) -> str:
    if value is None:
        return "-"
    if name.endswith("_share"):
        return percent(value)
    if isinstance(value, str):
        return value
    shown = f"{value:,.2f}" if isinstance(value, float) else f"{value:,}"
    return f"{shown}x" if name.endswith("_ratio") else shown
