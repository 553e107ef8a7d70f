"""``fanin inspect``: what a model is made of."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fanin.cli.options import Json, Run
from fanin.cli.output import stored_size, write_json, write_table

if TYPE_CHECKING:
    from pathlib import Path


def inspect_model(run: Run, json: Json = False) -> None:
    """Show what a model is made of.

    Parameters, density, bytes by part, how many labels read each feature, label counts, and the recipe.
    """
    from fanin.cli.model_facts import model_facts
    from fanin.runs.run_folder import model_folder

    folder = model_folder(run)
    facts = model_facts(folder) | {"recipe": _recipe(run)}
    if json:
        write_json({"model": str(folder), **facts})
    else:
        _write_tables(facts)


def _recipe(run: Path) -> dict[str, Any] | None:
    """The resolved recipe, None for a model folder that is not in a run folder."""
    from fanin.recipes.recipe_files import load_recipe
    from fanin.runs.run_folder import RECIPE

    path = run / RECIPE
    return load_recipe(path).model_dump(mode="json") if path.is_file() else None


def _write_tables(facts: dict[str, Any]) -> None:
    classifier, labels, lexical = facts["classifier"], facts["labels"], facts["lexical_features"]
    features = f"{facts['learned_features']:,} {'learned ' if lexical else ''}features"
    features += f" and {lexical:,} lexical ones" if lexical else ""
    shape = [f"{classifier['kind']}, {features}, {classifier['out_features']:,} labels", *_shape_words(classifier)]
    density = [("density", f"{facts['density']:.2%}")]
    use = _use_rows("features", facts["labels_reading_a_feature"])
    if lexical:
        density.append(("weights, to a dense layer's on the learned features", f"{facts['share_of_dense']:.2%}"))
        use += _use_rows("lexical features", facts["labels_reading_a_lexical_feature"])
    # A masked layer's tensors are dense; its size is what it would be as compressed sparse rows.
    where = "as compressed rows" if classifier["kind"] == "masked" else "in memory"
    sizes = [(f"classifier {part}", stored_size(size)) for part, size in facts["classifier_bytes"].items()]
    files = [(name, stored_size(size)) for name, size in facts["file_bytes"].items()]
    write_table(
        None,
        [("classifier", ", ".join(shape)), *density, ("loss", facts["loss"])],
        [(f"parameters, {part.replace('_', ' ')}", f"{count:,}") for part, count in facts["parameters"].items()],
        [(f"classifier {where}", stored_size(sum(facts["classifier_bytes"].values()))), *sizes],
        [("model on disk", stored_size(sum(facts["file_bytes"].values()))), *files],
        use,
        [
            ("training points", f"{facts['train_points']:,}"),
            ("labels without training points", f"{labels['without_training_points']:,}"),
            ("head / middle / tail labels", f"{labels['head']:,} / {labels['middle']:,} / {labels['tail']:,}"),
        ],
        _recipe_rows(facts["recipe"]),
    )


def _use_rows(features: str, use: dict[str, float]) -> list[tuple[str, str]]:
    """How many labels read a feature of some kind with weights of their own."""
    return [
        (
            f"labels reading a {features.removesuffix('s')}",
            f"{use['least']:,} / {use['median']:,.0f} / {use['most']:,} (min/median/max)",
        ),
        (f"{features} that no label reads", f"{use['unused_features']:,}"),
    ]


def _shape_words(classifier: dict[str, Any]) -> list[str]:
    """What the settings of a kind say, in words."""
    fan_in = f"fan-in {classifier.get('fan_in')}"
    groups = [f"group size {classifier.get('group_size')}"]
    if classifier.get("cluster_size"):
        groups.append(f"clusters of {classifier['cluster_size']}")
    match classifier["kind"]:
        case "sparse":
            return [fan_in, *groups]
        case "banded":
            bands = ", ".join(f"{fan_in} of {labels:,} labels" for labels, fan_in in classifier["bands"])
            return [f"fan-in {bands}", *groups]
        case "head_tail":
            return [f"{classifier['head_labels']:,} of them dense", fan_in, *groups]
        case "masked":
            return [f"{fan_in} in the mean"]
        case "bottleneck":
            return [f"width {classifier['width']}"]
        case _:
            return []


def _recipe_rows(recipe: dict[str, Any] | None) -> list[tuple[str, str]]:
    if recipe is None:
        return []
    training, classifier, encoder = recipe["training"], recipe["classifier"], recipe["encoder"]
    rewiring = classifier.get("rewiring")
    length = f"{training['steps']} steps" if training["steps"] else f"{training['epochs']} epochs"
    rows = [
        ("training", f"{length}, batches of {training['batch_size']}, seed {training['seed']}"),
        ("classifier's update", f"{classifier['update']['kind']}, rate {classifier['schedule']['learning_rate']:g}"),
        ("encoder", _encoder_row(encoder)),
    ]
    if recipe["intermediate"] is not None:
        rows.append(("intermediate layer", f"{recipe['intermediate']['width']:,} features, ReLU"))
    if recipe["auxiliary"] is not None:
        auxiliary = recipe["auxiliary"]
        rows.append(("auxiliary objective", f"{auxiliary['scale']:.0%}, off after {auxiliary['cutoff_share']:.0%}"))
    if rewiring is not None:
        rows.append(("rewiring", f"{rewiring['fraction']:.0%} every {rewiring['interval']} steps"))
    return rows


def _encoder_row(encoder: dict[str, Any]) -> str:
    match encoder["kind"]:
        case "bag":
            return f"bag, embeddings of {encoder['embedding_dim']}, {encoder['blocks']} blocks"
        case "transformer":
            state = "frozen" if encoder["frozen"] else "fine-tuned"
            return f"transformer, {encoder['model']}, {state}, {encoder['pooling']} of {encoder['last_layers']} layers"
        case kind:
            return str(kind)
