"""How long a run goes on, and whether it looks at the test split."""

import json
import math

import pytest

from fanin.data.formats import open_dataset
from fanin.errors import ConfigError
from fanin.model_files import load_model
from fanin.recipes.recipe_files import load_recipe
from fanin.runs.run_folder import RunFolder
from fanin.training.preparation import prepare
from fanin.training.progress import Silent
from fanin.training.trainer import Trainer


def events(run, name):
    lines = [json.loads(line) for line in (run.path / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    return [line for line in lines if line["event"] == name]


def test_a_number_of_steps_ends_the_run_in_the_midst_of_an_epoch(planted, tiny_recipe, train):
    in_epoch = 18  # batches
    for steps in (1, in_epoch + 7):
        recipe = tiny_recipe("plain", f"training.steps={steps}", "training.log_every=1", "training.evaluate_every=5")
        result, run = train(planted, recipe)
        assert [line["step"] for line in events(run, "step")] == list(range(1, steps + 1))
        assert len(events(run, "epoch")) == math.ceil(steps / in_epoch)
        assert len(events(run, "validation")) == 1  # the last epoch is validated, cut short or not
        assert load_model(run.model).train_points == result.model.train_points


def test_schedules_end_with_the_steps(planted, tiny_recipe, train):
    """Rewiring stops at its share of the steps, whatever the number of epochs."""
    settings = ("training.epochs=1000", "training.steps=60", "classifier.rewiring.interval=10")
    _, run = train(planted, tiny_recipe("plain", *settings))
    assert [line["step"] for line in events(run, "rewire")] == [10, 20, 30]


def test_texts_of_a_cut_run_are_counted_as_trained(planted, tiny_recipe, train):
    result, _ = train(planted, tiny_recipe("plain", "training.steps=3", "training.batch_size=32"))
    counted = result.metrics["train_texts_per_second"] * result.metrics["train_seconds"]
    assert counted == pytest.approx(3 * 32, rel=0.3)  # seconds are rounded to milliseconds


def test_steps_must_be_at_least_one():
    with pytest.raises(ConfigError, match=r"training\.steps"):
        load_recipe("default", ["training.steps=0"])


def test_the_test_split_can_be_left_alone(planted, tiny_recipe, tmp_path, monkeypatch):
    recipe = tiny_recipe("plain", "training.epochs=1")
    data = prepare(open_dataset(planted), recipe, tmp_path / "cache")
    seen = []
    monkeypatch.setattr("fanin.training.preparation.PreparedData.test_batches", lambda _: seen.append("test split"))
    with RunFolder.create(tmp_path / "run", recipe, planted, score_test=False) as run:
        metrics = Trainer(recipe, data, run, Silent()).train().metrics
    assert seen == []
    assert "test" not in metrics
    assert "P@1" in metrics["validation"]
    assert json.loads((run.path / "metrics.json").read_text(encoding="utf-8")) == metrics
