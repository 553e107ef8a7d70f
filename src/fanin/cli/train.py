"""``fanin train``."""

from __future__ import annotations

from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fanin.cli.options import Data, Json
from fanin.cli.output import mebibytes, note, stored_size, write_json, write_line, write_table

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fanin.training.run_folder import RunFolder


def train(
    data: Data,
    out: Annotated[Path, typer.Option("--out", metavar="RUN", help="The run folder to make; new or empty.")],
    recipe: Annotated[
        str,
        typer.Option("--recipe", metavar="NAME|FILE", help="A recipe of 'fanin recipes', or a YAML file."),
    ] = "default",
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Change a setting, such as classifier.fan_in=64. Repeatable."),
    ] = None,
    no_test: Annotated[
        bool, typer.Option("--no-test", help="Leave the test split unscored, as tuning must; validation scores remain.")
    ] = False,
    json: Json = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Show no progress.")] = False,
) -> None:
    """Train a model by a recipe, score it, and write a run folder."""
    from fanin.cli.progress import make_display
    from fanin.data.formats import open_dataset
    from fanin.training.memory_check import check_memory
    from fanin.training.preparation import prepare
    from fanin.training.recipe_files import load_recipe
    from fanin.training.run_folder import RunFolder
    from fanin.training.trainer import Trainer

    chosen = load_recipe(recipe, settings or [])
    dataset = open_dataset(data)
    check_memory(chosen, dataset)
    display = make_display(quiet=quiet)
    folder_is_ours = not out.exists()
    run = RunFolder.create(out, chosen)
    try:
        with _removed_on_failure(run, folder_is_ours):
            prepared = prepare(dataset, chosen, None, display)
            trainer = Trainer(chosen, prepared, run, display, score_test=not no_test)
        metrics = trainer.train().metrics
    except KeyboardInterrupt:
        display.close()
        note(_what_was_kept(run))
        raise typer.Exit(130) from None
    finally:
        display.close()
    if json:
        write_json({"run": str(out), "recipe": recipe, **metrics})
        return
    _write_tables(metrics)
    write_line(f"run folder: {out}")


def _write_tables(metrics: dict[str, Any]) -> None:
    from fanin.cli.score_tables import group_rows, score_header, score_rows

    split = "test" if "test" in metrics else "validation"
    scores = metrics[split]
    figures = {
        "scored": f"{scores['points']:,} {split} texts",
        "classifier": stored_size(metrics["classifier_bytes"]),
        "model": stored_size(metrics["model_bytes"]),
        "peak memory": mebibytes(metrics["peak_bytes"]),
        "training": f"{metrics['train_seconds']:,.1f} s",
    }
    write_table(score_header(scores), score_rows(scores), group_rows(scores))
    write_table(None, figures.items())


@contextmanager
def _removed_on_failure(run: RunFolder, folder_is_ours: bool) -> Iterator[None]:
    """Leave nothing behind when nothing was trained, so that the name can be used again; a user's folder stays."""
    from fanin.training.run_folder import RECIPE

    try:
        yield
    except BaseException:
        with suppress(OSError):  # the failure itself is what the user must see
            (run.path / RECIPE).unlink(missing_ok=True)
            if folder_is_ours:
                run.path.rmdir()
        raise


def _what_was_kept(run: RunFolder) -> str:
    from fanin.training.run_folder import RECIPE

    if (run.model / "model.json").is_file():
        return f"interrupted; the best model so far is kept in {run.model}"
    if (run.path / RECIPE).is_file():
        return f"interrupted before the first validation: no model was saved; recipe and log are in {run.path}"
    return "interrupted before training began: nothing was written"
