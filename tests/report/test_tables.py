"""Tables as Markdown and CSV."""

import csv
import io
from pathlib import Path

import pytest

from fanin.report.summary import FIGURES, SHARES, run_figures, summarise
from fanin.report.tables import TABLES, comma_separated, markdown


@pytest.fixture
def summaries(make_metrics):
    def of(name, *shares):
        return summarise(name, [run_figures(Path(), make_metrics(share), "test") for share in shares])

    return [of("sparse", 0.42, 0.44, 0.46), of("a|b", 0.5)]


def test_markdown_has_a_row_a_recipe_in_every_table(summaries):
    page = markdown("Comparison", ["first fact", "second"], summaries)
    assert page.startswith("# Comparison\n\nfirst fact\n\nsecond\n\n## Accuracy, %\n\n| recipe | runs | P@1 | P@3 |")
    assert page.count("| sparse | 3 |") == page.count("| a\\|b | 1 |") == len(TABLES)
    assert "| sparse | 3 | 44.00 ± 2.00 | - |" in page
    assert "| a\\|b | 1 | 50.00 | - | 20.00 | 25.00 | - | - |" in page
    assert "| sparse | 3 | 2.00 | 7.0 | 3 | 5,000 | 900 | 12.5 |" in page  # no seed changes these
    tables = [[line for line in part.splitlines() if line.startswith("|")] for part in page.split("## ")[1:]]
    for lines in tables:
        assert len({line.replace("\\|", "").count("|") for line in lines}) == 1


def test_every_figure_that_is_shown_exists():
    shown = [column.figure for columns in TABLES.values() for column in columns]
    assert len(set(shown)) == len(shown)
    assert set(shown) <= set(FIGURES)
    left_to_the_csv = {f"{group} P@3" for group in ("head", "middle", "tail")} | {"nDCG@1", "PSnDCG@1", "PSnDCG@3"}
    assert set(SHARES) - set(shown) == left_to_the_csv


def test_csv_is_unrounded_and_in_plain_units(summaries):
    sparse, other = csv.DictReader(io.StringIO(comma_separated(summaries)))
    assert (sparse["recipe"], sparse["runs"], other["recipe"]) == ("sparse", "3", "a|b")
    assert float(sparse["P@1 mean"]) == pytest.approx(0.44)
    assert float(sparse["P@1 deviation"]) == pytest.approx(0.02)
    assert float(sparse["classifier_bytes mean"]) == 2_000_000
    assert other["P@1 deviation"] == sparse["P@3 mean"] == ""
    assert len(sparse) == 2 + 2 * len(FIGURES)
