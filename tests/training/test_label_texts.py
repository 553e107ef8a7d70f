"""Label names as texts to train on."""

import numpy as np
import pytest

from fanin.data.formats import open_dataset
from fanin.errors import ConfigError
from fanin.labels.vocabulary import LabelVocabulary
from fanin.recipes.recipe_files import load_recipe
from fanin.training import label_texts as label_texts_module
from fanin.training.label_texts import label_texts
from fanin.training.preparation import prepare
from fanin.training.progress import Silent


class Letters:
    """A token a letter."""

    def encode_flat(self, texts):
        letters = [[ord(c) for c in text if c.isalpha()] for text in texts]
        offsets = np.cumsum([0, *map(len, letters)]).astype(np.int64)
        return np.array([letter for text in letters for letter in text], np.int32), offsets


@pytest.mark.parametrize("block", [1, 2, 100])
def test_a_row_is_a_name_and_its_label(monkeypatch, block):
    monkeypatch.setattr(label_texts_module, "BLOCK_TEXTS", block)
    split = label_texts(Letters(), LabelVocabulary(["ab", "17", "c", "...", "ade"]), Silent())
    assert [split.tokens[a:b].tolist() for a, b in zip(split.tokens_indptr, split.tokens_indptr[1:], strict=False)] == [
        [97, 98],
        [99],
        [97, 100, 101],
    ]
    assert split.labels.tolist() == [0, 2, 4]
    assert split.labels_indptr.tolist() == [0, 1, 2, 3]


def test_nothing_is_left_of_any_name():
    split = label_texts(Letters(), LabelVocabulary(["1", "2"]), Silent())
    assert len(split) == 0
    assert split.inputs(np.empty(0, np.int64))[1].tolist() == [0]


def test_they_are_trained_on_and_counted_nowhere(planted, tiny_recipe, tmp_path):
    dataset = open_dataset(planted)
    plain = prepare(dataset, tiny_recipe("plain"), tmp_path)
    named = prepare(dataset, tiny_recipe("plain", "training.label_texts=true"), tmp_path)
    assert named.train_batches(32, 0).n_rows == plain.train_batches(32, 0).n_rows + 40
    np.testing.assert_array_equal(named.train_counts(), plain.train_counts())
    np.testing.assert_array_equal(named.token_counts(), plain.token_counts())
    np.testing.assert_array_equal(named.train_rows, plain.train_rows)
    np.testing.assert_array_equal(named.validation_rows, plain.validation_rows)
    assert named.test_batches().n_rows == plain.test_batches().n_rows
    labels = np.concatenate([batch.indices for batch in named.train_batches(32, 0).epoch(1)])
    np.testing.assert_array_equal(np.bincount(labels, minlength=40), plain.train_counts() + 1)


def test_a_label_without_texts_is_learned_from_its_name(write_planted, tiny_recipe, train, tmp_path):
    folder = write_planted(tmp_path, rows=300)
    names = (folder / "Y.txt").read_text(encoding="utf-8").splitlines()
    names[39] = "named only here"
    (folder / "Y.txt").write_text("\n".join(names) + "\n", encoding="utf-8")
    last = ("classifier.prior_bias=false", "training.epochs=20", "training.evaluate_every=20")  # the last epoch is kept
    ranks = []
    for value in ("false", "true"):
        result, _ = train(folder, tiny_recipe("plain", f"training.label_texts={value}", *last))
        (predicted,) = result.model.predict([names[39]], 40)
        ranks.append([p.label for p in predicted].index(names[39]))
        assert result.model.train_points == 285
        assert result.model.train_counts[39] == 0
    assert ranks[1] == 0 < ranks[0]


@pytest.mark.parametrize("encoder", ["{kind: features}", "{kind: transformer, frozen: true}"])
def test_what_reads_no_texts_in_training_is_refused(encoder, tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(f"encoder: {encoder}\ntraining: {{label_texts: true}}\n", encoding="utf-8")
    with pytest.raises(ConfigError, match="label_texts needs an encoder that reads texts"):
        load_recipe(path)
