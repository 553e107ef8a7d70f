"""Whole training runs on a small planted data set."""

import json
import math

import pytest
import torch

from fanin.classifier.sparse import SparseLinear
from fanin.errors import ConfigError, DataError, FaninError
from fanin.model_files import load_model
from fanin.runs.run_folder import RunFolder, model_folder
from fanin.training.trainer import Trainer


def events(run, name):
    lines = [json.loads(line) for line in (run.path / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    return [line for line in lines if line["event"] == name]


@pytest.fixture(scope="module")
def sparse_run(planted, tiny_recipe, train):
    return train(planted, tiny_recipe())


@pytest.mark.parametrize("name", ["plain", "dense"])
@pytest.mark.parametrize("loss", ["bce", "squared_hinge"])
def test_what_the_words_say_is_learned(name, loss, planted, tiny_recipe, train):
    result, _ = train(planted, tiny_recipe(name, f"classifier.loss={loss}", "classifier.update.kind=adamw"))
    assert result.metrics["test"]["P@1"] > 0.9


def test_sgd_with_momentum_and_groups_learns_too(planted, tiny_recipe, train):
    recipe = tiny_recipe(
        "plain",
        "classifier.update={kind: sgd, momentum: 0.9}",
        "classifier.schedule.learning_rate=0.5",
        "classifier.group_size=3",
    )
    result, _ = train(planted, recipe)
    assert result.metrics["test"]["P@1"] > 0.8
    assert result.model.classifier.index.shape == (14, 16)


def test_the_run_folder_tells_the_whole_run(sparse_run):
    result, run = sparse_run
    metrics = json.loads((run.path / "metrics.json").read_text(encoding="utf-8"))
    assert metrics == result.metrics
    assert metrics["validation_source"] == "held out from training"
    assert metrics["validation"]["points"] == 30
    assert metrics["test"]["points"] == 120
    assert metrics["classifier_bytes"] == 40 * 16 * (4 + 2) + 40 * 4
    assert metrics["model_bytes"] == sum(p.stat().st_size for p in run.model.rglob("*") if p.is_file())
    epochs, steps = events(run, "epoch"), events(run, "step")
    assert [line["epoch"] for line in epochs] == list(range(1, 13))
    assert [line["step"] for line in steps] == list(range(5, 12 * 18 + 1, 5))
    assert epochs[-1]["loss"] < epochs[0]["loss"] / 2


def test_rewiring_happens_on_schedule_and_stops(sparse_run):
    _, run = sparse_run
    reports = events(run, "rewire")
    assert [line["step"] for line in reports] == list(range(10, int(0.66 * 12 * 18) + 1, 10))
    assert all(line["replaced"] > 0 for line in reports[:5])
    fractions = [line["fraction"] for line in reports]
    assert fractions == sorted(fractions, reverse=True)


def test_the_kept_model_is_the_best_by_validation(sparse_run):
    result, run = sparse_run
    best = max(line["P@1"] for line in events(run, "validation"))
    assert result.metrics["validation"]["P@1"] == best


def test_the_loaded_model_is_the_trained_one(sparse_run):
    result, run = sparse_run
    texts = ["word3 word7 noise1", "", "noise2"]
    assert load_model(model_folder(run.path)).predict(texts, 3) == result.model.predict(texts, 3)
    assert {p.label for p in result.model.predict(["word3 word7"], 2)[0]} == {"label [3]", "label [7]"}


def test_one_thread_and_one_seed_give_one_result(planted, tiny_recipe, train):
    torch.set_num_threads(1)
    recipe = tiny_recipe("plain", "training.epochs=2")
    (first, _), (second, _) = train(planted, recipe), train(planted, recipe)
    for name, tensor in first.model.classifier.state_dict().items():
        assert torch.equal(tensor, second.model.classifier.state_dict()[name]), name
    for name, tensor in first.model.encoder.state_dict().items():
        assert torch.equal(tensor, second.model.encoder.state_dict()[name]), name
    other, _ = train(planted, tiny_recipe("plain", "training.epochs=2", "training.seed=1"))
    assert not torch.equal(first.model.classifier.index, other.model.classifier.index)


def test_test_rows_decide_nothing(planted, tiny_recipe, train, tmp_path):
    """Model selection must not see the test split: with its labels scrambled the same model is kept."""
    for path in planted.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    lines = (tmp_path / "tst_X_Y.txt").read_text(encoding="utf-8").splitlines()
    (tmp_path / "tst_X_Y.txt").write_text("\n".join([lines[0], *lines[:0:-1]]) + "\n", encoding="utf-8")
    torch.set_num_threads(1)
    recipe = tiny_recipe("plain", "training.epochs=3")
    (one, _), (other, _) = train(planted, recipe), train(tmp_path, recipe)
    assert one.metrics["validation"]["P@1"] == other.metrics["validation"]["P@1"]
    assert torch.equal(one.model.classifier.weight, other.model.classifier.weight)
    assert one.metrics["test"]["P@1"] != other.metrics["test"]["P@1"]


def test_the_second_run_tokenises_nothing(planted, tiny_recipe, train, tmp_path, monkeypatch):
    recipe = tiny_recipe("plain", "training.epochs=1")
    train(planted, recipe, tmp_path)
    from fanin.encoders.tokenization import Tokenizer

    def never(*_args, **_kwargs):
        raise AssertionError("the tokenizer and the store were there already")

    monkeypatch.setattr(Tokenizer, "train", never)
    monkeypatch.setattr(Tokenizer, "encode_batch", never)
    train(planted, recipe, tmp_path)


def test_a_dev_split_is_used_whole(write_planted, tiny_recipe, train, tmp_path):
    folder = write_planted(tmp_path, rows=100)
    (folder / "dev_X.txt").write_text("word1 word2\n\nword3 word4\n", encoding="utf-8")
    (folder / "dev_X_Y.txt").write_text("3 40\n1:1 2:1\n\n3:1 4:1\n", encoding="utf-8")
    result, _ = train(folder, tiny_recipe("plain", "training.epochs=1"))
    assert result.metrics["validation_source"] == "dev split"
    assert (result.metrics["validation"]["points"], result.metrics["validation"]["left_out"]) == (2, 1)
    assert result.model.train_points == 100


def test_filter_pairs_are_never_predicted(write_planted, tiny_recipe, train, tmp_path):
    folder = write_planted(tmp_path, rows=300)
    plain, _ = train(folder, tiny_recipe())
    relevant = (folder / "tst_X_Y.txt").read_text(encoding="utf-8").splitlines()[1:]
    pairs = [f"{row} {token.split(':')[0]}" for row, line in enumerate(relevant) for token in line.split()]
    (folder / "filter_labels_test.txt").write_text("\n".join(pairs) + "\n", encoding="utf-8")
    filtered, _ = train(folder, tiny_recipe())
    assert plain.metrics["test"]["P@1"] > 0.5
    assert filtered.metrics["test"]["P@1"] == 0
    assert filtered.metrics["validation"] | {"seconds": 0, "texts_per_second": 0} == plain.metrics["validation"] | {
        "seconds": 0,
        "texts_per_second": 0,
    }


def test_a_loss_that_is_not_finite_stops_the_run_and_names_the_setting(planted, tiny_recipe, train):
    recipe = tiny_recipe(
        "plain",
        "classifier.loss=squared_hinge",
        "classifier.schedule.learning_rate=1e30",
        "classifier.update.kind=sgd",
    )
    with pytest.raises(FaninError, match=r"classifier\.schedule\.learning_rate") as caught:
        train(planted, recipe)
    assert "best model" not in str(caught.value)  # nothing was validated before


def test_a_model_that_was_kept_before_the_run_stopped_is_mentioned(planted, tiny_recipe, train, monkeypatch):
    step, end_epoch, validated = SparseLinear.train_step, Trainer._end_epoch, []
    monkeypatch.setattr(Trainer, "_end_epoch", lambda self: (end_epoch(self), validated.append(True)))

    def lost(self, *args, **options):
        loss, dx = step(self, *args, **options)
        return (math.nan if validated else loss), dx

    monkeypatch.setattr(SparseLinear, "train_step", lost)
    with pytest.raises(FaninError, match="The best model so far is kept"):
        train(planted, tiny_recipe())


def test_a_run_folder_in_use_is_refused(tiny_recipe, tmp_path):
    (tmp_path / "something").touch()
    with pytest.raises(ConfigError, match="not empty"):
        RunFolder.create(tmp_path, tiny_recipe(), tmp_path)


def test_nothing_to_train_on(write_planted, tiny_recipe, train, tmp_path):
    folder = write_planted(tmp_path, rows=5)
    (folder / "trn_X.txt").write_text("one text\n", encoding="utf-8")
    (folder / "trn_X_Y.txt").write_text("1 40\n0:1\n", encoding="utf-8")
    with pytest.raises(DataError, match="too few"):
        train(folder, tiny_recipe())


def test_training_texts_without_any_label(write_planted, tiny_recipe, train, tmp_path):
    folder = write_planted(tmp_path, rows=40)
    (folder / "trn_X_Y.txt").write_text("40 40\n" + "\n" * 40, encoding="utf-8")
    result, _ = train(folder, tiny_recipe("plain", "training.epochs=2"))
    assert result.metrics["validation"]["points"] == 0
    assert result.model.train_counts.sum() == 0


def test_an_unwritable_cache_is_named(planted, tiny_recipe, train, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="FANIN_CACHE"):
        train(planted, tiny_recipe(), tmp_path / "file" / "cache")
