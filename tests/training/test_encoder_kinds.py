"""Whole runs with transformers and with features in place of the bag of embeddings."""

import numpy as np
import pytest
import torch

from fanin.data.feature_store import read_features
from fanin.data.formats import open_dataset
from fanin.encoders.transformer_encoder import TransformerEncoder
from fanin.errors import ConfigError, DataError
from fanin.model_files import load_model
from fanin.recipes.recipe_files import load_recipe
from fanin.training import vector_cache
from fanin.training.preparation import open_split, prepare


@pytest.fixture
def frozen_recipe(transformer_recipe):
    def load(*settings):
        return transformer_recipe("encoder.frozen=true", "training.epochs=6", *settings)

    return load


def test_a_transformer_is_fine_tuned(planted, transformer_recipe, train):
    result, run = train(planted, transformer_recipe("training.epochs=4", "encoder.optimizer.learning_rate=0.003"))
    assert result.metrics["test"]["P@1"] > 0.5
    texts = ["word3 word7 noise1", "", "unheard"]
    again = load_model(run.model)
    for one, other in zip(again.predict(texts, 3), result.model.predict(texts, 3), strict=True):
        assert [p.label for p in one] == [p.label for p in other]


def test_a_frozen_transformer_is_left_as_it_is(planted, frozen_recipe, train, tiny_transformer):
    from transformers import AutoModel

    result, run = train(planted, frozen_recipe("encoder.out_features=64", "encoder.projection.learning_rate=0.01"))
    assert result.metrics["test"]["P@1"] > 0.5
    kept, original = load_model(run.model).encoder.transformer, AutoModel.from_pretrained(tiny_transformer)
    for name, tensor in kept.state_dict().items():
        assert torch.equal(tensor, original.state_dict()[name]), name


def test_cached_vectors_score_as_the_texts_do(planted, frozen_recipe, train):
    _, run = train(planted, frozen_recipe("training.epochs=1"))
    model = load_model(run.model)
    split = open_split(open_dataset(planted), model, "test", run.path / "cache").split("test")
    _, labels = model.rank(split.inputs(np.arange(100)), 5)
    data = prepare(open_dataset(planted), frozen_recipe(), run.path / "cache")
    vectors = data.store.split("test")
    assert len(vectors.inputs(np.arange(100))) == 1
    assert torch.equal(model.rank(vectors.inputs(np.arange(100)), 5)[1], labels)


def test_vectors_are_computed_once(planted, frozen_recipe, tmp_path, monkeypatch):
    first = prepare(open_dataset(planted), frozen_recipe(), tmp_path).store

    def never(*_args):
        raise AssertionError("the vectors were there already")

    monkeypatch.setattr(TransformerEncoder, "vectors", never)
    second = prepare(open_dataset(planted), frozen_recipe("encoder.dropout=0.5", "training.seed=3"), tmp_path).store
    assert np.array_equal(first.vectors["train"], second.vectors["train"])
    with pytest.raises(AssertionError, match="already"):
        prepare(open_dataset(planted), frozen_recipe("encoder.pooling=cls"), tmp_path)
    with pytest.raises(AssertionError, match="already"):
        prepare(open_dataset(planted), frozen_recipe("encoder.max_length=5"), tmp_path)


def test_an_interrupted_computation_goes_on_where_it_stopped(planted, frozen_recipe, tmp_path, monkeypatch):
    whole = prepare(open_dataset(planted), frozen_recipe(), tmp_path / "whole").store.vectors
    monkeypatch.setattr(vector_cache, "_BLOCK", 64)
    append, blocks = vector_cache._append, []

    def interrupted(file, vectors):
        append(file, vectors[: 64 if len(blocks) < 4 else 10])  # a part of a block is on disk when the power fails
        blocks.append(len(vectors))
        if len(blocks) == 5:
            raise KeyboardInterrupt

    monkeypatch.setattr(vector_cache, "_append", interrupted)
    with pytest.raises(KeyboardInterrupt):
        prepare(open_dataset(planted), frozen_recipe(), tmp_path / "cache")
    assert not list((tmp_path / "cache" / "vectors").glob("*.f32"))
    blocks.clear()
    monkeypatch.setattr(vector_cache, "_append", lambda file, vectors: (append(file, vectors), blocks.append(vectors)))
    found = prepare(open_dataset(planted), frozen_recipe(), tmp_path / "cache").store.vectors
    assert sum(map(len, blocks)) == 600 - 4 * 64 + 120
    for name, vectors in whole.items():
        np.testing.assert_allclose(found[name], vectors, atol=1e-5)
    assert not list((tmp_path / "cache" / "vectors").glob("*.partial"))


def test_damaged_vectors_are_made_anew(planted, frozen_recipe, tmp_path):
    def vectors():
        return prepare(open_dataset(planted), frozen_recipe(), tmp_path).store.vectors

    first = {name: array.copy() for name, array in vectors().items()}
    for changed in (lambda content: content[:-1], lambda content: content + b"more", lambda _content: b""):
        for path in (tmp_path / "vectors").iterdir():
            content = path.read_bytes()
            path.unlink()  # it may still be mapped
            path.write_bytes(changed(content))
        assert all(np.array_equal(vectors()[name], array) for name, array in first.items())


@pytest.mark.parametrize("blocks", [0, 1, 2, 100])
def test_what_is_left_of_an_interrupted_computation_may_have_any_length(
    blocks, planted, frozen_recipe, tmp_path, monkeypatch
):
    monkeypatch.setattr(vector_cache, "_BLOCK", 64)
    whole = prepare(open_dataset(planted), frozen_recipe(), tmp_path).store.vectors
    for path in sorted((tmp_path / "vectors").iterdir()):
        content = path.read_bytes()
        width = len(whole["train"][0]) * 4
        path.unlink()
        path.with_suffix(".partial").write_bytes((content + bytes(100 * 64 * width))[: blocks * 64 * width + 7])
    again = prepare(open_dataset(planted), frozen_recipe(), tmp_path).store.vectors
    for name, array in whole.items():
        np.testing.assert_allclose(again[name], array, atol=1e-5)


def test_a_cache_that_cannot_be_written_is_named(planted, frozen_recipe, tmp_path):
    prepare(open_dataset(planted), frozen_recipe(), tmp_path)
    for path in (tmp_path / "vectors").iterdir():
        path.unlink()
    (tmp_path / "vectors").rmdir()
    (tmp_path / "vectors").touch()
    with pytest.raises(ConfigError, match="FANIN_CACHE"):
        prepare(open_dataset(planted), frozen_recipe(), tmp_path)


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        ("dense", ("classifier.fan_in=90",)),
        ("dense", ("encoder.out_features=32",)),
        ("sparse", ("encoder.out_features=32",)),
    ],
)
def test_features_are_learned_from(kind, settings, features, train, feature_recipe):
    result, run = train(features[kind], feature_recipe(*settings))
    assert result.metrics["test"]["P@1"] > 0.8
    file = features[kind] / ("tst_X.npy" if kind == "dense" else "tst_X_Xf.txt")
    model, given = load_model(run.model), read_features(file)
    assert model.tokenizer is None
    found = list(model.predict_features(given, 3))
    assert found == list(result.model.predict_features(given, 3))
    assert len(found) == 120
    with pytest.raises(ConfigError, match="reads no texts"):
        model.predict(["word1"])


def test_other_features_than_those_trained_on_are_refused(features, train, tmp_path, feature_recipe):
    _, run = train(features["dense"], feature_recipe("training.epochs=1"))
    model = load_model(run.model)
    np.save(tmp_path / "x.npy", np.ones((2, 91), np.float32))
    with pytest.raises(DataError, match="dense features, 91 of them, .* trained on 90 dense ones"):
        list(model.predict_features(read_features(tmp_path / "x.npy")))
    with pytest.raises(DataError, match="sparse features, 90 of them"):
        open_split(open_dataset(features["sparse"]), model, "test")


def test_what_does_not_go_together_is_refused(planted, features, tmp_path, feature_recipe):
    with pytest.raises(DataError, match="holds no features"):
        prepare(open_dataset(planted), feature_recipe(), tmp_path)
    with pytest.raises(DataError, match="no texts"):
        prepare(open_dataset(features["dense"]), load_recipe(), tmp_path)
    with pytest.raises(ConfigError, match="tokenizer section belongs to encoder.kind bag"):
        feature_recipe("tokenizer.max_length=5")
    with pytest.raises(ConfigError, match="freeze_layers does nothing where frozen"):
        load_recipe("minilm-frozen", ["encoder.freeze_layers=1"])


def test_sparse_features_need_a_projection(features, train, feature_recipe):
    with pytest.raises(ConfigError, match="encoder.out_features is null"):
        train(features["sparse"], feature_recipe())
