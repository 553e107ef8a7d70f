"""A start from the tokens that mark labels: what each label reads, with which weights, and what it predicts."""

from collections import Counter

import numpy as np
import pytest
import torch

from fanin.classifier.banded import BandedLinear
from fanin.classifier.sparse import SparseLinear
from fanin.classifier.topology import check_index, draw_index
from fanin.data.formats import open_dataset
from fanin.training.assemble import build_encoder
from fanin.training.preparation import prepare
from fanin.training.progress import Silent
from fanin.training.token_start import start_from_tokens

F, GAIN = 8, 5.0


@pytest.fixture(scope="module")
def prepared(planted, tiny_recipe, tmp_path_factory):
    recipe = tiny_recipe("plain", "encoder.lexical_features=200", "encoder.lexical_scale=2.0")
    data = prepare(open_dataset(planted), recipe, tmp_path_factory.mktemp("cache"))
    return data, build_encoder(recipe.encoder, data, 0)


def started(prepared, *, rows=None, **options):
    data, encoder = prepared
    layer = SparseLinear(encoder.out_features, 40, F, **options)
    if layer.order is not None:
        layer.order.assign(torch.randperm(40, generator=torch.Generator().manual_seed(2)))
    split, rows = data.store.split("train"), data.train_rows if rows is None else rows
    start_from_tokens(layer.sparse_parts(), encoder, split, rows, GAIN, 9, Silent())
    return layer


def label_vectors(prepared, rows):
    """Sums of the texts' unit vectors over lexical tokens, (40, tokens) float64, by counting."""
    data, encoder = prepared
    split, weights = data.store.split("train"), encoder.token_weights.numpy().astype(np.float64)
    vectors = np.zeros((40, encoder.lexical_features))
    for row in rows:
        counted = Counter(split.tokens[split.tokens_indptr[row] : split.tokens_indptr[row + 1]].tolist())
        text = np.zeros(encoder.lexical_features)
        for token, count in counted.items():
            if token < encoder.lexical_features:
                text[token] = count * weights[token]
        for label in split.labels[split.labels_indptr[row] : split.labels_indptr[row + 1]]:
            vectors[label] += text / max(np.linalg.norm(text), 1e-30)
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-30)


@pytest.mark.parametrize("G", [1, 3])
@pytest.mark.parametrize("ordered", [False, True])
def test_labels_read_their_strongest_tokens(prepared, G, ordered):
    data, encoder = prepared
    layer = started(prepared, group_size=G, ordered=ordered, cluster_size=5, initial_scale=1.0)
    check_index(layer.index, tuple(layer.index.shape), encoder.out_features)
    vectors = label_vectors(prepared, data.train_rows)
    labels = layer.sparse_parts()[0].labels.tolist()
    for s, inputs in enumerate(layer.index.long().tolist()):
        members = labels[s * G : (s + 1) * G]
        energy = np.square(vectors[members]).sum(0)
        tokens = [i - encoder.learned_features for i in inputs if i >= encoder.learned_features]
        assert len(tokens) == min(F, int((energy > 0).sum()))
        np.testing.assert_allclose(energy[tokens], np.sort(energy)[::-1][: len(tokens)], rtol=1e-4)
        for place, label in enumerate(members, s * G):
            expected = np.zeros(F)
            expected[: len(tokens)] = vectors[label, tokens]
            expected *= GAIN / encoder.lexical_scale / max(np.linalg.norm(expected), 1e-30)
            np.testing.assert_allclose(layer.weight[place].detach(), expected, atol=1e-4)


def test_what_texts_leave_free_reads_random_learned_features(prepared):
    """The last label is never seen; nor is the first with these rows."""
    data, encoder = prepared
    split = data.store.split("train")
    of_positive = np.repeat(np.arange(len(split)), np.diff(split.labels_indptr))
    layer = started(prepared, rows=np.setdiff1d(data.train_rows, of_positive[split.labels == 0]))
    random = draw_index(40, F, encoder.learned_features, 9)
    for label in (0, 39):
        assert layer.index[label].tolist() == random[label].tolist()
        assert not layer.weight[label].any()
    assert layer.weight[1].any()


def test_bands_start_as_their_labels_would_alone(prepared):
    """The same tokens and weights, up to each band's fan-in; random inputs of every band are its own."""
    data, encoder = prepared
    layer = BandedLinear(encoder.out_features, 40, [(10, F), (30, F)])
    layer.order.assign(torch.randperm(40, generator=torch.Generator().manual_seed(2)))
    start_from_tokens(layer.sparse_parts(), encoder, data.store.split("train"), data.train_rows, GAIN, 9, Silent())
    alone = started(prepared, ordered=True)
    index = torch.cat([part.layer.index.int() for part in layer.sparse_parts()])
    lexical = index >= encoder.learned_features
    assert torch.equal(lexical, alone.index.int() >= encoder.learned_features)
    assert torch.equal(index[lexical], alone.index.int()[lexical])
    weight = torch.cat([part.layer.weight.detach() for part in layer.sparse_parts()])
    torch.testing.assert_close(weight, alone.weight.detach())
    unseen = BandedLinear(encoder.out_features, 40, [(20, F), (20, F)])
    nothing = data.train_rows[:0]
    start_from_tokens(unseen.sparse_parts(), encoder, data.store.split("train"), nothing, GAIN, 9, Silent())
    assert not torch.equal(unseen.band0.index, unseen.band1.index)
    assert int(unseen.band1.index.int().max()) < encoder.learned_features


def test_biases_and_clusters_stay(prepared):
    before = SparseLinear(prepared[1].out_features, 40, F, cluster_size=5)
    layer = started(prepared, cluster_size=5)
    assert torch.equal(layer.bias, before.bias)
    assert not layer.clusters.weight.any()


def test_a_text_of_just_the_marking_tokens_scores_the_gain(prepared):
    _, encoder = prepared
    layer = started(prepared, bias=False)
    x = torch.zeros(40, encoder.out_features)
    unit = layer.weight.detach() / (GAIN / encoder.lexical_scale)
    x.scatter_(1, layer.index.long(), unit * encoder.lexical_scale)
    own = layer(x).diagonal()[:39]
    torch.testing.assert_close(own.detach(), torch.full((39,), GAIN))


def test_it_predicts_before_training(planted, tiny_recipe, train):
    """One step of training, which alone teaches nothing, after each start."""
    settings = ("training.steps=1", "training.batch_size=1000", "encoder.lexical_features=500")
    cold, _ = train(planted, tiny_recipe("plain", *settings))
    warm, _ = train(planted, tiny_recipe("plain", *settings, "classifier.start=tokens"))
    assert warm.metrics["test"]["P@1"] > 0.9
    assert cold.metrics["test"]["P@1"] < 0.3
