"""``fanin recipes``."""

from __future__ import annotations

from typing import Annotated

import typer

from fanin.cli.output import write_line, write_table


def show_recipes(
    name: Annotated[str | None, typer.Argument(metavar="NAME|FILE", help="A recipe to print in full.")] = None,
) -> None:
    """List the recipes, or print one in full.

    It is printed as YAML with every setting spelled out, which is a recipe file again.
    """
    from fanin.training.recipe import SparseSection
    from fanin.training.recipe_files import load_recipe, recipe_text, shipped_recipes

    if name is not None:
        for line in recipe_text(load_recipe(name)).rstrip("\n").split("\n"):
            write_line(line)
        return
    rows = []
    for shipped in shipped_recipes():
        recipe = load_recipe(shipped)
        section, training = recipe.classifier, recipe.training
        fan_in = f"{section.fan_in} of" if isinstance(section, SparseSection) else "all"
        features = recipe.encoder.out_features or "the encoder's"
        rows.append(
            [
                shipped,
                section.kind,
                f"{fan_in} {features}",
                f"{training.epochs}",
                f"{training.batch_size}",
            ]
        )
    write_table(["recipe", "classifier", "features a label reads", "epochs", "batch size"], rows)
