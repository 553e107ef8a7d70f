"""The kept model of a run that goes on: one that is lost or of an abandoned past is replaced, any other is kept."""

import shutil

import pytest
import torch

from fanin.evaluation.metrics import Metrics
from fanin.model_description import model_digest
from fanin.model_files import load_model
from fanin.runs.checkpoint import read_checkpoint
from fanin.runs.checkpoint_series import CheckpointSeries
from fanin.training import trainer as trainer_module
from fanin.training.non_finite import NonFiniteError
from fanin.training.scoring import Scores
from fanin.training.trainer import Trainer
from interrupted_runs import StopAt, Telling, killed
from same_runs import assert_same_run


def cut(model):
    path = model / "classifier.safetensors"
    path.write_bytes(path.read_bytes()[:-10])


def flip(model):
    path = model / "encoder.safetensors"
    content = bytearray(path.read_bytes())
    content[-3] ^= 16
    path.write_bytes(content)


def without_description(model):
    (model / "model.json").unlink()


@pytest.mark.parametrize("damage", [cut, flip, without_description, shutil.rmtree])
def test_lost_in_the_final_scoring(damage, runs_of, tiny_recipe):
    """The checkpoint of the end holds what was trained."""
    recipe, display = tiny_recipe("plain", "training.epochs=1"), Telling()
    whole = runs_of.begin(recipe, name="whole")
    path = runs_of.begin(recipe, StopAt(1, "scoring test"))
    damage(path / "model")
    runs_of.go_on(path, display)
    assert_same_run(whole, path)
    gone = damage is shutil.rmtree
    assert (path / "model.damaged").exists() != gone
    told = "the kept model is gone" if gone else "the kept model is put aside"
    assert any(f"{told}: the next one takes its place" in line for line in display.lines)


@pytest.mark.parametrize("damage", [flip, shutil.rmtree])
def test_lost_before_it_is_over(damage, runs_of, tiny_recipe):
    recipe = tiny_recipe("plain", "training.epochs=3")
    whole = runs_of.begin(recipe, name="whole")
    path = runs_of.begin(recipe, StopAt(25))
    damage(path / "model")
    runs_of.go_on(path)
    assert_same_run(whole, path)


@pytest.fixture
def validations(monkeypatch):
    """Let validations find values that are set here, whatever the model."""
    values = []

    class Fixed(Metrics):
        def __getitem__(self, name):
            return self.value

    def validate(_self):
        found = Fixed.__new__(Fixed)
        object.__setattr__(found, "value", values.pop(0))
        object.__setattr__(found, "points", 30)
        return Scores(found, 1.0, 1.0)

    monkeypatch.setattr(Fixed, "as_dict", lambda _self: {})
    monkeypatch.setattr(Trainer, "_validate", validate)
    monkeypatch.setattr(CheckpointSeries, "remove", lambda _self: None)
    return values


SETTINGS = ("training.epochs=3", "training.checkpoint.steps=20")  # epochs of 18 steps


def assert_last_state_is_kept(path):
    last = read_checkpoint(path / "checkpoints" / "step-00000054")
    assert last.facts.position.kept == model_digest(path / "model")
    assert torch.equal(load_model(path / "model").classifier.weight, last.tensors("classifier")["weight"])


def test_one_of_a_past_that_a_run_does_not_come_to_again_is_replaced(validations, runs_of, tiny_recipe):
    validations += [0.5, 0.9]  # after steps 18 and 36
    path = runs_of.begin(tiny_recipe("dense", *SETTINGS), Telling(38, then=killed))
    validations += [0.3, 0.4]  # after steps 36 and 54
    runs_of.go_on(path, settings=["classifier.schedule.learning_rate=0.001"])
    assert not validations
    assert_last_state_is_kept(path)


def test_one_of_a_past_that_batches_were_passed_over_in_is_replaced(validations, runs_of, tiny_recipe, monkeypatch):
    train_on, failed = trainer_module.train_on, []

    def failing(parts, step, batch):
        if step == 38 and not failed:
            failed.append(step)
            raise NonFiniteError(step, "something is not finite")
        return train_on(parts, step, batch)

    monkeypatch.setattr(trainer_module, "train_on", failing)
    validations += [0.5, 0.9, 0.3, 0.4]  # after steps 18, 36, and again 36 and 54
    path = runs_of.begin(tiny_recipe("dense", *SETTINGS, "training.on_non_finite=skip"))
    assert not validations
    assert_last_state_is_kept(path)


def test_the_one_of_the_checkpoint_stays_until_there_is_a_better_one(validations, runs_of, tiny_recipe):
    validations += [0.5, 0.4]
    path = runs_of.begin(tiny_recipe("dense", *SETTINGS), Telling(38, then=killed))
    kept = model_digest(path / "model")
    validations += [0.3, 0.4]
    runs_of.go_on(path, settings=["classifier.schedule.learning_rate=0.001"])
    assert not validations
    assert model_digest(path / "model") == kept


def test_a_checkpoint_that_does_not_name_its_model_trusts_the_one_that_is_there(
    validations, runs_of, tiny_recipe, monkeypatch
):
    """As versions before wrote it."""
    make_save = Trainer._save

    def save(self):
        self._position.kept = None
        make_save(self)

    monkeypatch.setattr(Trainer, "_save", save)
    validations += [0.5]
    path = runs_of.begin(tiny_recipe("dense", *SETTINGS), Telling(25, then=killed))
    kept = model_digest(path / "model")
    validations += [0.3, 0.4]
    runs_of.go_on(path)
    assert model_digest(path / "model") == kept
