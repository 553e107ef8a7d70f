"""Beams made for trained models: what they find of the exact ranking, and that the same seed makes the same one."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from fanin.beams.building import build_beam
from fanin.beams.clusters import related_clusters, units_of_labels
from fanin.beams.quality import measure_beam
from fanin.classifier.label_clusters import unit_count
from fanin.data.batches import Batches
from fanin.data.formats import open_dataset
from fanin.errors import ConfigError, DataError
from fanin.training.preparation import open_split

RECIPES = {
    "plain": ("training.epochs=2",),
    "default": ("training.epochs=1",),
}


@pytest.fixture(scope="module")
def trained(planted, tiny_recipe, train):
    return {name: train(planted, tiny_recipe(name, *settings))[0].model for name, settings in RECIPES.items()}


@pytest.fixture(scope="module")
def texts(planted):
    def batches(model, split, rows=None):
        store = open_split(open_dataset(planted), model, split)
        return Batches(store.split(split), 64, shuffle=False, rows=rows)

    return batches


@pytest.mark.parametrize("name", RECIPES)
def test_recall_and_the_width_that_reaches_it(trained, texts, name):
    model = trained[name]
    taught, held_out = texts(model, "train"), texts(model, "test")
    beams = {
        share: build_beam(model, taught, held_out, k=3, recall=share, cluster_labels=2) for share in (0.5, 0.9, 1.0)
    }
    assert 1 <= beams[0.5].width <= beams[0.9].width <= beams[1.0].width <= beams[1.0].clusters.count
    beams[0.5].clusters.check(model.classifier.sparse_parts())
    for share, beam in beams.items():
        exact, narrower, kept, everything = measure_beam(
            model, beam, held_out, [max(1, beam.width - 1), beam.width, beam.clusters.count], k=3
        )
        assert exact.recall == everything.recall == 1
        assert kept.recall >= share
        assert beam.width == 1 or narrower.recall < share
    again = build_beam(model, taught, held_out, k=3, cluster_labels=2)
    assert torch.equal(again.router.weight, beams[0.9].router.weight)


def test_a_router_learns_more_than_how_often_clusters_are_best(trained, texts):
    model = trained["plain"]
    beam = build_beam(model, texts(model, "train"), texts(model, "test"), k=1, cluster_labels=1)
    often = replace(beam, router=replace(beam.router, weight=torch.zeros_like(beam.router.weight)), width=3)
    learned = replace(beam, width=3)
    recalls = [measure_beam(model, b, texts(model, "test"), [3], k=1)[1].recall for b in (often, learned)]
    assert recalls[0] + 0.2 < recalls[1]


def test_labels_that_are_best_for_the_same_texts_share_a_cluster(trained):
    parts = trained["plain"].classifier.sparse_parts()
    L = unit_count(parts[0].layer)
    inputs = torch.eye(4).repeat_interleave(5, 0)  # four topics, five texts of each
    best = torch.stack([torch.arange(4).repeat_interleave(5) * 3 + i for i in range(3)], 1)  # three labels of each
    made = related_clusters(parts, inputs, best, 3, seed=0)
    assert made.routed == 4
    assert sorted(made.of_unit[best[::5]].flatten().tolist()) == sorted([0, 1, 2, 3] * 3)
    assert all(len(set(row)) == 1 for row in made.of_unit[best].tolist())
    assert made.of_unit[12:].tolist() == (4 + np.arange(L - 12) // 3).tolist()
    made.clusters.check(parts)
    assert units_of_labels(parts, L).tolist() == list(range(L))


def test_mistakes_are_refused(planted, tiny_recipe, train, trained, texts):
    model = trained["plain"]
    taught = texts(model, "train")
    with pytest.raises(ConfigError, match="recall=1.5"):
        build_beam(model, taught, taught, recall=1.5)
    with pytest.raises(DataError, match="needs texts"):
        build_beam(model, texts(model, "train", np.arange(0)), taught)
    broken = train(planted, tiny_recipe("plain", "training.epochs=1"))[0].model
    broken.classifier.bias.data.fill_(float("nan"))
    with pytest.raises(DataError, match="not finite"):
        build_beam(broken, taught, taught)
    dense = train(planted, tiny_recipe("dense", "training.epochs=1"))[0].model
    with pytest.raises(ConfigError, match="no fixed fan-in layer"):
        build_beam(dense, taught, taught)
