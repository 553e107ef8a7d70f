"""Whole runs with every kind of classifier: they learn, are rewired and started, saved and described."""

import json
import shutil
from itertools import pairwise

import numpy as np
import pytest
import torch

from described_models import body_of, describe
from fanin.classifier.banded import BandedLinear
from fanin.classifier.head_tail import HeadTailLinear
from fanin.classifier.masked import MaskedLinear
from fanin.data.formats import open_dataset
from fanin.errors import CheckpointError, ConfigError
from fanin.model_files import load_model
from fanin.recipes.classifier_recipe import HeadTailSection
from fanin.recipes.recipe_files import load_recipe
from fanin.training.assemble import build_encoder
from fanin.training.assemble_classifier import build_classifier, build_label_order, fan_in_bands
from fanin.training.preparation import prepare
from fanin.training.progress import Silent

BANDS = "classifier.fan_in_by_frequency=[{share: 0.05, fan_in: 32}, {share: 0.2, fan_in: 20}]"
KINDS = {
    "plain": ["classifier.fan_in=16", BANDS],
    "static": ["classifier.fan_in=16"],
    "dense-autograd": [],
    "bottleneck": ["classifier.width=16"],
    "head-tail": ["classifier.fan_in=16", "classifier.head_share=0.2", "classifier.rewiring.interval=10"],
    "masked": ["classifier.fan_in=16", "classifier.rewiring.interval=10"],
}


@pytest.fixture(scope="module", params=KINDS)
def run(request, planted, tiny_recipe, train):
    result, run = train(planted, tiny_recipe(request.param, *KINDS[request.param]))
    return request.param, result, run


def _events(run, name):
    lines = [json.loads(line) for line in (run.path / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    return [line for line in lines if line["event"] == name]


def test_it_learns_and_comes_back(run):
    _, result, folder = run
    assert result.metrics["test"]["P@1"] > 0.9
    loaded = load_model(folder.model)
    assert type(loaded.classifier) is type(result.model.classifier)
    texts = ["word3 word7 noise1", "", "noise2"]
    assert loaded.predict(texts, 3) == result.model.predict(texts, 3)


@pytest.mark.parametrize("setting", ["in_features", "out_features"])
def test_sizes_that_a_description_promises_are_not_allocated(setting, run, tmp_path):
    folder = shutil.copytree(run[2].model, tmp_path / "model")
    part = body_of(folder)["classifier"]
    for size in (10**12, -1, "many"):
        part["settings"][setting] = size
        describe(folder, classifier=part)
        with pytest.raises(CheckpointError):
            load_model(folder)


@pytest.mark.parametrize(
    "bands", [[[40, 16]], [[2, 16], [38, 33]], [[2, 16], [39, 16]], [2, 38], {"2": 16}, [["2", 16]], []]
)
def test_bands_that_a_file_cannot_have_are_refused(bands, planted, tiny_recipe, train):
    _, run = train(planted, tiny_recipe("plain", *KINDS["plain"], "training.steps=1"))
    part = body_of(run.model)["classifier"]
    part["settings"]["bands"] = bands
    describe(run.model, classifier=part)
    with pytest.raises(CheckpointError):
        load_model(run.model)


def test_it_is_rewired_on_schedule_if_its_recipe_says_so(run):
    name, result, folder = run
    reports = _events(folder, "rewire")
    if name in ("static", "dense-autograd", "bottleneck"):
        assert not reports
        return
    assert [line["step"] for line in reports] == list(range(10, int(0.66 * 12 * 18) + 1, 10))
    assert all(line["replaced"] > 0 and 0 < line["share"] <= 0.2 for line in reports[:5])
    assert reports[0]["grown"] == {"random": reports[0]["replaced"]}
    if isinstance(result.model.classifier, MaskedLinear):
        assert len(result.model.classifier.mask.sum(1).unique()) > 1


def test_the_bytes_are_those_of_the_kind(run):
    name, result, _ = run
    expected = {
        "plain": (2 * 32 + 8 * 20 + 30 * 16) * (4 + 2) + 40 * 4 + 40 * 4,
        "static": 40 * 16 * (4 + 2) + 40 * 4,
        "dense-autograd": 40 * 32 * 4 + 40 * 4,
        "bottleneck": 4 * (32 * 16 + 16 * 40) + 40 * 4,
        "head-tail": 4 * 8 * 32 + 32 * 16 * (4 + 2) + 40 * 4 + 40 * 4,
        "masked": 40 * 16 * (4 + 4) + 8 * 41 + 40 * 4,
    }
    assert result.metrics["classifier_bytes"] == expected[name]


def test_the_head_holds_the_most_frequent_labels(planted, tiny_recipe, tmp_path):
    recipe = tiny_recipe("head-tail", "classifier.fan_in=16", "classifier.head_share=0.1")
    data = prepare(open_dataset(planted), recipe, tmp_path)
    encoder = build_encoder(recipe.encoder, data, 0)
    order = build_label_order(recipe.classifier, data, encoder, 0, Silent())
    counts = data.train_counts()
    classifier = build_classifier(recipe.classifier, encoder, counts, len(data.train_rows), 0, order)
    assert isinstance(classifier, HeadTailLinear)
    head, tail = order[:4].numpy(), order[4:].numpy()
    assert counts[head].min() >= counts[tail].max()
    assert np.all(np.diff(tail) > 0)
    share = (counts + 0.1) / (len(data.train_rows) + 0.2)
    bias = classifier(torch.zeros(1, 32))[0].detach().numpy()
    np.testing.assert_allclose(bias, np.log(share / (1 - share)), rtol=1e-5)


def test_bands_hold_labels_by_frequency_and_related_ones_together(planted, tiny_recipe, tmp_path):
    recipe = tiny_recipe("plain", BANDS, "classifier.cluster_size=6", "classifier.cluster_rate=0.25")
    data = prepare(open_dataset(planted), recipe, tmp_path)
    encoder, counts = build_encoder(recipe.encoder, data, 0), data.train_counts()
    order = build_label_order(recipe.classifier, data, encoder, 0, Silent())
    classifier = build_classifier(recipe.classifier, encoder, counts, len(data.train_rows), 0, order)
    assert isinstance(classifier, BandedLinear)
    assert classifier.settings()["bands"] == [[2, 32], [8, 20], [30, 16]]
    assert {part.layer.clusters.rate for part in classifier.sparse_parts()} == {0.25}
    parts = [part.labels.numpy() for part in classifier.sparse_parts()]
    assert sorted(np.concatenate(parts).tolist()) == list(range(40))
    for part, behind in pairwise(parts):
        assert counts[part].min() >= counts[behind].max()
    assert [bool(np.all(np.diff(part) > 0)) for part in parts] == [True, False, False]  # two labels make no cluster


def test_related_labels_are_grouped_behind_the_head(planted, tiny_recipe, tmp_path):
    recipe = tiny_recipe("head-tail", "classifier.fan_in=16", "classifier.head_share=0.1", "classifier.cluster_size=6")
    data = prepare(open_dataset(planted), recipe, tmp_path)
    order = build_label_order(recipe.classifier, data, build_encoder(recipe.encoder, data, 0), 0, Silent())
    assert sorted(order.tolist()) == list(range(40))
    assert np.all(np.diff(order[:4]) > 0)
    assert not np.all(np.diff(order[4:]) > 0)


def test_a_split_with_everything_learns(planted, tiny_recipe, train):
    recipe = tiny_recipe(
        "head-tail",
        "classifier.fan_in=16",
        "classifier.head_share=0.1",
        "classifier.cluster_size=6",
        "classifier.group_size=3",
        "classifier.rewiring={interval: 10, grow: {random: 0.5, gradient: 0.5}, scope: layer}",
        "encoder.lexical_features=60",
        "classifier.start=tokens",
    )
    result, run = train(planted, recipe)
    assert result.metrics["test"]["P@1"] > 0.9
    assert result.model.classifier.head.in_features == 32
    assert _events(run, "start")
    assert any(line["grown"]["gradient"] for line in _events(run, "rewire"))
    texts = ["word3 word7 noise1", "", "noise2"]
    assert load_model(run.model).predict(texts, 3) == result.model.predict(texts, 3)


def test_bands_with_everything_learn(planted, tiny_recipe, train):
    recipe = tiny_recipe(
        "plain",
        BANDS,
        "classifier.cluster_size=6",
        "classifier.group_size=3",
        "classifier.rewiring={interval: 10, grow: {random: 0.5, gradient: 0.25, separating: 0.25}, scope: layer}",
        "encoder.lexical_features=60",
        "classifier.start=tokens",
    )
    result, run = train(planted, recipe)
    assert result.metrics["test"]["P@1"] > 0.9
    assert _events(run, "start")
    for mode in ("random", "gradient", "separating"):
        assert any(line["grown"][mode] for line in _events(run, "rewire"))
    texts = ["word3 word7 noise1", "", "noise2"]
    assert load_model(run.model).predict(texts, 3) == result.model.predict(texts, 3)


@pytest.mark.parametrize("name", ["plain", "head-tail"])
def test_a_reference_fan_in_reaches_all_layers(name, planted, tiny_recipe, train):
    settings = [BANDS, "training.epochs=8"] if name == "plain" else ["classifier.fan_in=16", "training.epochs=8"]
    result, _ = train(planted, tiny_recipe(name, *settings, "classifier.reference_fan_in=12"))
    assert result.metrics["test"]["P@1"] > 0.8
    recipe = tiny_recipe(name, *settings, "classifier.reference_fan_in=12")
    counts = np.arange(40)
    encoder = result.model.encoder
    layer = build_classifier(recipe.classifier, encoder, counts, 100, 0, torch.arange(40))
    assert {band.reference_fan_in for band in layer.bands} == {12}


@pytest.mark.parametrize(
    ("labels", "inputs", "expected"),
    [
        (100, 512, [(5, 32), (20, 20), (75, 40)]),
        (100, 24, [(5, 24), (20, 20), (75, 40)]),
        (4, 512, [(1, 20), (3, 40)]),
        (1, 512, [(1, 40)]),
    ],
)
def test_bands_fit_the_labels_and_the_learned_features(labels, inputs, expected):
    assert fan_in_bands(load_recipe("plain", [BANDS]).classifier, labels, inputs) == expected


@pytest.mark.parametrize(("share", "labels", "expected"), [(0.05, 100, 5), (0.05, 3, 1), (0.99, 3, 2), (0.5, 2, 1)])
def test_head_and_tail_have_a_label_each(share, labels, expected):
    assert fan_in_bands(HeadTailSection(head_share=share), labels, 9) == [(expected, 9), (labels - expected, 32)]


def test_a_single_label_has_no_tail():
    with pytest.raises(ConfigError, match="needs a dense label and another; the data has 1"):
        fan_in_bands(HeadTailSection(), 1, 9)
