"""``fanin bench``: speed and memory on this machine."""

from __future__ import annotations

from dataclasses import asdict, fields
from pathlib import Path
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

    In batch and one text at a time, on the test split (the training split where there is none); with the beam too
    that 'fanin index' has kept, if there is one.
    """
    from fanin.beams.files import DESCRIPTION, load_beam
    from fanin.bench.prediction import measure_prediction
    from fanin.data.formats import open_dataset
    from fanin.model_files import load_model
    from fanin.runs.run_folder import model_folder

    dataset = open_dataset(data)
    split = "test" if "test" in dataset.split_names else "train"
    folder = model_folder(run)
    model = load_model(folder)
    rows = [measure_prediction(model, dataset.texts(split), k=k)]
    if (folder / DESCRIPTION).is_file():
        beam = load_beam(folder, model.classifier)
        rows.append(measure_prediction(model, dataset.texts(split), k=k, beam=beam))
    _write_rows(rows, json=json)


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


@app.command("storage")
def bench_storage(
    rounds: Annotated[int, typer.Option("--rounds", min=1, help="How often each dtype has its turn.")] = 21,
    batch_size: Annotated[int, typer.Option("--batch-size", min=1, help="Rows of a batch, B.")] = 128,
    threads: Annotated[int, typer.Option("--threads", min=1, help="Threads.")] = 1,
    json: Json = False,
) -> None:
    """Time the sparse layer's step and top-k with weights in float32, bfloat16 and float8, in turn.

    Takes two minutes; the machine should be idle.
    """
    from fanin.bench.storage import StorageSpeed, measure_storage

    def say(row: StorageSpeed) -> None:
        note(
            f"L={row.out_features}, D={row.in_features}, F={row.fan_in}, G={row.group_size}, {row.dtype}: "
            f"{row.step_ms:.1f} ms, {row.step_over_float32_ratio:.2f}x"
        )

    _write_rows(measure_storage(batch_size=batch_size, threads=threads, rounds=rounds, done=say), json=json)


@app.command("beam")
def bench_beam(
    width: Annotated[list[int] | None, typer.Option("--width", min=1, help="Clusters a text. Repeatable.")] = None,
    rank: Annotated[
        list[int] | None, typer.Option("--rank", min=1, help="Dimensions that clusters are scored in. Repeatable.")
    ] = None,
    rounds: Annotated[int, typer.Option("--rounds", min=1, help="How often each beam has its turn.")] = 7,
    batch_size: Annotated[int, typer.Option("--batch-size", min=1, help="Rows of a batch, B.")] = 512,
    json: Json = False,
) -> None:
    """Time prediction with a beam beside the exact one, at 3,000,000 labels with random weights, on one thread.

    Takes two minutes; the machine should be idle.
    """
    from fanin.bench.beam import RANKS, WIDTHS, BeamSpeed, measure_beam_speed

    def say(row: BeamSpeed) -> None:
        note(
            f"L={row.out_features}, G={row.group_size}, {row.width} clusters, router of rank {row.router_rank}: "
            f"{row.exact_over_beam_ratio:.2f}x"
        )

    rows = measure_beam_speed(
        widths=width or WIDTHS, ranks=rank or RANKS, batch_size=batch_size, rounds=rounds, done=say
    )
    _write_rows(rows, json=json)


@app.command("memory")
def bench_memory(
    labels: Annotated[list[int] | None, typer.Option("--labels", min=1, help="Number of labels. Repeatable.")] = None,
    json: Json = False,
) -> None:
    """Measure the peak memory of a process that makes and trains a sparse classifier (D=768, F=32, B=128, SGD)."""
    from fanin.bench.memory import LABEL_COUNTS, measure_memory

    _write_rows(measure_memory(labels or LABEL_COUNTS), json=json)


@app.command("scale")
def bench_scale(
    labels: Annotated[list[int] | None, typer.Option("--labels", min=2, help="Number of labels. Repeatable.")] = None,
    group_size: Annotated[
        list[int] | None, typer.Option("--group-size", min=1, help="Labels that share an index set. Repeatable.")
    ] = None,
    steps: Annotated[int, typer.Option("--steps", min=2, help="Training steps of a run.")] = 300,
    folder: Annotated[
        Path | None,
        typer.Option(
            "--folder", metavar="FOLDER", help="Where the data sets are written and kept.", show_default="temporary"
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Train at growing numbers of labels, on synthetic data: peak memory, time of a step, texts predicted a second.

    The bag encoder with D=512, F=32, B=128 and SGD; 100,000, 300,000 and a million labels by default. Ends with the
    straight line through the peaks and through the times.
    """
    from fanin.bench.scale import GROUP_SIZES, LABEL_COUNTS, ScaleRun, measure_scale, straight_line

    def say(run: ScaleRun) -> None:
        note(f"{run.labels:,} labels, G={run.group_size}: {run.peak_gib:.2f} GiB, {run.step_ms:.0f} ms a step")

    runs = measure_scale(labels or LABEL_COUNTS, group_size or GROUP_SIZES, steps=steps, folder=folder, done=say)
    lines = []
    for G in dict.fromkeys(run.group_size for run in runs):
        own = [run for run in runs if run.group_size == G]
        for name in ("peak_gib", "step_ms", "step_cpu_ms"):
            line = straight_line([run.labels for run in own], [getattr(run, name) for run in own])
            lines.append({"group_size": G, "figure": name, **line._asdict()})
    if json:
        write_json({"runs": [asdict(run) for run in runs], "lines": lines})
        return
    _write_rows(runs, json=False)
    write_table(
        ["group size", "figure", "base", "a million labels", "farthest from the line %"],
        [
            [
                str(line["group_size"]),
                str(line["figure"]),
                f"{line['base']:.2f}",
                f"{line['per_million']:.2f}",
                percent(line["worst_share"]),
            ]
            for line in lines
        ],
    )


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
