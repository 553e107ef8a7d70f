"""``fanin bench``: speed and memory on this machine."""

from __future__ import annotations

from dataclasses import asdict, fields
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fanin.cli.options import Data, Json, Run
from fanin.cli.output import note, percent, write_json, write_table

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


@app.command("kernels")
def bench_kernels(
    rounds: Annotated[int, typer.Option("--rounds", min=1, help="How often each side has its turn.")] = 7,
    batch_size: Annotated[int, typer.Option("--batch-size", min=1, help="Rows of a batch, B.")] = 128,
    json: Json = False,
) -> None:
    """Time the fused step of the sparse layer beside the dense one, in turn, on one thread and on all.

    Takes some minutes; the machine should be idle.
    """
    from fanin.bench.kernels import StepSpeed, measure_kernels

    def say(row: StepSpeed) -> None:
        note(
            f"{row.threads} threads, L={row.out_features}, D={row.in_features}, F={row.fan_in}, G={row.group_size}: "
            f"{row.dense_over_sparse_ratio:.2f}x"
        )

    _write_rows(measure_kernels(batch_size=batch_size, rounds=rounds, done=say), json=json)


@app.command("memory")
def bench_memory(
    labels: Annotated[list[int] | None, typer.Option("--labels", min=1, help="Number of labels. Repeatable.")] = None,
    json: Json = False,
) -> None:
    """Measure the peak memory of a process that makes and trains a sparse classifier (D=768, F=32, B=128, SGD)."""
    from fanin.bench.memory import LABEL_COUNTS, measure_memory

    _write_rows(measure_memory(labels or LABEL_COUNTS), json=json)


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
