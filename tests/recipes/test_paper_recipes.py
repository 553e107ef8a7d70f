"""The recipes of the paper's six data sets hold its values ('Navigating Extremes', NeurIPS 2024)."""

from typing import NamedTuple

import pytest

from fanin.kernels.spec import Loss
from fanin.recipes.recipe_files import load_recipe, shipped_recipes


class Row(NamedTuple):
    name: str
    fan_in: int
    threshold: float | None
    fraction: float
    interval: int
    auxiliary_epochs: int | None
    batch_size: int
    dropout: float
    epochs: int
    encoder_rate: float
    classifier_rate: float
    warmup_steps: int


TABLE = [
    Row("paper-wiki10-31k", 64, 0.01, 0.25, 300, None, 32, 0.6, 100, 1e-5, 0.01, 1000),
    Row("paper-wiki-500k", 128, 0.05, 0.25, 600, 8, 128, 0.5, 50, 5e-5, 0.05, 1000),
    Row("paper-amazon-670k", 128, 0.01, 0.2, 800, 15, 64, 0.6, 110, 1e-5, 0.01, 1000),
    Row("paper-amazon-3m", 128, None, 0.25, 1500, None, 256, 0.35, 51, 5e-5, 0.05, 10_000),
    Row("paper-lf-amazontitles-131k", 128, None, 0.15, 1000, 12, 512, 0.7, 100, 1e-5, 0.08, 5000),
    Row("paper-lf-wikiseealso-320k", 128, 0.02, 0.25, 800, None, 128, 0.55, 101, 2e-4, 0.01, 5000),
]
TITLES = "paper-lf-amazontitles-131k"


def test_there_is_one_for_each():
    assert [name for name in shipped_recipes() if name.startswith("paper-")] == sorted(row.name for row in TABLE)


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row.name)
def test_it_holds_the_values_of_the_table(row):
    recipe = load_recipe(row.name)
    encoder, classifier, training = recipe.encoder, recipe.classifier, recipe.training
    assert (encoder.kind, encoder.dropout, encoder.frozen, encoder.out_features) == (
        "transformer",
        row.dropout,
        False,
        None,
    )
    assert (classifier.kind, classifier.fan_in, classifier.group_size, classifier.cluster_size) == (
        "sparse",
        row.fan_in,
        1,
        0,
    )
    rewiring = classifier.rewiring
    assert (rewiring.threshold, rewiring.fraction, rewiring.interval) == (row.threshold, row.fraction, row.interval)
    assert (rewiring.stop_share, rewiring.grow, rewiring.scope) == (0.66, "random", "set")
    assert rewiring.decay == ("none" if row.threshold is None else "cosine")
    assert (training.epochs, training.batch_size, training.steps) == (row.epochs, row.batch_size, None)
    for schedule, rate in ((encoder.optimizer, row.encoder_rate), (classifier.schedule, row.classifier_rate)):
        assert (schedule.learning_rate, schedule.warmup_steps, schedule.final_share) == (rate, row.warmup_steps, 0)
    if row.auxiliary_epochs is None:
        assert recipe.auxiliary is None
    else:
        assert recipe.auxiliary.scale == 0.4
        assert recipe.auxiliary.decay == "cosine"
        assert recipe.auxiliary.cutoff_share * row.epochs == pytest.approx(row.auxiliary_epochs)


def test_losses_updates_encoders_and_propensities():
    recipes = {row.name: load_recipe(row.name) for row in TABLE}
    for name, recipe in recipes.items():
        titles = name == TITLES
        assert recipe.classifier.loss == (Loss.BCE if titles else Loss.SQUARED_HINGE)
        assert recipe.classifier.update.kind == ("sgd" if titles else "adamw")
        assert ("distilbert" in recipe.encoder.model) == titles
        ab = (recipe.evaluation.propensity_a, recipe.evaluation.propensity_b)
        expected = {"amazon": (0.6, 2.6), "wiki-500k": (0.5, 0.4)}
        assert ab == next((value for part, value in expected.items() if part in name), (0.55, 1.5))
        assert (recipe.intermediate is not None) == (name == "paper-wiki10-31k")
    assert recipes[TITLES].encoder.max_length == 32
    assert recipes[TITLES].auxiliary.clusters == 2048
    intermediate = recipes["paper-wiki10-31k"].intermediate
    assert (intermediate.width, intermediate.schedule.learning_rate) == (4096, 0.01)


@pytest.mark.parametrize("name", ["paper-wiki10-31k", TITLES])
def test_its_parts_work_together(name, planted, train, tiny_transformer):
    """A few steps with a tiny transformer; the model is not expected to be any good."""
    smaller = [f"encoder.model={tiny_transformer}", "encoder.max_length=12", "classifier.fan_in=16"]
    smaller += ["training.steps=6", "classifier.rewiring.interval=2", "training.batch_size=32"]
    smaller += ["auxiliary.clusters=8"] if name == TITLES else ["intermediate.width=64"]
    result, run = train(planted, load_recipe(name, smaller))
    log = (run.path / "log.jsonl").read_text(encoding="utf-8")
    assert log.count('"rewire"') == 1
    assert result.metrics["test"]["points"] == 120
