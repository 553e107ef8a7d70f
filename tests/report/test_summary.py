"""Figures of runs, their mean and deviation."""

import statistics
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fanin.errors import CheckpointError
from fanin.report.finished_runs import common_split, read_metrics
from fanin.report.summary import FIGURES, run_figures, summarise

RUN = Path("runs/one")


def test_figures_of_a_run(make_metrics):
    figures = run_figures(RUN, make_metrics(0.4), "test")
    assert set(figures) <= set(FIGURES)
    assert (figures["P@1"], figures["head P@1"], figures["tail P@5"]) == (0.4, 0.2, 0.15)
    assert (figures["peak_bytes"], figures["scored_texts_per_second"]) == (3 * 2**20, 900)
    assert "P@3" not in figures  # this recipe does not report it


@pytest.mark.parametrize("damage", ["classifier_bytes", "groups", "texts_per_second"])
def test_damaged_metrics_are_named(damage, make_metrics):
    metrics = make_metrics()
    scores = dict(metrics["test"])
    metrics.pop(damage, None)
    scores.pop(damage, None)
    with pytest.raises(CheckpointError, match=rf"runs/one: .*{damage}"):
        run_figures(RUN, metrics | {"test": scores}, "test")
    for wrong in ([], "many", None):
        with pytest.raises(CheckpointError, match="damaged"):
            run_figures(RUN, make_metrics(train_seconds=wrong), "test")


@given(st.lists(st.floats(0, 1), min_size=1, max_size=6))
def test_mean_and_sample_deviation(values):
    figure = summarise("name", [{"P@1": value} for value in values]).figures["P@1"]
    mean = sum(values) / len(values)
    assert figure.mean == pytest.approx(mean)
    if len(values) == 1:
        assert figure.deviation is None
    else:
        squares = sum((value - mean) ** 2 for value in values)
        assert figure.deviation == pytest.approx((squares / (len(values) - 1)) ** 0.5, abs=1e-12)
        assert figure.deviation == pytest.approx(statistics.stdev(values))


def test_a_figure_that_one_run_lacks_has_no_mean():
    summary = summarise("name", [{"P@1": 0.5, "P@3": 0.3}, {"P@1": 0.7}])
    assert summary.runs == 2
    assert set(summary.figures) == {"P@1"}


def test_the_test_split_counts_where_every_run_scored_it(make_metrics):
    with_test, without = make_metrics(), make_metrics(split="validation")
    assert common_split([with_test, with_test]) == "test"
    assert common_split([with_test, without]) == "validation"


def test_a_run_that_is_not_finished(tmp_path):
    with pytest.raises(CheckpointError, match="finished training"):
        read_metrics(tmp_path)
