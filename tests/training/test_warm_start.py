"""A start from label centroids: independent of chunks, bounded, and better than none."""

import numpy as np
import pytest
import torch

from fanin.classifier.banded import BandedLinear
from fanin.classifier.dense import DenseLinear
from fanin.classifier.head_tail import HeadTailLinear
from fanin.classifier.sparse import SparseLinear
from fanin.classifier.topology import check_index
from fanin.data.formats import open_dataset
from fanin.encoders.transformer_encoder import TransformerEncoder
from fanin.training import warm_start
from fanin.training.assemble import build_encoder
from fanin.training.classifier_start import start_classifier
from fanin.training.parts import build_parts
from fanin.training.preparation import prepare
from fanin.training.progress import Silent
from fanin.training.warm_start import start_from_centroids


@pytest.fixture(scope="module")
def prepared(planted, tiny_recipe, tmp_path_factory):
    recipe = tiny_recipe()
    data = prepare(open_dataset(planted), recipe, tmp_path_factory.mktemp("cache"))
    return data, build_encoder(recipe.encoder, data, 0)


@pytest.mark.parametrize("group_size", [1, 3])
@pytest.mark.parametrize("looked_at", [5, 1 << 14])
def test_chunks_do_not_matter(group_size, looked_at, prepared, monkeypatch):
    monkeypatch.setattr(warm_start, "_LOOKED_AT", looked_at)
    data, encoder = prepared
    layers = [SparseLinear(32, 40, 8, group_size) for _ in range(3)]
    for layer, chunk in zip(layers, (1, 7, 1000), strict=True):
        start_from_centroids(
            layer.sparse_parts(), encoder, data.store.split("train"), data.train_rows, 6.0, Silent(), label_chunk=chunk
        )
    for other in layers[1:]:
        assert torch.equal(layers[0].index, other.index)
        torch.testing.assert_close(layers[0].weight, other.weight)
        torch.testing.assert_close(layers[0].bias, other.bias)
    check_index(layers[0].index, layers[0].index.shape, 32)
    assert encoder.training


def test_rows_that_are_not_trained_on_count_for_nothing(prepared):
    data, encoder = prepared
    split = data.store.split("train")
    of_positive = np.repeat(np.arange(len(split)), np.diff(split.labels_indptr))
    without = np.setdiff1d(np.arange(len(split)), of_positive[split.labels == 0])
    layer = SparseLinear(32, 40, 8, initial_scale=0.0)
    before = layer.index[0].tolist()
    start_from_centroids(layer.sparse_parts(), encoder, split, without, 6.0, Silent())
    assert layer.index[0].tolist() == before
    assert not layer.weight[0].any()
    assert layer.weight[1].any()


@pytest.mark.parametrize("group_size", [1, 3])
def test_labels_in_another_order_get_their_own_centroids(group_size, prepared):
    data, encoder = prepared
    order = torch.randperm(40, generator=torch.Generator().manual_seed(1))
    plain, ordered = SparseLinear(32, 40, 32, group_size), SparseLinear(32, 40, 32, group_size, ordered=True)
    ordered.order.assign(order)
    for layer in (plain, ordered):
        start_from_centroids(
            layer.sparse_parts(), encoder, data.store.split("train"), data.train_rows, 6.0, Silent(), label_chunk=7
        )
    x = torch.randn(5, 32, generator=torch.Generator().manual_seed(2))  # with F = D the order changes no score
    torch.testing.assert_close(ordered(x) - ordered(0 * x), plain(x) - plain(0 * x), rtol=1e-4, atol=1e-4)


def test_the_tail_of_a_split_gets_what_its_labels_would_get_alone(prepared):
    data, encoder = prepared
    alone, split = SparseLinear(32, 40, 8), HeadTailLinear(32, 40, 8, head_labels=5, initial_scale=0.0)
    split.order.assign(torch.cat([torch.arange(20, 25), torch.arange(20), torch.arange(25, 40)]))
    for layer in (alone, split):
        start_from_centroids(layer.sparse_parts(), encoder, data.store.split("train"), data.train_rows, 6.0, Silent())
    (tail,) = split.sparse_parts()
    torch.testing.assert_close(tail.layer.weight[:-1], alone.weight[tail.labels][:-1])  # the last label has no texts
    assert torch.equal(tail.layer.index[:-1].int(), alone.index.int()[tail.labels][:-1])
    assert not split.head.weight.any()


@pytest.mark.parametrize("group_size", [1, 3])
def test_bands_get_what_their_labels_would_get_alone(group_size, prepared):
    data, encoder = prepared
    order = torch.randperm(40, generator=torch.Generator().manual_seed(1))
    whole = SparseLinear(32, 40, 8, group_size, ordered=True, initial_scale=0.0)
    bands = BandedLinear(32, 40, [(12, 8), (28, 8)], group_size, initial_scale=0.0)
    for layer in (whole, bands):
        layer.order.assign(order)
        rows = data.train_rows
        start_from_centroids(layer.sparse_parts(), encoder, data.store.split("train"), rows, 6.0, Silent())
    parts = [part.layer for part in bands.sparse_parts()]
    seen = order != 39  # the last label has no texts
    for name in ("weight", "bias"):
        tensors = torch.cat([getattr(layer, name) for layer in parts])
        torch.testing.assert_close(tensors[seen], getattr(whole, name)[seen])


@pytest.mark.parametrize("chunk", [7, 1000])
def test_a_dense_layer_starts_as_one_that_reads_every_input(chunk, prepared):
    data, encoder = prepared
    split, rows = data.store.split("train"), data.train_rows
    sparse, dense = SparseLinear(32, 40, 32, initial_scale=0.0), DenseLinear(32, 40, initial_scale=0.0)
    start_from_centroids(sparse.sparse_parts(), encoder, split, rows, 6.0, Silent())
    start_from_centroids([(dense, torch.arange(40))], encoder, split, rows, 6.0, Silent(), label_chunk=chunk)
    seen = slice(39)  # the last label has no texts
    torch.testing.assert_close(dense.weight[seen], sparse.weight[seen])
    torch.testing.assert_close(dense.bias, sparse.bias)


def test_dense_kinds_of_a_recipe_start_from_centroids(planted, tiny_recipe, train):
    settings = ("training.steps=1", "training.epochs=1", "classifier.start=centroids")
    for kind in ("dense", "dense-autograd"):
        cold, _ = train(planted, tiny_recipe(kind, *settings[:-1]))
        warm, _ = train(planted, tiny_recipe(kind, *settings))
        assert warm.metrics["test"]["P@1"] > cold.metrics["test"]["P@1"] + 0.2


def test_it_predicts_before_training(planted, tiny_recipe, train):
    """One step of training, which alone teaches nothing, after each start."""
    settings = ("training.epochs=1", "training.batch_size=1000", "encoder.out_features=128", "classifier.fan_in=32")
    cold, _ = train(planted, tiny_recipe("plain", *settings))
    warm, run = train(planted, tiny_recipe("plain", *settings, "classifier.start=centroids"))
    assert warm.metrics["test"]["P@1"] > 2 * cold.metrics["test"]["P@1"] + 0.2
    assert '"event": "start"' in (run.path / "log.jsonl").read_text(encoding="utf-8")


@pytest.mark.parametrize("settings", [(), ("intermediate.width=48",), ("encoder.out_features=24",)], ids=str)
def test_a_transformer_encodes_each_text_once_for_a_start(settings, planted, transformer_recipe, tmp_path, monkeypatch):
    recipe = transformer_recipe("classifier.start=centroids", "classifier.fan_in=16", *settings)
    data = prepare(open_dataset(planted), recipe, tmp_path)
    split = data.store.split("train")
    parts, expected = (build_parts(recipe, data, 10, Silent()) for _ in range(2))
    monkeypatch.setattr(warm_start, "CHUNK_VALUES", 7 * expected.encoder.out_features)  # many passes over the texts
    start_from_centroids(
        expected.classifier.sparse_parts(),
        expected.encoder,
        split,
        data.train_rows,
        recipe.classifier.start_gain,
        Silent(),
    )
    encoded, vectors = [], TransformerEncoder.vectors

    def counted(self, tokens, offsets):
        encoded.append(len(offsets) - 1)
        return vectors(self, tokens, offsets)

    monkeypatch.setattr(TransformerEncoder, "vectors", counted)
    assert start_classifier(recipe, data, parts, Silent(), torch.device("cpu"))
    assert sum(encoded) == len(split)
    assert torch.equal(parts.classifier.index, expected.classifier.index)
    torch.testing.assert_close(parts.classifier.weight, expected.classifier.weight, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(parts.classifier.bias, expected.classifier.bias, rtol=1e-4, atol=1e-4)
    assert parts.classifier.weight.any()
