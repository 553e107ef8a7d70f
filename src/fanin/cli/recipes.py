"""``fanin recipes``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from fanin.cli.output import write_line, write_table

if TYPE_CHECKING:
    from fanin.recipes.classifier_recipe import AnyClassifierSection


def show_recipes(
    name: Annotated[str | None, typer.Argument(metavar="NAME|FILE", help="A recipe to print in full.")] = None,
) -> None:
    """List the recipes, or print one in full.

    It is printed as YAML with every setting spelled out, which is a recipe file again.
    """
    from fanin.recipes.recipe_files import load_recipe, recipe_text, shipped_recipes

    if name is not None:
        for line in recipe_text(load_recipe(name)).rstrip("\n").split("\n"):
            write_line(line)
        return
    rows = []
    for shipped in shipped_recipes():
        recipe = load_recipe(shipped)
        section, training = recipe.classifier, recipe.training
        features = recipe.encoder.out_features or "the encoder's"
        rows.append(
            [
                shipped,
                section.kind,
                f"{_read_by_a_label(section)} {features}",
                f"{training.epochs}",
                f"{training.batch_size}",
            ]
        )
    write_table(["recipe", "classifier", "features a label reads", "epochs", "batch size"], rows)


def _read_by_a_label(section: AnyClassifierSection) -> str:
    """How much of the features a label reads."""
    from fanin.recipes.classifier_recipe import (
        BottleneckSection,
        FixedFanInSection,
        HeadTailSection,
        MaskedSection,
        SparseSection,
    )

    match section:
        case HeadTailSection():
            return f"{section.fan_in} (a frequent label all) of"
        case SparseSection(fan_in_by_frequency=bands) if bands:
            return f"{section.fan_in} (frequent labels {', '.join(str(band.fan_in) for band in bands)}) of"
        case FixedFanInSection():
            return f"{section.fan_in} of"
        case MaskedSection():
            return f"about {section.fan_in} of"
        case BottleneckSection():
            return f"{section.width} made of"
        case _:
            return "all"
