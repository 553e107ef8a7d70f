"""Sizes of a data set: exact where the sample is all of it, near where it is not."""

import numpy as np
import pytest

from fanin.data.formats import open_dataset
from fanin.data.synthetic import SyntheticTexts, write_synthetic
from fanin.errors import DataError
from fanin.memory import data_sizes
from fanin.memory.data_sizes import DataSizes, assumed_sizes, sampled_sizes
from fanin.recipes.recipe_files import load_recipe
from fanin.training.preparation import prepare

TOKENIZERS = {
    "words": ("tokenizer.frequent_pairs=0",),
    "pairs": ("tokenizer.min_count=2", "tokenizer.frequent_pairs=300"),
    "buckets": ("tokenizer.frequent_pairs=50", "tokenizer.pair_buckets=1000", "tokenizer.vocabulary_size=200"),
    "cut": ("tokenizer.max_length=5",),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sizes") / "data"
    write_synthetic(folder, SyntheticTexts(60, noise_words=6), 900, 100)
    return folder


@pytest.mark.parametrize("name", TOKENIZERS)
def test_a_sample_of_all_texts_is_exact(name, folder, tmp_path):
    recipe = load_recipe("plain", TOKENIZERS[name])
    dataset = open_dataset(folder)
    sizes = sampled_sizes(dataset, recipe)
    data = prepare(dataset, recipe, tmp_path)
    train = data.store.split("train")
    assert (sizes.labels, sizes.rows, sizes.other_rows) == (60, 900, 100)
    assert sizes.vocabulary(recipe.tokenizer) == data.tokenizer.vocabulary_size
    assert sizes.tokens_per_text == pytest.approx(len(train.tokens) / 900)
    assert sizes.labels_per_text == pytest.approx(len(train.labels) / 900)
    first = train.tokens[: train.tokens_indptr[512]]
    # How many buckets are hit is what is to be expected.
    assert sizes.batch_tokens == pytest.approx(len(np.unique(first)), rel=0.03 if name == "buckets" else 0)
    assert sizes.text_bytes == pytest.approx(np.mean([len(text) for text in dataset.texts("train")]))


def test_a_part_of_the_texts_gives_about_the_same(folder, monkeypatch):
    recipe = load_recipe("plain", ["tokenizer.frequent_pairs=2000"])
    whole = sampled_sizes(open_dataset(folder), recipe)
    monkeypatch.setattr(data_sizes, "SAMPLE", 300)
    part = sampled_sizes(open_dataset(folder), recipe)
    for name in (
        "tokens_per_text",
        "words_per_text",
        "frequent_words",
        "frequent_pairs",
        "distinct_words",
        "distinct_pairs",
    ):
        assert getattr(part, name) == pytest.approx(getattr(whole, name), rel=0.35), name


def test_features_by_the_head_of_their_files(tmp_path):
    (tmp_path / "Y.txt").write_text("a\nb\n")
    for split, rows in (("trn", 3), ("tst", 1)):
        (tmp_path / f"{split}_X_Y.txt").write_text(f"{rows} 2\n" + "0:1 1:1\n" * rows)
        lines = ["0:1 4:2", "6:1", "1:1 2:1 3:1"][:rows]
        (tmp_path / f"{split}_X_Xf.txt").write_text("\n".join([f"{rows} 7", *lines, ""]))
    recipe = load_recipe("plain", ["encoder={kind: features, out_features: 4}", "classifier.fan_in=2"])
    assert sampled_sizes(open_dataset(tmp_path), recipe) == DataSizes(2, 3, 1, 2.0, columns=7, values_per_text=2.0)
    for split, rows in (("trn", 3), ("tst", 1)):
        (tmp_path / f"{split}_X_Xf.txt").unlink()
        np.save(tmp_path / f"{split}_X.npy", np.zeros((rows, 5), np.float16))
    assert sampled_sizes(open_dataset(tmp_path), recipe) == DataSizes(2, 3, 1, 2.0, columns=5, feature_bytes=2)


def test_a_bag_of_words_is_not_read_whole(tmp_path, monkeypatch):
    (tmp_path / "train.txt").write_text("3 7 2\n0,1 0:1 4:2\n0,1 6:1\n0,1 1:1 2:1 3:1\n")
    (tmp_path / "test.txt").write_text("1 7 2\n 0:1\n")
    recipe = load_recipe("plain", ["encoder={kind: features, out_features: 4}", "classifier.fan_in=2"])
    dataset = open_dataset(tmp_path)
    with monkeypatch.context() as patched:
        patched.delattr("fanin.data.bag_of_words.bag_of_words_features")
        assert sampled_sizes(dataset, recipe) == DataSizes(2, 3, 1, 2.0, columns=7, values_per_text=2.0)
    # As a header is found out before anything is planned by it.
    (tmp_path / "test.txt").write_text("1000000000000 7 2\n 0:1\n")
    with pytest.raises(DataError, match=r"test\.txt, line 1: the header promises 1000000000000 rows, but there are 1"):
        sampled_sizes(open_dataset(tmp_path), recipe)
    (block,), whole = dataset.label_blocks("train"), dataset.positives("train")
    assert block.indices.tolist() == whole.indices.tolist() == [0, 1] * 3
    assert block.indptr.tolist() == whole.indptr.tolist()


def test_a_training_split_without_texts(tmp_path):
    for name, content in (
        ("Y", "a\n"),
        ("trn_X_Y", "0 1\n"),
        ("tst_X_Y", "1 1\n0:1\n"),
        ("tst_X", "b\n"),
        ("trn_X", ""),
    ):
        (tmp_path / f"{name}.txt").write_text(content)
    with pytest.raises(DataError, match="nothing to train on|the file is empty"):
        sampled_sizes(open_dataset(tmp_path), load_recipe("plain"))


def test_what_is_assumed_without_data():
    recipe = load_recipe("plain")
    plain = assumed_sizes(1000, None, recipe)
    assert (plain.labels, plain.rows) == (1000, 1000)
    assert plain.vocabulary(recipe.tokenizer) == 30_000 + 50_000 + 1024
    minilm = assumed_sizes(1000, 50, load_recipe("minilm", ["encoder.max_length=8"]))
    assert (minilm.rows, minilm.tokens_per_text) == (50, 8)
