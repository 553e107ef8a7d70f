"""The recipe's section about rewiring: what it accepts, what it builds, and runs with it."""

import json

import pytest

from fanin.errors import ConfigError
from fanin.recipes.recipe_files import load_recipe, recipe_from_values, recipe_text
from fanin.recipes.strict_yaml import parse_yaml

GROW = "classifier.rewiring.grow"


@pytest.mark.parametrize(
    ("settings", "grow"),
    [
        ([], "random"),
        ([f"{GROW}=gradient"], "gradient"),
        ([f"{GROW}={{random: 0.5, separating: 0.5}}"], {"random": 0.5, "separating": 0.5}),
        ([f"{GROW}.random=0.25", f"{GROW}.gradient=0.75"], {"random": 0.25, "gradient": 0.75}),
        ([f"{GROW}={{random: 0.5, gradient: 0.5}}", f"{GROW}=separating"], "separating"),
    ],
)
def test_growth_is_a_mode_or_shares(settings, grow):
    recipe = load_recipe("plain", settings)
    assert recipe.classifier.rewiring.grow == grow
    assert recipe_from_values(parse_yaml(recipe_text(recipe), "text"), "text") == recipe


def test_shares_replace_those_of_the_file(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("classifier: {rewiring: {grow: {random: 0.5, gradient: 0.5}, interval: 7}}\n", encoding="utf-8")
    rewiring = load_recipe(path, [f"{GROW}={{separating: 1.0}}"]).classifier.rewiring
    assert rewiring.grow == {"separating": 1.0}
    assert rewiring.interval == 7


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("grow=foo", r"rewiring\.grow: must be one of random, gradient, separating, or shares"),
        ("grow=3", r"rewiring\.grow: must be one of"),
        ("grow={random: 0.5, foo: 0.5}", r"rewiring\.grow: must be one of"),
        ("grow={random: 0.5}", r"rewiring\.grow: the shares must be positive numbers that add up to 1"),
        ("grow={random: 1.5, gradient: -0.5}", r"rewiring\.grow: the shares"),
        ("grow={random: a}", r"rewiring\.grow: the shares"),
        ("grow={}", r"rewiring\.grow: the shares"),
        ("scope=label", r"rewiring\.scope: .*'set' or 'layer'"),
        ("group_score=median", r"rewiring\.group_score: .*'mean' or 'max'"),
        ("history.batches=0", r"rewiring\.history\.batches"),
        ("history.row=5", r"did you mean 'rows'"),
    ],
)
def test_mistakes_are_named(setting, message):
    with pytest.raises(ConfigError, match=message):
        load_recipe("plain", [f"classifier.rewiring.{setting}"])


def reports(run):
    lines = [json.loads(line) for line in (run.path / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    return [line for line in lines if line["event"] == "rewire"]


@pytest.mark.parametrize(
    ("rewiring", "layer"),
    [
        (("grow=gradient", "history.batches=2"), ()),
        (("grow=separating", "group_score=max"), ("classifier.group_size=4",)),
        (
            ("grow={random: 0.5, gradient: 0.25, separating: 0.25}", "scope=layer", "history.rows=200"),
            ("classifier.cluster_size=8", "encoder.lexical_features=60", "classifier.start=tokens"),
        ),
    ],
    ids=str,
)
def test_runs_learn_with_every_growth(planted, tiny_recipe, train, rewiring, layer):
    changes = [f"classifier.rewiring.{setting}" for setting in rewiring]
    result, run = train(planted, tiny_recipe("plain", *changes, *layer, "training.epochs=8"))
    assert result.metrics["test"]["P@1"] > 0.8
    grown = [report["grown"] for report in reports(run)]
    chosen = {mode for mode in ("gradient", "separating") if mode in rewiring[0]}
    assert all(sum(counts[mode] for counts in grown) > 0 for mode in chosen)
    assert [sum(counts.values()) for counts in grown] == [report["replaced"] for report in reports(run)]
