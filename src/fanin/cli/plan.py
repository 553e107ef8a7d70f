"""``fanin plan``."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fanin.cli.options import Json
from fanin.cli.output import mebibytes, write_json, write_table
from fanin.errors import ConfigError

if TYPE_CHECKING:
    from fanin.memory.data_sizes import DataSizes
    from fanin.memory.parts import Part, Stage
    from fanin.memory.plan import MemoryPlan
    from fanin.recipes.recipe import Recipe

_AMOUNT = re.compile(r"(\d+(?:\.\d+)?)\s*([KMGT]i?)?B?", re.IGNORECASE)


def plan(
    data: Annotated[
        Path | None, typer.Argument(metavar="DATA", help="A data set, as for 'fanin train'; or give --labels.")
    ] = None,
    labels: Annotated[int | None, typer.Option("--labels", min=1, metavar="N", help="Plan for so many labels.")] = None,
    rows: Annotated[
        int | None,
        typer.Option("--rows", min=1, metavar="M", help="With --labels: texts.", show_default="one a label"),
    ] = None,
    recipe: Annotated[
        str, typer.Option("--recipe", metavar="NAME|FILE", help="A recipe of 'fanin recipes', or a YAML file.")
    ] = "default",
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Change a setting, such as classifier.fan_in=64. Repeatable."),
    ] = None,
    budget: Annotated[
        str | None,
        typer.Option(
            "--budget", metavar="SIZE", help="Of a machine: refuse a plan above this, such as 4GiB, and say what helps."
        ),
    ] = None,
    device: Annotated[
        str, typer.Option("--device", metavar="NAME", help="Plan for cpu or cuda; a budget is that of a GPU then.")
    ] = "cpu",
    processes: Annotated[
        int,
        typer.Option("--processes", min=1, metavar="N", help="Plan for N processes that train together."),
    ] = 1,
    per_machine: Annotated[
        int, typer.Option("--per-machine", min=1, metavar="M", help="With --processes: how many of them on a machine.")
    ] = 1,
    json: Json = False,
) -> None:
    """Say how much memory a training run takes, part by part, before anything is allocated.

    With --device cuda, which needs none here, it says what lies on the GPU and what beside it.
    Sizes of texts come from the data set's headers and its first 4,000 texts; with --labels short texts are assumed.
    """
    from fanin.memory.base import base_bytes
    from fanin.memory.check import over_budget
    from fanin.memory.plan import plan_memory
    from fanin.memory.planned_run import PlannedRun
    from fanin.memory.team import Team
    from fanin.recipes.recipe_files import load_recipe
    from fanin.training.device import named_device

    if per_machine > processes:
        raise ConfigError(f"--per-machine {per_machine}: there are no more than {processes} processes; lower it")
    limit, team = None if budget is None else _bytes(budget), Team(processes, per_machine)
    chosen = load_recipe(recipe, settings or [])
    gpu = named_device(device).type == "cuda"
    sizes, base = _sizes(data, labels, rows, chosen), base_bytes(chosen.encoder)
    found = plan_memory(chosen, sizes, base, gpu=gpu, team=team)
    sent = _sent(chosen, sizes, processes)
    if json:
        described = {"recipe": recipe, "labels": sizes.labels, "rows": sizes.rows, **found.as_dict()}
        write_json(described | ({"sent_in_a_step": [part._asdict() for part in sent]} if sent else {}))
    else:
        _write_tables(found)
        if sent:
            total = sum(part.bytes for part in sent)
            rows_sent = [(part.name, mebibytes(part.bytes)) for part in sent]
            write_table([f"sent in a step, by one of {processes}", "bytes"], rows_sent, [("in all", mebibytes(total))])
    if limit is not None and found.limited > limit:
        raise over_budget(PlannedRun(chosen, sizes, base, team, gpu), found.limited, limit, "the budget")


def _sizes(data: Path | None, labels: int | None, rows: int | None, recipe: Recipe) -> DataSizes:
    from fanin.data.formats import open_dataset
    from fanin.memory.data_sizes import assumed_sizes, sampled_sizes

    if (data is None) == (labels is None):
        raise ConfigError("give a data set or --labels N, one of the two")
    if data is not None and rows is not None:
        raise ConfigError("--rows goes with --labels; the data set has its own number of texts")
    if labels is not None:
        return assumed_sizes(labels, rows, recipe)
    assert data is not None
    return sampled_sizes(open_dataset(data), recipe)


def _sent(recipe: Recipe, sizes: DataSizes, processes: int) -> list[Part]:
    """What one of several processes sends in a step; nothing where there is one."""
    from fanin.memory.encoder_parts import lay_out_encoder
    from fanin.memory.shares import sent_in_a_step

    if processes == 1:
        return []
    encoder, tokens = lay_out_encoder(recipe, sizes), sizes.read_per_text
    lexical = tokens if encoder.out_features > encoder.learned_features else 0.0
    return sent_in_a_step(encoder, recipe.training.batch_size, processes, tokens=tokens, lexical=lexical)


def _bytes(amount: str) -> int:
    """The bytes of an amount such as 4GiB or 500 MB."""
    match = _AMOUNT.fullmatch(amount.strip())
    if match is None:
        raise ConfigError(f"--budget {amount!r}: give a size such as 4GiB, 800MiB or 6GB")
    unit = (match[2] or "").upper()
    power = " KMGT".index(unit[0]) if unit else 0
    return int(float(match[1]) * (1024 if unit.endswith("I") else 1000) ** power)


def _write_tables(found: MemoryPlan) -> None:
    if found.gpu:
        _write_stages("on the GPU, ", found.gpu_peak, found.prediction, gpu=True)
    _write_stages("beside it, " if found.gpu else "", found.peak, found.prediction, gpu=False)
    columns = ["stage of the training", "memory", *(["on the GPU"] if found.gpu else [])]
    rows = []
    for stage in found.training:
        on_gpu = [mebibytes(stage.gpu_bytes)] if found.gpu else []
        rows.append((stage.name, mebibytes(stage.bytes), *on_gpu))
    write_table(columns, rows)
    if found.team.size > 1:
        _write_machine(found)


def _write_machine(found: MemoryPlan) -> None:
    """What all processes of a machine need together."""
    at = max(found.training, key=lambda stage: stage.needed_by(found.team.on_machine))
    title = f"{found.team}: needed at most, while {at.name}; content of files not counted"
    each, machine = at.needed, at.needed_by(found.team.on_machine)
    write_table([title, "memory"], [("the first process", mebibytes(each)), ("a machine", mebibytes(machine))])


def _write_stages(where: str, peak: Stage, prediction: Stage, *, gpu: bool) -> None:
    """The parts of the largest stage of training and of prediction, in this machine's memory or on the GPU."""
    for title, stage in ((f"training, {where}most while {peak.name}", peak), (f"{where}prediction", prediction)):
        parts = [part for part in stage.parts if part.gpu == gpu]
        rows = [(part.name + (" (mapped)" if part.mapped else ""), mebibytes(part.bytes)) for part in parts]
        write_table([title, "memory"], rows, [("in all", mebibytes(stage.gpu_bytes if gpu else stage.bytes))])
