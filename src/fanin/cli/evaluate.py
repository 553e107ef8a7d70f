"""``fanin evaluate``."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fanin.cli.options import Data, Device, Json, Run
from fanin.cli.output import note, write_json, write_table

if TYPE_CHECKING:
    from fanin.recipes.recipe import EvaluationSection


class Split(StrEnum):
    """The splits of a data set."""

    TRAIN = "train"
    DEV = "dev"
    TEST = "test"


def evaluate(
    run: Run,
    data: Data,
    split: Annotated[Split, typer.Option("--split", help="The split to score.")] = Split.TEST,
    device: Device = "cpu",
    json: Json = False,
) -> None:
    """Score a model on a split of a data set.

    Labels are matched by name; those that the model does not know count as missed.
    """
    from fanin.cli.label_matching import match_labels
    from fanin.cli.progress import make_display
    from fanin.cli.score_tables import group_rows, score_header, score_rows
    from fanin.data.batches import Batches
    from fanin.data.formats import open_dataset
    from fanin.model_files import load_model
    from fanin.runs.run_folder import model_folder
    from fanin.training.device import resolve_device
    from fanin.training.preparation import SCORING_BATCH, open_split
    from fanin.training.scoring import score_split

    place, dataset = resolve_device(device), open_dataset(data)
    name = split.value
    dataset.check_split(name)
    model = load_model(model_folder(run)).to(place)
    display = make_display(quiet=False)
    try:
        matched = match_labels(open_split(dataset, model, name, None, display), name, model.labels)
        batches = Batches(matched.split, SCORING_BATCH, shuffle=False)
        display.start(f"scoring {name}", batches.n_rows)
        scores = score_split(
            model, batches, _evaluation_section(run), display, matched.excluded, matched.label_count
        ).as_dict()
    finally:
        display.close()
    if matched.unknown_labels:
        note(
            f"note: {data}: the model does not know {matched.unknown_labels:,} of its labels, to which "
            f"{matched.unknown_positives:,} relevant pairs of the {name} split belong; they count as missed"
        )
    if json:
        unknown = {"unknown_labels": matched.unknown_labels, "unknown_positives": matched.unknown_positives}
        write_json({"run": str(run), "data": str(data), "split": name, **scores, **unknown})
        return
    write_table(score_header(scores), score_rows(scores), group_rows(scores))
    write_table(
        None,
        [
            ("scored", f"{scores['points']:,} {name} texts"),
            ("left out", f"{scores['left_out']:,} texts without labels"),
            ("speed", f"{scores['texts_per_second']:,.0f} texts/s"),
        ],
    )


def _evaluation_section(run: Path) -> EvaluationSection:
    """The cut-offs and propensity model of the run's recipe, or the defaults for a bare model folder."""
    from fanin.recipes.recipe import EvaluationSection
    from fanin.recipes.recipe_files import load_recipe
    from fanin.runs.run_folder import RECIPE

    recipe = run / RECIPE
    return load_recipe(recipe).evaluation if recipe.is_file() else EvaluationSection()
