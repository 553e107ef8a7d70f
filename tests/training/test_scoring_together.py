"""Several processes score a split together, to the metrics of one, and none holds more than its part of the work."""

from dataclasses import asdict

import pytest
import torch

from fanin.classifier.dense import DenseLinear
from fanin.classifier.sharded import ShardedClassifier
from fanin.classifier.sparse import SparseLinear
from fanin.data.formats import open_dataset
from fanin.training import scoring
from fanin.training.parts import build_parts
from fanin.training.preparation import prepare
from fanin.training.progress import Silent
from fanin.training.scoring import score_split
from fanin.training.shared_model import shared_ranking
from fanin.training.stop_signals import StopSignals
from live_tensors import LiveTensors
from process_threads import run_together

KINDS = {
    "plain": ("plain", "classifier.initial_scale=1"),
    "groups, clusters, words": (
        "plain",
        "classifier.group_size=2",
        "classifier.cluster_size=4",
        "encoder.lexical_features=60",
        "classifier.initial_scale=1",
    ),
    "dense": ("dense", "classifier.initial_scale=1"),
}


@pytest.fixture
def data(planted, tiny_recipe, tmp_path):
    """``data(name, *settings)``: a recipe and what it reads."""

    def get(name, *settings):
        recipe = tiny_recipe(name, *settings)
        return recipe, prepare(open_dataset(planted), recipe, tmp_path / "cache")

    return get


def scored(recipe, prepared, size):
    """The metrics that each of so many processes finds for the model that the recipe starts with."""

    def work(processes):
        parts = build_parts(recipe, prepared, 10, Silent(), processes=processes)
        batches = prepared.validation_batches(processes.own_rows)
        ranking = None if size == 1 else shared_ranking(parts.model, processes, StopSignals())
        excluded = prepared.store.excluded(prepared.validation)
        section = recipe.evaluation
        return score_split(parts.model, batches, section, Silent(), excluded, ranking=ranking, processes=processes)

    return [asdict(scores.metrics) for scores in run_together(size, work)]


@pytest.mark.parametrize("size", [2, 3])
@pytest.mark.parametrize("name", KINDS)
def test_metrics_are_those_of_one_process(name, size, data):
    recipe, prepared = data(*KINDS[name])
    assert prepared.store.n_labels % 3, "the labels are not even"
    [alone] = scored(recipe, prepared, 1)
    assert alone["points"] > 0
    assert 0 < alone["scores"]["P@5"] < 1
    assert scored(recipe, prepared, size) == [alone] * size


def test_only_the_first_process_keeps_what_metrics_need_of_all_labels(data, monkeypatch):
    made = []

    class Counted(scoring.MetricAccumulator):
        def __init__(self, **settings):
            made.append(settings)
            super().__init__(**settings)

    monkeypatch.setattr(scoring, "MetricAccumulator", Counted)
    recipe, prepared = data("plain")
    scored(recipe, prepared, 3)
    assert len(made) == 1


@pytest.mark.parametrize("layer", [SparseLinear(8, 240_001, 4, device="meta"), DenseLinear(8, 240_001, device="meta")])
def test_no_process_has_the_scores_of_all_labels_or_of_all_its_own(layer):
    x = torch.randn(24, 8, generator=torch.Generator().manual_seed(0))

    def work(processes):
        own = ShardedClassifier(layer, processes)
        with LiveTensors(x, *own.state_dict().values()) as made:
            own.topk(x, 5)
        return made.most

    scores_of_own_labels = 4 * len(x) * (240_001 // 3)
    assert max(run_together(3, work)) < scores_of_own_labels / 2
