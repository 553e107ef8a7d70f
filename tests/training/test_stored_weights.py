"""Whole runs with weights in bfloat16 and float8: they learn, are rewired and saved; what a file may say."""

import json

import pytest
import torch

from described_models import body_of, describe
from fanin.errors import CheckpointError, ConfigError
from fanin.model_files import load_model

SGD = ["classifier.update.kind=sgd", "classifier.schedule.learning_rate=20"]
KINDS = {
    "plain": ["classifier.fan_in=16", "classifier.cluster_size=8", "classifier.rewiring.interval=10"],
    "head-tail": ["classifier.fan_in=16", "classifier.head_share=0.2", "classifier.rewiring.interval=10"],
    "dense": [],
}
DTYPES = {"bf16": torch.bfloat16, "fp8": torch.float8_e4m3fn}


@pytest.fixture(scope="module", params=[(kind, weights) for kind in KINDS for weights in DTYPES], ids="-".join)
def run(request, planted, tiny_recipe, train):
    kind, weights = request.param
    recipe = tiny_recipe(kind, *KINDS[kind], *SGD, f"classifier.weights={weights}")
    return weights, *train(planted, recipe)


def test_it_learns_and_comes_back(run):
    weights, result, folder = run
    assert result.metrics["test"]["P@1"] > 0.9
    stored = {name: tensor.dtype for name, tensor in result.model.classifier.state_dict().items()}
    assert {dtype for name, dtype in stored.items() if name.endswith("weight")} == {DTYPES[weights]}
    assert {dtype for name, dtype in stored.items() if name.endswith("bias")} == {torch.float32}
    loaded = load_model(folder.model)
    assert {name: tensor.dtype for name, tensor in loaded.classifier.state_dict().items()} == stored
    assert loaded.classifier.settings() == result.model.classifier.settings()
    texts = ["word3 word7 noise1", "", "noise2"]
    assert loaded.predict(texts, 3) == result.model.predict(texts, 3)


def test_a_rewiring_is_reported_as_ever(run):
    _, result, folder = run
    lines = [json.loads(line) for line in (folder.path / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    reports = [line for line in lines if line["event"] == "rewire"]
    assert bool(reports) == bool(result.model.classifier.sparse_parts())
    assert all(line["replaced"] > 0 for line in reports[:5])


def test_the_file_is_as_small_as_it_says(run):
    _, result, folder = run
    told = sum(result.model.classifier.nbytes().values())
    assert result.metrics["classifier_bytes"] == told
    assert told <= (folder.model / "classifier.safetensors").stat().st_size < told + 2000


def test_adamw_learns_in_fewer_bits_too(planted, tiny_recipe, train):
    recipe = tiny_recipe("plain", *KINDS["plain"], "classifier.weights=fp8")
    result, _ = train(planted, recipe)
    assert result.metrics["test"]["P@1"] > 0.9


@pytest.fixture
def description(planted, tiny_recipe, train):
    """The description of a saved model in bfloat16, and what writes another."""
    _, run = train(planted, tiny_recipe("plain", "classifier.weights=bf16", "training.steps=1"))
    part = body_of(run.model)["classifier"]

    def write(**settings):
        kept = {name: value for name, value in (part["settings"] | settings).items() if value is not ...}
        describe(run.model, classifier=part | {"settings": kept})
        return run.model

    return part["settings"], write


def test_a_description_names_dtype_and_rounding_seed(description):
    settings, write = description
    assert settings["dtype"] == "bfloat16"
    loaded = load_model(write(rounding_seed=7))
    assert loaded.classifier.rounding_seed == 7
    assert loaded.classifier.weight.dtype is torch.bfloat16


@pytest.mark.parametrize(
    "changes",
    [
        {"dtype": "float32"},  # the tensors are bfloat16
        {"dtype": "float8_e4m3fn"},
        {"dtype": "int32"},
        {"dtype": "nn"},
        {"dtype": 16},
        {"dtype": ["bfloat16"]},
        {"dtype": None},
        {"rounding_seed": "7"},
        {"rounding_seed": 0.5},
        {"rounding_seed": ...},
        {"dtype": ...},
        {"dtype": ..., "rounding_seed": ...},
        {"backend": "reference"},
    ],
    ids=str,
)
def test_what_a_description_cannot_say_is_refused(changes, description):
    _, write = description
    with pytest.raises(CheckpointError):
        load_model(write(**changes))


def test_fewer_bits_take_plain_sgd_where_no_update_is_set(tmp_path):
    from fanin.recipes.recipe_files import load_recipe

    path = tmp_path / "own.yaml"
    for kind in ("sparse", "dense", "head_tail"):
        for weights in ("bf16", "fp8"):
            path.write_text(f"classifier: {{kind: {kind}, weights: {weights}}}")
            update = load_recipe(str(path)).classifier.update
            assert (update.kind, update.momentum) == ("sgd", 0)
        assert load_recipe(str(path), ["classifier.weights=fp32"]).classifier.update.kind == "adamw"
        assert load_recipe(str(path), ["classifier.update.kind=adamw"]).classifier.update.kind == "adamw"
    assert load_recipe("plain", ["classifier.weights=bf16"]).classifier.update.kind == "adamw"  # its recipe says so


@pytest.mark.parametrize("name", ["bottleneck", "masked", "dense-autograd"])
def test_baselines_have_no_such_setting(name):
    from fanin.recipes.recipe_files import load_recipe

    with pytest.raises(ConfigError, match=r"classifier.*weights"):
        load_recipe(name, ["classifier.weights=bf16"])
