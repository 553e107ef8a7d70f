"""Values that are not finite are found in their step: the run stops, or passes over the batch, and loses nothing."""

import math
import signal
from contextlib import nullcontext

import pytest
import torch

from fanin.classifier.dense import DenseLinear
from fanin.classifier.sparse import SparseLinear
from fanin.data.formats import open_dataset
from fanin.estimator import TextClassifier
from fanin.kernels.spec import SGD, Loss, Positives
from fanin.recipes.recipe_files import load_recipe
from fanin.runs.checkpoint import read_checkpoint
from fanin.runs.checkpoint_series import newest_step
from fanin.runs.run_folder import RunFolder
from fanin.training import step as step_module
from fanin.training import trainer as trainer_module
from fanin.training.encoder_update import EncoderUpdate
from fanin.training.non_finite import NonFiniteError, all_finite
from fanin.training.objectives import Objectives
from fanin.training.preparation import prepare
from fanin.training.progress import Silent
from fanin.training.resume import resume_run
from fanin.training.stop_signals import Stopped, StopSignals
from fanin.training.trainer import Trainer
from same_runs import log_lines

STEP = 25  # the one that goes wrong, in the second epoch of 18


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16, torch.float8_e4m3fn])
def test_any_place_of_any_type(dtype, monkeypatch):
    monkeypatch.setattr("fanin.training.non_finite._BLOCK_VALUES", 16)
    values = torch.full((7, 9), 3.0)
    assert all_finite(values.to(dtype))
    for place in (0, 15, 16, 62):
        for bad in (torch.nan,) if dtype == torch.float8_e4m3fn else (torch.nan, torch.inf, -torch.inf):
            spoilt = values.clone()
            spoilt.view(-1)[place] = bad
            assert not all_finite(spoilt.to(dtype))
    both = values.clone()
    both[0, 0], both[0, 1] = torch.inf, -torch.inf
    assert not all_finite(both)


def test_large_and_other_values_are_fine():
    assert all_finite(torch.full((100,), 3e38))  # though their sum is not
    assert all_finite(torch.tensor([1e300], dtype=torch.float64))
    assert all_finite(torch.empty(0))
    assert all_finite(torch.tensor([1, 2]))


@pytest.mark.parametrize("loss", list(Loss))
@pytest.mark.parametrize("layer", [SparseLinear, lambda *a, **k: SparseLinear(*a, group_size=4, **k), DenseLinear])
@pytest.mark.parametrize(("part", "value"), [("weight", math.nan), ("weight", math.inf), ("bias", math.nan)])
def test_a_logit_that_is_no_number_shows_in_loss_and_gradient(part, value, layer, loss):
    """So that whoever looks at dx alone finds it, where the value of the loss is not computed."""
    made = layer(16, 40) if layer is DenseLinear else layer(16, 40, fan_in=4)
    with torch.no_grad():
        getattr(made, part).view(-1)[7] = value
    found, dx = made.train_step(torch.randn(8, 16), Positives(torch.arange(9), torch.arange(8) + 20), loss, SGD(0.1))
    assert not math.isfinite(found)
    assert not all_finite(dx)


def spoil_encoder(parts):
    parts.encoder.table[3:].fill_(math.inf)


def spoil_weights(parts):
    parts.classifier.weight.data.view(-1)[5] = math.nan


def spoil_bias(parts):
    parts.classifier.bias.data[5] = math.nan


SPOILT = {
    "encoder": (spoil_encoder, "the encoder's vectors are not finite"),
    "weights": (spoil_weights, "the loss is nan"),
    "bias": (spoil_bias, "the loss is nan"),
}


@pytest.fixture
def spoil(monkeypatch):
    """Let the batch of one step spoil something, whenever it is trained on."""

    def arrange(what, steps=(STEP,)):
        train_on = step_module.train_on

        def spoilt(parts, step, batch):
            if step in steps:
                what(parts)
            return train_on(parts, step, batch)

        monkeypatch.setattr(trainer_module, "train_on", spoilt)

    return arrange


@pytest.fixture
def spoil_dx(monkeypatch):
    """Let one value of the classifier's gradient by x be something else in one step."""

    def arrange(value):
        make_step = Objectives.step

        def spoilt(self, step, x, positives):
            losses, dx = make_step(self, step, x, positives)
            if step == STEP:
                dx[2, 3] = value
            return losses, dx

        monkeypatch.setattr(Objectives, "step", spoilt)

    return arrange


@pytest.fixture
def run_of(planted, tmp_path):
    """Train in a folder that can be looked at afterwards; steps may be known as those to pass over."""

    def train(recipe, *, name="run", skipped=(), stop=None):
        data = prepare(open_dataset(planted), recipe, tmp_path / "cache")
        with RunFolder.create(tmp_path / name, recipe, planted) as run, stop or nullcontext():
            trainer = Trainer(recipe, data, run, Silent(), stop=stop)
            trainer._position.skipped = list(skipped)
            return trainer.train()

    return train


@pytest.mark.parametrize("what", SPOILT)
def test_the_step_is_named_and_the_last_checkpoint_kept(what, spoil, run_of, tiny_recipe, tmp_path):
    change, fault = SPOILT[what]
    spoil(change)
    with pytest.raises(NonFiniteError) as caught:
        run_of(tiny_recipe("plain", "training.epochs=2", "training.checkpoint.steps=10"))
    message = str(caught.value)
    assert f"in step {STEP} {fault}" in message
    assert "go on from the checkpoint of step 20, which is kept" in message
    assert f"or leave such batches out: 'fanin resume {tmp_path / 'run'} --set training.on_non_finite=skip'" in message
    assert "passed over" not in message
    assert "The best model so far is kept" in message
    kept = read_checkpoint(tmp_path / "run" / "checkpoints" / "step-00000020")
    assert all(all_finite(tensor) for part in ("encoder", "classifier") for tensor in kept.tensors(part).values())


@pytest.mark.parametrize(
    ("value", "fault"),
    [
        (math.nan, "the gradients by the encoder's vectors are not finite"),
        (-math.inf, "the gradients by the encoder's vectors are not finite"),
        (3e38, "the encoder's gradient is not finite"),
    ],
)
def test_a_gradient_that_is_not_finite_is_named(value, fault, spoil_dx, run_of, tiny_recipe):
    spoil_dx(value)
    with pytest.raises(NonFiniteError, match=f"in step {STEP} {fault}"):
        run_of(tiny_recipe("plain", "training.epochs=2"))


def test_without_a_checkpoint_the_run_can_start_again(spoil, run_of, tiny_recipe):
    spoil(spoil_weights, steps=(3,))
    with pytest.raises(NonFiniteError, match="let the run go on from its first step") as caught:
        run_of(tiny_recipe("plain", "training.epochs=2"))
    assert "best model" not in str(caught.value)


def test_no_checkpoint_is_made_of_values_that_are_not_finite(run_of, tiny_recipe, tmp_path, monkeypatch):
    """An infinite bias of a label that none of the texts has changes nothing that a step looks at."""

    def spoilt(parts, step, batch):
        parts.classifier.bias.data[39] = -math.inf
        return train_on(parts, step, batch)

    train_on = step_module.train_on
    monkeypatch.setattr(trainer_module, "train_on", spoilt)
    with pytest.raises(NonFiniteError, match="in step 10 values of the classifier are not finite"):
        run_of(tiny_recipe("plain", "training.epochs=1", "training.checkpoint.steps=10"))
    assert newest_step(tmp_path / "run" / "checkpoints") is None


SKIP = ("training.epochs=3", "training.on_non_finite=skip")


def test_batches_are_passed_over(spoil, run_of, tiny_recipe, tmp_path):
    """What comes out is what a run gives that passes over them from the beginning."""
    bad = [STEP, 30, 40]  # the rewiring of step 30 takes place
    recipe = tiny_recipe("plain", *SKIP, "training.checkpoint.steps=10", "encoder.dropout=0.2")
    spoil(spoil_weights, steps=bad)
    result = run_of(recipe)
    assert result.metrics["skipped_steps"] == bad
    lines = log_lines(tmp_path / "run")
    logged = [line["step"] for line in lines if line["event"] == "step"]
    assert logged == [step for step in range(5, 55, 5) if step not in bad]
    assert [line["step"] for line in lines if line["event"] == "rewire"] == [10, 20, 30]
    expected = run_of(recipe, name="expected", skipped=bad)
    for part in ("classifier", "encoder"):
        for name, tensor in getattr(result.model, part).state_dict().items():
            assert torch.equal(tensor, getattr(expected.model, part).state_dict()[name]), name


def test_a_batch_is_passed_over_before_any_other_checkpoint(spoil, run_of, tiny_recipe):
    spoil(spoil_encoder, steps=(1, 4))
    assert run_of(tiny_recipe("dense", *SKIP)).metrics["skipped_steps"] == [1, 4]


def test_what_is_wrong_with_every_batch_is_not_passed_over(run_of, tiny_recipe):
    lost = ("classifier.update.kind=sgd", "classifier.loss=squared_hinge", "classifier.schedule.learning_rate=1e30")
    with pytest.raises(NonFiniteError, match=r"lower .*classifier\.schedule\.learning_rate") as caught:
        run_of(tiny_recipe("plain", *SKIP, *lost))
    assert "; 10 batches were passed over before (training.on_non_finite=skip)" in str(caught.value)
    assert "or leave such batches out" not in str(caught.value)


def test_a_stopped_run_goes_on_with_lower_rates_or_without_the_batch(spoil, run_of, tiny_recipe, tmp_path):
    recipe = tiny_recipe("plain", "training.epochs=2", "training.checkpoint.steps=10")
    spoil(spoil_weights)
    with pytest.raises(NonFiniteError):
        run_of(recipe)
    settings = ["training.on_non_finite=skip", "classifier.schedule.learning_rate=0.01"]
    with RunFolder.open(tmp_path / "run") as run:
        result = resume_run(run, Silent(), settings=settings, cache=tmp_path / "cache")
    assert result.metrics["skipped_steps"] == [STEP]
    assert load_recipe(tmp_path / "run" / "recipe.yaml") == load_recipe(tmp_path / "run" / "recipe.yaml", settings)


def test_fit_names_settings_and_no_folder():
    texts, labels = ["green tea", "black coffee"] * 20, [["tea"], ["coffee"]] * 20
    settings = ["classifier.loss=squared_hinge", "classifier.update.kind=sgd", "classifier.schedule.learning_rate=1e30"]
    with pytest.raises(NonFiniteError, match=r"lower classifier\.schedule\.learning_rate") as caught:
        TextClassifier.fit(texts, labels, recipe="plain", settings=[*settings, "training.batch_size=8"])
    assert "resume" not in str(caught.value)


def test_a_signal_in_a_step_that_fails_saves_nothing_of_it(run_of, tiny_recipe, tmp_path, monkeypatch):
    """The classifier has made the step, the encoder has not: no state to go on from."""

    def failing(self, step, *args):
        if step == 5:
            raise NonFiniteError(step, "something is not finite")
        return make_step(self, step, *args)

    make_step = EncoderUpdate.step
    monkeypatch.setattr(EncoderUpdate, "step", failing)
    monkeypatch.setattr(Trainer, "_pass_over", lambda *_: signal.raise_signal(signal.SIGTERM))
    with pytest.raises(Stopped):
        run_of(tiny_recipe("plain", "training.epochs=1"), stop=StopSignals())
    assert newest_step(tmp_path / "run" / "checkpoints") is None
