"""Encoders that train in bfloat16: they learn, their kept models are float32, and what cannot be is refused."""

import pytest
import torch

from fanin.errors import ConfigError
from fanin.model_files import load_model
from fanin.recipes.recipe_files import load_recipe
from fanin.training.trainer import Trainer


@pytest.fixture
def trained_dtypes(monkeypatch):
    """The dtypes of the parameters of every encoder that was trained here, while it trained."""
    found = []
    make_step = Trainer._make_step

    def watch(self, batch):
        found.append({p.dtype for p in self._parts.encoder.parameters()})
        return make_step(self, batch)

    monkeypatch.setattr(Trainer, "_make_step", watch)
    return found


@pytest.mark.parametrize("weights", ["bf16-kahan", "bf16-fp32"])
def test_the_bag_learns_as_in_float32(weights, planted, tiny_recipe, train, trained_dtypes):
    narrow, run = train(planted, tiny_recipe("plain", f"encoder.weights={weights}", "training.epochs=6"))
    wide, _ = train(planted, tiny_recipe("plain", "training.epochs=6"))
    assert trained_dtypes[0] == {torch.bfloat16}
    assert trained_dtypes[-1] == {torch.float32}
    assert narrow.metrics["test"]["P@1"] == pytest.approx(wide.metrics["test"]["P@1"], abs=0.05)
    assert narrow.metrics["test"]["P@1"] > 0.8
    kept = load_model(run.model)
    assert {tensor.dtype for tensor in kept.encoder.state_dict().values()} == {torch.float32}


@pytest.mark.parametrize("checkpointing", ["false", "true"])
def test_a_transformer_trains_and_is_kept(checkpointing, planted, transformer_recipe, train, trained_dtypes):
    settings = (f"encoder.gradient_checkpointing={checkpointing}", "encoder.out_features=64", "training.steps=3")
    result, run = train(planted, transformer_recipe("encoder.weights=bf16-kahan", *settings))
    assert trained_dtypes[0] == {torch.bfloat16}
    kept = load_model(run.model)
    assert {p.dtype for p in kept.encoder.parameters()} == {torch.float32}
    assert result.metrics["test"]["points"] == 120


def test_a_projection_of_features(features, feature_recipe, train, trained_dtypes):
    settings = ("encoder.out_features=32", "encoder.weights=bf16-kahan", "training.steps=3")
    train(features["dense"], feature_recipe(*settings))
    assert trained_dtypes[0] == {torch.bfloat16}


def test_a_frozen_transformer_stays_as_it_is():
    with pytest.raises(ConfigError, match="a frozen transformer stays as it is; with frozen set weights to fp32"):
        load_recipe("minilm-frozen", ["encoder.weights=bf16-kahan"])
