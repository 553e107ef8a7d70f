"""The plan of a comparison and its folder."""

import json
import math
from dataclasses import replace

import pytest

from fanin.compare.choices import parse_budget, parse_recipes
from fanin.compare.plan import Plan, joined, opened, planned_runs, read_plan, write_plan
from fanin.errors import CheckpointError, ConfigError

PLAN = Plan(
    data="titles",
    data_key="k",
    budget=parse_budget("seconds=60"),
    score_test=True,
    device="cpu",
    machine="a box",
    recipes=tuple(parse_recipes(["default", "F8=default:classifier.fan_in=8"])),
    seeds=(0, 3),
    steps={"F8": 120},
)


def test_a_plan_comes_back(tmp_path):
    write_plan(tmp_path, PLAN)
    assert read_plan(tmp_path) == PLAN


def test_settings_of_a_run():
    default, small = PLAN.recipes
    assert PLAN.settings(small, 3) == ["classifier.fan_in=8", "training.seed=3", "training.steps=120"]
    assert PLAN.settings(default, 0) == ["training.seed=0"]
    assert replace(PLAN, budget=parse_budget("steps=7")).settings(default, 0)[-1] == "training.steps=7"
    assert replace(PLAN, budget=parse_budget(None), steps={}).settings(small, 0)[-1] == "training.seed=0"


def test_every_recipe_has_its_turn_with_the_first_seed(tmp_path):
    runs = planned_runs(tmp_path, PLAN)
    assert [str(run) for run in runs] == ["default, seed 0", "F8, seed 0", "default, seed 3", "F8, seed 3"]
    assert runs[1].folder == tmp_path / "F8" / "seed-0"
    assert not runs[1].finished
    runs[1].folder.mkdir(parents=True)
    (runs[1].folder / "metrics.json").touch()
    assert runs[1].finished


def test_recipes_and_seeds_can_be_added(tmp_path):
    new = replace(PLAN, recipes=tuple(parse_recipes(["dense", "default"])), seeds=(1, 0), steps={}, machine="another")
    both = joined(tmp_path, PLAN, new)
    assert [choice.name for choice in both.recipes] == ["default", "F8", "dense"]
    assert (both.seeds, both.steps, both.machine) == ((0, 1, 3), {"F8": 120}, "a box; another")
    assert joined(tmp_path, both, PLAN) == both


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"data_key": "other"}, "another data set"),
        ({"budget": parse_budget("steps=60")}, "another budget"),
        ({"score_test": False}, "--no-test"),
        ({"device": "cuda"}, "another device"),
        ({"recipes": tuple(parse_recipes(["F8=dense"]))}, "'F8' is 'F8=default:classifier.fan_in=8' there"),
        ({"recipes": tuple(parse_recipes(["f8=dense"]))}, "name them apart"),
    ],
)
def test_what_does_not_belong_together_is_refused(change, message, tmp_path):
    with pytest.raises(ConfigError, match=message):
        joined(tmp_path, PLAN, replace(PLAN, **change))


@pytest.mark.parametrize("damage", ["budget", "recipes", "seeds", "format"])
def test_a_damaged_plan_is_named(damage, tmp_path):
    write_plan(tmp_path, PLAN)
    values = json.loads((tmp_path / "compare.json").read_text(encoding="utf-8"))
    for damaged in (
        {key: value for key, value in values.items() if key != damage},
        values | {damage: 7},
        values | {damage: [math.inf]},
        [],
        3,
    ):
        (tmp_path / "compare.json").write_text(json.dumps(damaged), encoding="utf-8")
        with pytest.raises(CheckpointError, match=r"compare\.json: damaged"):
            read_plan(tmp_path)


def test_a_folder_serves_one_process_at_a_time(tmp_path):
    with opened(tmp_path / "new") as lock:
        assert lock > 2
        with pytest.raises(ConfigError, match="at work there"), opened(tmp_path / "new"):
            pass
    with opened(tmp_path / "new"):
        pass


def test_a_folder_of_other_things_is_left_alone(tmp_path):
    (tmp_path / "letter.txt").touch()
    with pytest.raises(ConfigError, match="not a comparison"), opened(tmp_path):
        pass
    with pytest.raises(ConfigError, match="cannot be written"), opened(tmp_path / "letter.txt"):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["letter.txt"]
