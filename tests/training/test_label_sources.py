"""What labels are known by: texts, names, or both, where related labels are found and where labels start."""

import numpy as np
import pytest
import torch

from fanin.classifier.sparse import SparseLinear
from fanin.data.formats import open_dataset
from fanin.data.store import TokenizedSplit
from fanin.errors import ConfigError, DataError
from fanin.labels.own_text import own_text_shares
from fanin.labels.weighted_texts import WeightedTexts
from fanin.recipes.recipe_files import load_recipe
from fanin.training import label_order
from fanin.training.assemble import build_encoder
from fanin.training.classifier_start import start_classifier
from fanin.training.label_order import related_clusters
from fanin.training.own_text_margins import build_own_text_margins
from fanin.training.parts import build_parts
from fanin.training.preparation import prepare
from fanin.training.progress import Silent

UNSEEN = 39
TOKENS = (
    "encoder.lexical_features=200",
    "classifier.start=tokens",
    "classifier.own_text_margin=0.5",
    "classifier.rewiring=null",
)
KINDS = ("texts", "names", "both")


@pytest.fixture(scope="module")
def named(write_planted, tmp_path_factory):
    """The planted data with names of the texts' words; the label without a text is named by the words of two others."""
    folder = write_planted(tmp_path_factory.mktemp("named"))
    names = [f"word{label}" for label in range(UNSEEN)] + ["word3 word7"]
    (folder / "Y.txt").write_text("".join(f"{name}\n" for name in names), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def prepared(named, tiny_recipe, tmp_path_factory):
    cache = tmp_path_factory.mktemp("cache")

    def run(kind, *settings):
        recipe = tiny_recipe("plain", f"training.label_features={kind}", *settings)
        return recipe, prepare(open_dataset(named), recipe, cache)

    return run


def rows_of(split, rows):
    """Tokens and labels of some rows, as lists."""
    return [
        (
            split.tokens[split.tokens_indptr[row] : split.tokens_indptr[row + 1]].tolist(),
            split.labels[split.labels_indptr[row] : split.labels_indptr[row + 1]].tolist(),
        )
        for row in rows
    ]


def one_split(data, kind):
    """All that labels are known by, written down anew as one split."""
    split, names = data.store.split("train"), data.known_names
    rows = rows_of(split, data.train_rows) if kind != "names" else []
    rows += rows_of(names, range(len(names))) if kind != "texts" else []

    def csr(parts, dtype):
        values = np.array([value for part in parts for value in part], dtype)
        return np.cumsum([0, *map(len, parts)]).astype(np.int64), values

    return TokenizedSplit(*csr([tokens for tokens, _ in rows], np.int32), *csr([own for _, own in rows], np.int32))


class Known:
    """Data whose one source is a split that was written down."""

    def __init__(self, data, split):
        self._data, self._split = data, split
        self.known_names, self.train_rows = None, data.train_rows

    @property
    def store(self):
        return self._data.store

    def label_sources(self):
        return [(self._split, np.arange(len(self._split)))]


def started(recipe, data, encoder=None):
    encoder = encoder or build_encoder(recipe.encoder, data, 0)
    layer = SparseLinear(encoder.out_features, 40, 8)

    class Parts:
        classifier = layer

    Parts.encoder = encoder
    assert start_classifier(recipe, data, Parts, Silent(), torch.device("cpu"))
    return layer


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("start", ["tokens", "centroids"])
def test_labels_start_as_from_one_split_of_all_that_they_are_known_by(prepared, kind, start):
    settings = TOKENS if start == "tokens" else ("classifier.start=centroids",)
    recipe, data = prepared(kind, *settings)
    encoder = build_encoder(recipe.encoder, data, 0)
    found = started(recipe, data, encoder)
    expected = started(recipe, Known(data, one_split(data, kind)), encoder)
    assert torch.equal(found.index, expected.index)
    torch.testing.assert_close(found.weight, expected.weight)
    torch.testing.assert_close(found.bias, expected.bias)
    assert bool(found.weight[UNSEEN].any()) == (kind != "texts")


def test_a_label_without_texts_starts_from_its_name(prepared):
    recipe, data = prepared("both", *TOKENS)
    encoder = build_encoder(recipe.encoder, data, 0)
    layer = started(recipe, data, encoder)
    tokens, _ = data.tokenizer.encode_flat(["word3 word7"])
    read = layer.index[UNSEEN].long()[layer.weight[UNSEEN] != 0] - encoder.learned_features
    assert set(read.tolist()) <= set(tokens.tolist())
    assert len(read) >= 2


@pytest.mark.parametrize("kind", KINDS)
def test_features_of_labels_are_those_of_one_split(prepared, kind, monkeypatch):
    recipe, data = prepared(kind)
    encoder = build_encoder(recipe.encoder, data, 0)
    seen = []
    monkeypatch.setattr(label_order, "balanced_clusters", lambda features, *_: seen.append(features))
    for source in (data, Known(data, one_split(data, kind))):
        with pytest.raises(AttributeError):  # nothing was clustered
            related_clusters(source, encoder, 8, 0)
    np.testing.assert_array_equal(seen[0], seen[1])
    assert bool(seen[0][UNSEEN].any()) == (kind != "texts")


def test_the_margins_know_of_names_that_the_start_is_made_of(prepared):
    recipe, data = prepared("both", *TOKENS, "training.label_texts=true")
    encoder = build_encoder(recipe.encoder, data, 0)
    split = one_split(data, "both")
    texts = WeightedTexts(split.tokens, split.tokens_indptr, encoder.token_weights[:200].numpy())
    shares = own_text_shares(texts, split.labels_indptr, split.labels, np.arange(len(split)), 40)
    expected = np.split(np.float32(recipe.classifier.start_gain * 0.5) * shares, split.labels_indptr[1:-1])
    n, margins, seen = len(data.store.split("train")), build_own_text_margins(recipe.classifier, data, encoder), set()
    place = {row: i for i, row in enumerate(data.train_rows.tolist())}
    for batch in data.train_batches(32, 0).epoch(1):
        for row, own in zip(batch.rows.tolist(), np.split(margins.of(batch).numpy(), batch.indptr[1:-1]), strict=True):
            i = place[row] if row < n else len(place) + row - n
            np.testing.assert_allclose(own, expected[i], rtol=1e-6)
            seen.add(i)
    assert len(seen) == len(split)


def test_texts_have_no_margin_where_they_brought_nothing(prepared):
    recipe, data = prepared("names", *TOKENS)
    assert build_own_text_margins(recipe.classifier, data, build_encoder(recipe.encoder, data, 0)) is None


def test_names_are_known_and_not_trained_on(prepared):
    _, plain = prepared("texts")
    _, data = prepared("both")
    assert data.train_batches(32, 0).n_rows == plain.train_batches(32, 0).n_rows
    np.testing.assert_array_equal(data.train_counts(), plain.train_counts())


@pytest.mark.parametrize("frozen", ["true", "false"])
def test_a_transformer_encodes_the_names(named, transformer_recipe, tmp_path, frozen):
    recipe = transformer_recipe(f"encoder.frozen={frozen}", "training.label_features=both")
    unnamed = transformer_recipe(f"encoder.frozen={frozen}")
    weights = []
    for chosen in (recipe, unnamed):
        data = prepare(open_dataset(named), chosen, tmp_path)
        parts = build_parts(chosen, data, 10, Silent())
        assert start_classifier(chosen, data, parts, Silent(), torch.device("cpu"))
        weights.append(parts.classifier.sparse_parts()[0].layer.weight[UNSEEN])
    assert weights[0].any()
    assert not weights[1].any()


def test_a_whole_run_finds_a_label_that_has_a_name_alone(named, tiny_recipe, train):
    ranks = []
    for kind in ("texts", "both"):
        start_alone = ("classifier.prior_bias=false", "classifier.schedule.learning_rate=1.0e-4", "training.epochs=1")
        recipe = tiny_recipe("plain", *TOKENS, f"training.label_features={kind}", *start_alone)
        result, _ = train(named, recipe)
        (predicted,) = result.model.predict(["word3 word7"], 40)
        ranks.append([p.label for p in predicted].index("word3 word7"))
    assert ranks[1] < 5 < ranks[0]


def test_names_without_a_token_are_no_features(write_planted, tiny_recipe, tmp_path):
    folder = write_planted(tmp_path / "data")
    (folder / "Y.txt").write_text("".join("-" * (label + 1) + "\n" for label in range(40)), encoding="utf-8")
    dataset = open_dataset(folder)
    with pytest.raises(DataError, match=r"Y\.txt: the tokenizer leaves nothing of any label name"):
        prepare(dataset, tiny_recipe("plain", "training.label_features=names"), tmp_path / "cache")
    both = prepare(dataset, tiny_recipe("plain", "training.label_features=both"), tmp_path / "cache")
    assert [len(rows) for _, rows in both.label_sources()] == [len(both.train_rows), 0]


def test_features_have_no_names(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("encoder: {kind: features}\ntraining: {label_features: both}\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"training\.label_features both reads label names"):
        load_recipe(path)
