"""``fanin inspect``."""

import json

import numpy as np
import pytest
from safetensors.torch import load_file

from fanin.classifier.banded import BandedLinear
from fanin.classifier.bottleneck import BottleneckLinear
from fanin.classifier.dense import DenseLinear
from fanin.classifier.head_tail import HeadTailLinear
from fanin.classifier.masked import MaskedLinear
from fanin.classifier.sparse import SparseLinear
from fanin.cli.model_facts import feature_use, parameter_count
from fanin.encoders.bag import BagEncoder


def test_facts_as_json(trained, invoke):
    outcome = invoke("inspect", trained, "--json")
    assert (outcome.code, outcome.err) == (0, "")
    facts = json.loads(outcome.out)
    assert facts["density"] == 0.5
    assert facts["parameters"]["classifier"] == 4 * 8 + 4
    tensors = load_file(trained / "model" / "encoder.safetensors")
    assert facts["parameters"]["embedding_table"] == tensors["table"].numel() > 0
    assert facts["parameters"]["encoder_layers"] == sum(p.numel() for p in BagEncoder(**facts["encoder"]).parameters())
    assert facts["classifier_bytes"] == {"weight": 4 * 8 * 4, "index": 4 * 8 * 2, "bias": 4 * 4}
    on_disk = sum(path.stat().st_size for path in (trained / "model").rglob("*") if path.is_file())
    assert sum(facts["file_bytes"].values()) == on_disk
    assert facts["labels"]["count"] == 4
    assert facts["labels"]["without_training_points"] == 1
    assert sum(facts["labels"][name] for name in ("head", "middle", "tail")) == 4
    assert facts["recipe"]["classifier"]["fan_in"] == 8


def test_tables(trained, invoke):
    outcome = invoke("inspect", trained)
    assert outcome.code == 0
    for part in ("50.00%", "fan-in 8, group size 1", "min/median/max", "features that no label reads", "6 epochs"):
        assert part in outcome.out
    bare = invoke("inspect", trained / "model")
    assert bare.code == 0
    assert "epochs" not in bare.out


@pytest.fixture(scope="module")
def related(drinks, tiny, invoke, tmp_path_factory):
    """The run folder of a model with lexical features, groups and clusters of related labels."""
    folder = tmp_path_factory.mktemp("runs") / "related"
    chosen = ("encoder.lexical_features=9", "classifier.cluster_size=3", "classifier.group_size=2", "training.steps=9")
    options = [option for setting in (*chosen, "classifier.start=tokens") for option in ("--set", setting)]
    assert invoke("train", drinks, "--recipe", "plain", "--out", folder, *tiny, *options, "--quiet").code == 0
    return folder


def test_lexical_features_and_clusters(related, invoke):
    facts = json.loads(invoke("inspect", related, "--json").out)
    assert (facts["learned_features"], facts["lexical_features"]) == (16, 9)
    sizes = {"weight": 4 * 8 * 4, "index": 2 * 8 * 2, "bias": 4 * 4, "clusters": 2 * 16 * 4, "order": 4 * 4}
    assert facts["classifier_bytes"] == sizes
    assert facts["density"] == (4 * 8 + 2 * 16) / (4 * 25)
    assert facts["share_of_dense"] == (4 * 8 + 2 * 16) / (4 * 16)
    assert facts["parameters"]["classifier"] == 4 * 8 + 2 * 16 + 4
    index = load_file(related / "model" / "classifier.safetensors")["index"].long()
    for name, part in (
        ("labels_reading_a_feature", index[index < 16]),
        ("labels_reading_a_lexical_feature", index[index > 15] - 16),
    ):
        readers = 2 * np.bincount(part, minlength=16 if name == "labels_reading_a_feature" else 9)
        assert facts[name]["most"] == readers.max()
        assert facts[name]["unused_features"] == (readers == 0).sum()


def test_tables_of_lexical_features_and_clusters(related, invoke):
    outcome = invoke("inspect", related)
    assert outcome.code == 0
    for part in (
        "sparse, 16 learned features and 9 lexical ones, 4 labels, fan-in 8, group size 2, clusters of 3",
        "classifier clusters",
        "classifier order",
        "64.00%",
        "100.00%",
        "labels reading a lexical feature",
        "lexical features that no label reads",
        "9 steps",
    ):
        assert part in outcome.out
    (row,) = json.loads(invoke("results", related, "--json").out)
    assert row["classifier_bytes"] == 128 + 32 + 16 + 128 + 16


@pytest.mark.parametrize(("L", "G"), [(10, 1), (12, 4), (13, 4), (1, 4)])
def test_feature_use_counts_labels(L, G):
    layer = SparseLinear(20, L, fan_in=5, group_size=G)
    columns = layer.index.numpy().repeat(G, axis=0)[:L]
    expected = np.array([(columns == feature).sum() for feature in range(20)])
    np.testing.assert_array_equal(feature_use(layer), expected)
    np.testing.assert_array_equal(feature_use(DenseLinear(20, L)), np.full(20, L))


def test_feature_use_and_parameters_of_the_other_kinds():
    split = HeadTailLinear(20, 30, 5, 4, head_labels=6, head_inputs=15)
    expected = feature_use(split.tail)
    expected[:15] += 6
    np.testing.assert_array_equal(feature_use(split), expected)
    assert parameter_count(split) == 6 * 15 + 24 * 5 + 30
    banded = BandedLinear(20, 30, [(4, 9), (26, 5)], 4)
    np.testing.assert_array_equal(feature_use(banded), feature_use(banded.band0) + feature_use(banded.band1))
    assert parameter_count(banded) == 4 * 9 + 26 * 5 + 30
    masked = MaskedLinear(20, 30, 5)
    np.testing.assert_array_equal(feature_use(masked), feature_use(SparseLinear(20, 30, 5)))
    assert parameter_count(masked) == 30 * 5 + 30
    np.testing.assert_array_equal(feature_use(BottleneckLinear(20, 30, 5)), np.full(20, 30))


@pytest.mark.parametrize(
    ("name", "settings", "words", "density"),
    [
        (
            "plain",
            ["classifier.fan_in=8", "classifier.fan_in_by_frequency=[{share: 0.1, fan_in: 32}]"],
            ("banded", "fan-in 32 of 4 labels, 8 of 36 labels", "group size 1"),
            (4 + 36 / 4) / 40,
        ),
        ("head-tail", ["classifier.fan_in=8"], ("head_tail", "2 of them dense", "fan-in 8"), (2 + 38 / 4) / 40),
        ("masked", ["classifier.fan_in=8"], ("masked", "fan-in 8 in the mean", "classifier as compressed rows"), 1 / 4),
        ("bottleneck", ["classifier.width=8"], ("bottleneck", "width 8"), (8 * 32 + 8 * 40) / (32 * 40)),
    ],
)
def test_the_other_kinds_are_shown(name, settings, words, density, planted, tiny_recipe, train, invoke):
    result, run = train(planted, tiny_recipe(name, "training.epochs=1", *settings))
    outcome = invoke("inspect", run.path)
    assert (outcome.code, outcome.err) == (0, "")
    assert all(word in outcome.out for word in words)
    facts = json.loads(invoke("inspect", run.path, "--json").out)
    assert facts["classifier"]["kind"] == words[0]
    assert facts["density"] == pytest.approx(density)
    assert sum(facts["classifier_bytes"].values()) == result.metrics["classifier_bytes"]


def test_no_model_there(tmp_path, invoke):
    outcome = invoke("inspect", tmp_path / "nothing")
    assert outcome.code == 2
    assert "there is no such folder" in outcome.err


def test_an_intermediate_layer_and_an_auxiliary_objective(drinks, tiny, invoke, tmp_path):
    settings = ("--set", "intermediate.width=12", "--set", "auxiliary={clusters: 2, scale: 0.3, cutoff_share: 0.2}")
    assert (
        invoke("train", drinks, "--recipe", "plain", "--out", tmp_path / "run", *tiny, *settings, "--quiet").code == 0
    )
    facts = json.loads(invoke("inspect", tmp_path / "run", "--json").out)
    assert facts["intermediate"] == {"width": 12, "dropout": 0.0}
    assert facts["classifier"]["in_features"] == facts["learned_features"] == 12
    assert facts["parameters"]["encoder_layers"] > sum(p.numel() for p in BagEncoder(**facts["encoder"]).parameters())
    told = invoke("inspect", tmp_path / "run").out
    assert "12 features, ReLU" in told
    assert "30%, off after 20%" in told
