"""The picture of accuracy against size."""

import re
import sys
from pathlib import Path

import pytest

from fanin.errors import ConfigError
from fanin.report.frontier import draw_frontier
from fanin.report.summary import run_figures, summarise


def some(make_metrics, names):
    return [
        summarise(name, [run_figures(Path(), make_metrics(p, classifier_bytes=10**i), "test") for p in (0.4, 0.42)])
        for i, name in enumerate(names, 4)
    ]


def test_every_recipe_is_named_in_the_picture(make_metrics, tmp_path):
    pytest.importorskip("matplotlib")
    names = ["default", "dense:classifier.fan_in=8", "$x^2$ & <tag>", *(f"recipe {c}" for c in "abcdefghi")]
    files = draw_frontier(some(make_metrics, names), "the $test$ split", tmp_path)
    assert files == [tmp_path / "compare.png", tmp_path / "compare.svg"]
    assert files[0].read_bytes().startswith(b"\x89PNG")
    drawn = files[1].read_text(encoding="utf-8")
    for name in names:  # matplotlib writes each text that it draws as a comment
        shown = name.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
        assert f"<!-- {shown} -->" in drawn
    for axis in ("P@1, %", "P@5, %", "PSP@1, %", "classifier, MB"):
        assert f"<!-- {axis} -->" in drawn


def test_recipes_that_differ_in_a_number_at_the_end_are_a_family(make_metrics, tmp_path):
    pytest.importorskip("matplotlib")
    names = ["dense", "G16-8", "G16-128", "F32", "F64", "2", "4", "alone-7", "dense-256"]
    drawn = draw_frontier(some(make_metrics, names), "test", tmp_path)[1].read_text(encoding="utf-8")
    texts = re.findall("<!-- (.+) -->", drawn)
    panels = 3
    for name in ("dense", "G16", "F", "2", "4", "alone-7"):
        assert texts.count(name) == 1, name
    for number in ("8", "128", "32", "64", "256"):
        assert texts.count(number) == panels, number
    assert not {"F32", "G16-8", "16", "7"} & set(texts)


def test_without_any_of_the_scores_nothing_is_drawn(tmp_path):
    pytest.importorskip("matplotlib")
    assert draw_frontier([summarise("x", [{"P@3": 0.5, "classifier_bytes": 9.0}])], "split", tmp_path) == []
    assert list(tmp_path.iterdir()) == []


def test_without_matplotlib_it_is_said_what_to_install(make_metrics, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ConfigError, match=r"pip install 'fanin\[report\]'"):
        draw_frontier(some(make_metrics, ["default"]), "split", tmp_path)
