"""Synthetic data: the law of the labels, a structure that can be learned, and the files."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fanin.data.formats import open_dataset
from fanin.data.synthetic import SyntheticTexts, write_synthetic
from fanin.errors import ConfigError

BLOCK = 8192


def test_label_frequencies_follow_the_law():
    texts = SyntheticTexts(5000, seed=3)
    counts = np.zeros(5000)
    for block in range(4):
        counts += np.bincount(texts.rows("train", block).labels, minlength=5000)
    ranks = np.arange(5000)
    share = texts.shares(ranks)
    assert share.sum() == pytest.approx(1)
    assert (share * (ranks + 1) * np.log(5001)).min() > 0.69  # 1 / rank, but for a factor near 1
    drawn = np.arange(1, 6)  # labels of a text; one that is drawn twice counts once
    expected = 4 * BLOCK * (1 - np.mean((1 - share[:, None]) ** drawn, axis=1))
    by_rank = counts[texts.ids(ranks)]
    for start, stop in ((0, 1), (1, 2), (2, 5), (5, 20), (20, 100), (100, 1000), (1000, 5000)):
        wanted = expected[start:stop].sum()
        assert abs(by_rank[start:stop].sum() - wanted) < 5 * np.sqrt(wanted)


@settings(max_examples=15)
@given(st.integers(1, 500), st.integers(0, 2**63 - 1))
def test_ids_are_a_permutation(labels, seed):
    ids = SyntheticTexts(labels, seed=seed).ids(np.arange(labels))
    assert sorted(ids.tolist()) == list(range(labels))


@settings(max_examples=8)
@given(st.integers(1, 30), st.integers(0, 5), st.integers(1, 4))
def test_a_seed_decides_everything_and_fewer_rows_are_the_first_ones(labels, noise_words, labels_per_text):
    def rows(count, seed=7):
        texts = SyntheticTexts(labels, seed=seed, noise_words=noise_words, labels_per_text=labels_per_text)
        return texts.rows("test", 2, count)

    some, more = rows(5), rows(9)
    assert some.texts == more.texts[:5]
    assert some.labels.tolist() == more.labels[: more.indptr[5]].tolist()
    assert more.indptr.tolist() == sorted(more.indptr.tolist())
    for a, b in zip(more.indptr, more.indptr[1:], strict=False):
        row = more.labels[a:b].tolist()
        assert row == sorted(set(row))
        assert 1 <= len(row) <= 2 * labels_per_text - 1
        assert 0 <= row[0] <= row[-1] < labels
    assert rows(9, seed=8).texts != more.texts


def test_splits_and_blocks_differ():
    texts = SyntheticTexts(100)
    assert texts.rows("train", 0, 5).texts != texts.rows("test", 0, 5).texts
    assert texts.rows("train", 0, 5).texts != texts.rows("train", 1, 5).texts


def test_the_folder_is_a_raw_text_data_set(tmp_path):
    texts, seen = SyntheticTexts(300, seed=1), []
    write_synthetic(tmp_path / "data", texts, BLOCK + 10, 5, lambda done, total: seen.append((done, total)))
    dataset = open_dataset(tmp_path / "data")
    assert len(dataset.vocabulary) == 300
    assert dataset.vocabulary[17] == texts.names(17, 18)[0]
    train = [texts.rows("train", 0), texts.rows("train", 1, 10)]
    assert list(dataset.texts("train")) == train[0].texts + train[1].texts
    found = dataset.positives("train")
    assert found.indices.tolist() == np.concatenate([rows.labels for rows in train]).tolist()
    assert found.indptr[BLOCK:].tolist() == (train[1].indptr + found.indptr[BLOCK]).tolist()
    assert list(dataset.texts("test")) == texts.rows("test", 0, 5).texts
    assert seen == [(BLOCK, BLOCK + 15), (BLOCK + 10, BLOCK + 15), (BLOCK + 15, BLOCK + 15)]


def test_a_model_learns_the_structure(tmp_path, tiny_recipe, train):
    write_synthetic(tmp_path / "data", SyntheticTexts(200, seed=5), 1500, 300)
    recipe = tiny_recipe("plain", "training.epochs=5", "classifier.schedule.learning_rate=0.02")
    result, _ = train(tmp_path / "data", recipe)
    test = open_dataset(tmp_path / "data").positives("test")
    most_frequent = np.bincount(open_dataset(tmp_path / "data").positives("train").indices).argmax()
    by_frequency = (test.indices == most_frequent).sum() / len(test)  # P@1 of ranking by frequency
    assert result.metrics["test"]["P@1"] > by_frequency + 0.3


@pytest.mark.parametrize(
    ("numbers", "message"),
    [
        ({"labels": 0}, "--labels is 0"),
        ({"labels": 2**31}, "--labels is 2147483648"),
        ({"labels": 5, "labels_per_text": 0}, "--labels-per-text is 0"),
        ({"labels": 5, "noise_words": -1}, "--noise-words is -1"),
        ({"labels": 5, "seed": -1}, "--seed is -1"),
    ],
)
def test_refuses_impossible_numbers(numbers, message):
    with pytest.raises(ConfigError, match=message):
        SyntheticTexts(**numbers)


def test_refuses_no_rows_and_foreign_folders(tmp_path):
    with pytest.raises(ConfigError, match="--test-rows is 0"):
        write_synthetic(tmp_path / "data", SyntheticTexts(5), 3, 0)
    (tmp_path / "mine.txt").write_text("keep")
    with pytest.raises(ConfigError, match="is not an empty folder"):
        write_synthetic(tmp_path, SyntheticTexts(5), 3, 3)
    assert (tmp_path / "mine.txt").read_text() == "keep"
