"""Runs whose recipe has lexical features, a start from tokens, groups and clusters of related labels, and rewiring."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from described_models import body_of, describe, note_file
from fanin.errors import CheckpointError
from fanin.kernels.active_inputs import ActiveInputs
from fanin.model_files import load_model, save_model

LEARNED, LEXICAL = 32, 60
SETTINGS = (
    f"encoder.lexical_features={LEXICAL}",
    "encoder.token_dropout=0.1",
    "classifier.cluster_size=4",
    "classifier.start=tokens",
    "training.epochs=6",
)


@pytest.fixture(scope="module", params=[1, 2])
def run(request, planted, tiny_recipe, train):
    return train(planted, tiny_recipe("plain", *SETTINGS, f"classifier.group_size={request.param}"))


def events(run, name):
    lines = [json.loads(line) for line in (run.path / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    return [line for line in lines if line["event"] == name]


def test_what_the_words_say_is_learned(run):
    result, folder = run
    assert result.metrics["test"]["P@1"] > 0.9
    assert len(events(folder, "start")) == 1
    assert {p.label for p in result.model.predict(["word3 word7"], 2)[0]} == {"label [3]", "label [7]"}


def test_the_layer_is_what_the_recipe_says(run):
    result, _ = run
    layer = result.model.classifier
    assert layer.clusters.weight.shape == (10, LEARNED)
    assert layer.clusters.weight.any()
    assert layer.order.outer.tolist() != list(range(40))
    assert result.metrics["classifier_bytes"] == sum(layer.nbytes().values())
    assert sum(layer.nbytes().values()) == (40 * 16 * 4 + layer.index.numel() * 2 + 40 * 4 + 10 * LEARNED * 4 + 40 * 4)


def test_connections_regrow_among_the_learned_features(run, planted, tiny_recipe, train):
    """A start from tokens reads few learned features; only rewiring adds them, and it adds no lexical ones."""
    group = f"classifier.group_size={run[0].model.classifier.group_size}"
    still, _ = train(planted, tiny_recipe("plain", *SETTINGS, group, "classifier.rewiring=null"))
    before, after = (result.model.classifier.index.long() for result in (still, run[0]))
    assert sum(line["replaced"] for line in events(run[1], "rewire")) > 0
    regrown = after[after != before]
    assert len(regrown)
    assert int(regrown.max()) < LEARNED


def test_the_loaded_model_predicts_the_same(run, tmp_path):
    model = run[0].model
    save_model(model, tmp_path / "again")
    loaded = load_model(tmp_path / "again")
    texts = [f"word{i} word{(i * 7) % 39} noise{i}" for i in range(30)] + ["", "nothing known"]
    for some in (texts, texts[:3]):  # batches above and below the size from which index sets are narrowed
        assert loaded.predict(some, 7) == model.predict(some, 7)
    assert loaded.classifier.settings() == model.classifier.settings()
    x = loaded.encoder.eval()(torch.arange(5), torch.tensor([0, 5]))
    assert isinstance(x, ActiveInputs)
    assert x.in_features == LEARNED + LEXICAL == loaded.classifier.in_features


def rewrite(folder, change):
    path = folder / "classifier.safetensors"
    tensors = {name: tensor.clone() for name, tensor in load_file(path).items()}
    change(tensors)
    save_file(tensors, path)
    note_file(folder, path.name)


@pytest.mark.parametrize(
    "change",
    [
        lambda t: t["order.outer"][3].fill_(4),
        lambda t: t["order.outer"][3].fill_(-1),
        lambda t: t["order.outer"][3].fill_(40),
        lambda t: t.update({"order.outer": t["order.outer"].long()}),
        lambda t: t.update({"order.outer": t["order.outer"][:-1].clone()}),
        lambda t: t.update({"clusters.weight": t["clusters.weight"][:-1].clone()}),
        lambda t: t.update({"clusters.weight": t["clusters.weight"].double()}),
        lambda t: t.pop("order.outer"),
        lambda t: t.pop("clusters.weight"),
    ],
)
def test_orders_and_clusters_that_do_not_fit_are_refused(change, run, tmp_path):
    save_model(run[0].model, tmp_path / "model")
    rewrite(tmp_path / "model", change)
    with pytest.raises(CheckpointError, match="classifier.safetensors"):
        load_model(tmp_path / "model")


@pytest.mark.parametrize(
    ("part", "setting", "value"),
    [
        ("classifier", "cluster_size", 5),
        ("classifier", "cluster_size", 0),
        ("classifier", "cluster_size", -1),
        ("classifier", "cluster_size", "4"),
        ("classifier", "cluster_inputs", LEARNED - 1),
        ("classifier", "cluster_inputs", 10**9),
        ("classifier", "ordered", False),
        ("encoder", "lexical_features", LEXICAL - 1),
        ("encoder", "lexical_features", -1),
        ("encoder", "lexical_features", "60"),
        ("encoder", "lexical_scale", 0),
    ],
)
def test_a_description_that_does_not_fit_is_refused(part, setting, value, run, tmp_path):
    save_model(run[0].model, tmp_path / "model")
    described = body_of(tmp_path / "model")[part]
    described["settings"][setting] = value
    describe(tmp_path / "model", **{part: described})
    with pytest.raises(CheckpointError):
        load_model(tmp_path / "model")
