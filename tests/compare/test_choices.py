"""Recipes, seeds and budgets from words."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fanin.compare.choices import Budget, parse_budget, parse_recipes, parse_seeds
from fanin.errors import ConfigError


@pytest.mark.parametrize(
    ("spec", "name", "recipe", "settings"),
    [
        ("dense", "dense", "dense", ()),
        ("default:classifier.fan_in=16", "default:classifier.fan_in=16", "default", ("classifier.fan_in=16",)),
        ("F8=default:classifier.fan_in=8", "F8", "default", ("classifier.fan_in=8",)),
        ("small one=mine/x.yaml", "small one", "mine/x.yaml", ()),
        ("mine/x.yaml", "x", "mine/x.yaml", ()),
        ("C:/mine/x.yml:a.b=1", "x:a.b=1", "C:/mine/x.yml", ("a.b=1",)),
        ("a:b.c=[1, 2],d={e: 1, f: 'x,y'},g=\",\"", None, "a", ("b.c=[1, 2]", "d={e: 1, f: 'x,y'}", 'g=","')),
        ("default:a=1,,b=2,", None, "default", ("a=1", "b=2")),
        ("default:", "default:", "default:", ()),  # which is no recipe, as load_recipe will say
    ],
)
def test_a_recipe_with_a_name_and_settings(spec, name, recipe, settings):
    (choice,) = parse_recipes([spec])
    assert (choice.recipe, choice.settings, choice.spec) == (recipe, settings, spec)
    assert name is None or choice.name == name


@given(st.dictionaries(st.from_regex(r"[a-z]{1,5}\.[a-z]{1,5}", fullmatch=True), st.integers(), min_size=1))
def test_settings_come_back_in_order(changes):
    settings = tuple(f"{key}={value}" for key, value in changes.items())
    (choice,) = parse_recipes(["default:" + ",".join(settings)])
    assert choice.settings == settings


@pytest.mark.parametrize("spec", ["", "=dense", "a=b=c", ":classifier.fan_in=3", "-x=dense", "_=dense", " =dense"])
def test_other_forms_are_refused(spec):
    with pytest.raises(ConfigError, match="--recipe"):
        parse_recipes([spec])


def test_the_seed_is_not_a_recipe_s_business():
    with pytest.raises(ConfigError, match="--seeds"):
        parse_recipes(["default:training.seed=3"])


@pytest.mark.parametrize("other", ["dense", "Dense=default", "dense=default:classifier.fan_in=3"])
def test_two_recipes_of_one_name(other):
    with pytest.raises(ConfigError, match="name them apart"):
        parse_recipes(["dense", other])


@given(st.text(min_size=1).filter(lambda name: name[0].isalnum() and not set(name) & set("=:")))
def test_folders_are_plain(name):
    (choice,) = parse_recipes([f"{name}=dense"])
    assert 0 < len(choice.folder) <= 90
    assert not set(choice.folder) & set("/\\: \n\0")
    assert choice.folder[0] != "."


@pytest.mark.parametrize("other", ["a b", "a_b", "A/B"])
def test_names_of_one_folder_are_told_apart_by_the_user(other):
    with pytest.raises(ConfigError, match="name them apart"):
        parse_recipes(["a\\b=dense", f"{other}=dense"])


def test_long_names_that_begin_alike_have_different_folders():
    first, second = parse_recipes([f"{'x' * 90}{end}=dense" for end in "ab"])
    assert first.folder != second.folder


def test_seeds():
    assert parse_seeds("0, 1,2") == (0, 1, 2)
    for wrong in ("", "a", "-1", "1,,2", "1,1", "0.5", "1" * 30):
        with pytest.raises(ConfigError, match="--seeds"):
            parse_seeds(wrong)


def test_budgets():
    assert parse_budget(None) == parse_budget("own") == Budget()
    for words in ("steps=1", "seconds=3600", "own"):
        assert str(parse_budget(words)) == words
    for wrong in ("steps", "steps=0", "seconds=-1", "hours=1", "steps=1.5", "steps=1e3", ""):
        with pytest.raises(ConfigError, match="--budget"):
            parse_budget(wrong)
