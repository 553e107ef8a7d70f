"""Whole runs with the auxiliary objective and the intermediate layer, and mistakes in their settings."""

import json

import pytest
import torch

from described_models import body_of, describe
from fanin.encoders.features import FeatureEncoder
from fanin.encoders.intermediate import IntermediateLayer
from fanin.errors import CheckpointError, ConfigError
from fanin.model_files import load_model
from fanin.recipes.recipe import FeaturesSection
from fanin.recipes.recipe_files import load_recipe
from fanin.recipes.remedies_recipe import IntermediateSection
from fanin.training.assemble import build_encoder_update

AUXILIARY = "auxiliary={clusters: 8, scale: 0.4, cutoff_share: 0.25, schedule: {learning_rate: 0.05}}"
INTERMEDIATE = "intermediate={width: 96, dropout: 0.1, schedule: {learning_rate: 0.005}}"
TEXTS = ["word3 word7 noise1", "", "noise2"]


def steps(run):
    lines = [json.loads(line) for line in (run.path / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    return [line for line in lines if line["event"] == "step"]


@pytest.mark.parametrize("name", ["plain", "dense"])
def test_with_the_auxiliary_objective_the_labels_are_learned(name, planted, tiny_recipe, train):
    result, run = train(planted, tiny_recipe(name, AUXILIARY, "training.epochs=8"))
    assert result.metrics["test"]["P@1"] > 0.9
    cutoff = 8 * 18 // 4
    early = [line for line in steps(run) if line["step"] <= cutoff]
    shares = [line["auxiliary_share"] for line in early]
    assert shares == sorted(shares, reverse=True)
    assert 0 < shares[-1] < shares[0] < 0.4
    assert early[-1]["auxiliary_loss"] < early[0]["auxiliary_loss"]
    assert not any("auxiliary_loss" in line for line in steps(run)[len(early) :])


def test_it_may_stay_on_for_the_whole_run(planted, tiny_recipe, train):
    settings = ["auxiliary={labels_per_cluster: 5, cutoff_share: 1, decay: none}", "training.epochs=2"]
    _, run = train(planted, tiny_recipe("plain", *settings))
    assert {line["auxiliary_share"] for line in steps(run)} == {0.4}


def test_a_widened_encoder_learns_is_saved_and_predicts_the_same(planted, tiny_recipe, train):
    result, run = train(planted, tiny_recipe("plain", INTERMEDIATE, "training.epochs=8"))
    assert result.metrics["test"]["P@1"] > 0.9
    assert result.model.classifier.in_features == 96
    assert body_of(run.model)["encoder"]["intermediate"] == {"width": 96, "dropout": 0.1}
    again = load_model(run.model)
    assert again.predict(TEXTS, 3) == result.model.predict(TEXTS, 3)
    for name, tensor in result.model.encoder.state_dict().items():
        assert torch.equal(tensor, again.encoder.state_dict()[name]), name


def test_everything_together(planted, tiny_recipe, train):
    lexical = ["encoder.lexical_features=60", "classifier.start=tokens", "classifier.cluster_size=4"]
    result, _ = train(planted, tiny_recipe("plain", AUXILIARY, INTERMEDIATE, *lexical, "training.epochs=4"))
    assert result.metrics["test"]["P@1"] > 0.9
    assert result.model.classifier.in_features == 96 + 60
    assert result.model.classifier.index.long().max() >= 96  # lexical features are read too


def test_centroids_start_in_the_widened_space(planted, tiny_recipe, train):
    result, _ = train(planted, tiny_recipe("plain", INTERMEDIATE, "classifier.start=centroids", "training.epochs=4"))
    assert result.metrics["test"]["P@1"] > 0.9


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["auxiliary.cluster=3"], "did you mean 'clusters'?"),
        (["auxiliary.scale=1"], "auxiliary.scale"),
        (["auxiliary.scale=0"], "auxiliary.scale"),
        (["auxiliary.cutoff_share=0"], "auxiliary.cutoff_share"),
        (["auxiliary.decay=linear"], "auxiliary.decay"),
        (["auxiliary.update.momentum=0.5"], "momentum belongs to kind sgd"),
        (["intermediate.width=1"], "intermediate.width"),
        (["intermediate.dropout=1"], "intermediate.dropout"),
        (["intermediate.width=16", "classifier.fan_in=17"], "fan_in is 17 and intermediate.width only 16"),
    ],
)
def test_mistakes_are_named(settings, message):
    with pytest.raises(ConfigError) as caught:
        load_recipe("plain", settings)
    assert message in str(caught.value)


def test_a_wide_layer_lets_a_label_read_more_than_the_encoder_gives():
    recipe = load_recipe("plain", ["intermediate.width=1024", "classifier.fan_in=600", "encoder.out_features=128"])
    assert recipe.intermediate.width == 1024


def test_off_by_default():
    assert load_recipe().intermediate is None
    assert load_recipe().auxiliary is None


def test_the_layer_has_its_own_learning_rate():
    encoder = IntermediateLayer(FeatureEncoder(4, 6, seed=1), 5, seed=2)
    schedule = {"warmup_share": 0.0, "final_share": 1.0}
    section = FeaturesSection(optimizer={"learning_rate": 0.01, **schedule}, weight_decay=0.0)
    update = build_encoder_update(
        section, encoder, 10, IntermediateSection(schedule={"learning_rate": 0.1, **schedule})
    )
    before = {name: parameter.detach().clone() for name, parameter in encoder.named_parameters()}
    generator = torch.Generator().manual_seed(0)
    x = encoder.eval()(torch.randn(9, 4, generator=generator))
    update.backward(x, torch.randn(9, 5, generator=generator))
    update.step(1)
    for name, parameter in encoder.named_parameters():
        rate = 0.1 if name.startswith("layer.") else 0.01  # the first step of AdamW is the rate's size
        torch.testing.assert_close((parameter - before[name]).abs().max().item(), rate, rtol=1e-3, atol=0)


@pytest.fixture
def widened_model(planted, tiny_recipe, train, tmp_path):
    _, run = train(planted, tiny_recipe("dense", INTERMEDIATE, "training.epochs=1"))
    return run.model


def change_description(folder, **settings):
    part = body_of(folder)["encoder"]
    part["intermediate"].update(settings)
    describe(folder, encoder=part)


def test_a_layer_that_is_missing_or_not_as_described_is_refused(widened_model):
    for settings in ({"width": 97}, {"width": "96"}, {"width": 0}, {"width": 2**40}, {"dropout": 2.0}, {"depth": 3}):
        kept = (widened_model / "model.json").read_bytes()
        change_description(widened_model, **settings)
        with pytest.raises(CheckpointError, match=str(widened_model)):
            load_model(widened_model)
        (widened_model / "model.json").write_bytes(kept)
    load_model(widened_model)
    (widened_model / "intermediate.safetensors").unlink()
    with pytest.raises(CheckpointError, match="intermediate.safetensors"):
        load_model(widened_model)
