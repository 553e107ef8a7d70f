"""A run that was stopped and resumed gives what the run would have given that nobody stopped."""

import json
import shutil

import pytest
import torch

from fanin.data.formats import open_dataset
from fanin.errors import BackendError, CheckpointError, ConfigError
from fanin.runs.checkpoint import Checkpoint, read_checkpoint, write_checkpoint
from fanin.runs.checkpoint_series import CheckpointSeries
from fanin.runs.run_folder import RunFolder
from fanin.training.preparation import prepare
from fanin.training.progress import Silent
from fanin.training.resume import resume_run
from fanin.training.stop_signals import Stopped, StopSignals
from fanin.training.trainer import Trainer
from interrupted_runs import StopAt, Telling
from same_runs import assert_same_run, assert_same_state

EPOCH = 18  # steps
NOISE = ("encoder.dropout=0.2", "encoder.token_dropout=0.1")  # what comes next depends on the random state
WORDS = ("encoder.lexical_features=60", "classifier.start=tokens", "classifier.start_gain=4")
GROW = "classifier.rewiring.grow"
AUXILIARY = "auxiliary={clusters: 8, cutoff_share: 0.25, schedule: {learning_rate: 0.05}}"  # 9 steps of 36
INTERMEDIATE = "intermediate={width: 96, dropout: 0.1, schedule: {learning_rate: 0.005}}"
RECIPES = {
    "sparse": ("plain", *NOISE),
    "words, clusters, start from tokens": ("plain", *NOISE, *WORDS, "classifier.cluster_size=4"),
    "groups": ("plain", *NOISE, "classifier.group_size=3", "classifier.rewiring.threshold=0.05"),
    "dense": ("dense", *NOISE),
    "dense, momentum": (
        "dense",
        "classifier.update={kind: sgd, momentum: 0.9}",
        "classifier.schedule.learning_rate=0.5",
    ),
    "sgd, no state": ("plain", "classifier.update={kind: sgd}", "training.label_texts=true"),
    "head and tail": (
        "head-tail",
        *NOISE,
        "classifier.fan_in=16",
        "classifier.head_share=0.1",
        "classifier.cluster_size=4",
    ),
    "bands": ("plain", *NOISE, "classifier.fan_in_by_frequency=[{share: 0.1, fan_in: 24}]", f"{GROW}=separating"),
    "autograd": ("dense-autograd", *NOISE),
    "margins of own texts": ("plain", *WORDS, "classifier.own_text_margin=0.5", "training.label_features=both"),
    "bfloat16": ("plain", *NOISE, "classifier.weights=bf16", "classifier.cluster_size=4", f"{GROW}=gradient"),
    "float8": ("plain", "classifier.weights=fp8"),
    "encoder in bfloat16, compensated": ("plain", *NOISE, "encoder.weights=bf16-kahan", INTERMEDIATE),
    "encoder in bfloat16, with a copy": ("plain", *NOISE, "encoder.weights=bf16-fp32"),
    "default": ("default", *NOISE, "classifier.fan_in=16", "classifier.rewiring.interval=10"),
    "bottleneck": ("bottleneck", *NOISE, "classifier.width=8"),
    "mask": ("masked", *NOISE, "classifier.fan_in=8", "classifier.rewiring.interval=10"),
    "auxiliary objective": ("plain", *NOISE, AUXILIARY, INTERMEDIATE),
    "growth by gradient": ("plain", *NOISE, *WORDS, f"{GROW}=gradient", "classifier.tail=margin"),
    "growth towards separating features": (
        "plain",
        *NOISE,
        f"{GROW}=separating",
        "classifier.rewiring.history.rows=150",
    ),
    "growth in shares": (
        "plain",
        f"{GROW}={{random: 0.4, gradient: 0.3, separating: 0.3}}",
        "classifier.tail=propensity",
    ),
}


@pytest.fixture
def train_to_the_end(planted, tmp_path, monkeypatch):
    """Train a recipe, stopped and resumed at some places, and give the last checkpoint and the run's folder."""
    monkeypatch.setattr(CheckpointSeries, "remove", lambda self: None)

    def train(recipe, *stops, data=planted, name="run"):
        path, dataset = tmp_path / name, open_dataset(data)
        displays = [*stops, Silent()]
        with RunFolder.create(path, recipe, data) as run:
            prepared = prepare(dataset, recipe, tmp_path / "cache")
            begin = Trainer(recipe, prepared, run, displays[0], stop=(stop := StopSignals())).train
            _run_until_stopped(begin, stop, stopped=bool(stops))
        for i, display in enumerate(displays[1:], 1):
            stop = StopSignals()
            torch.manual_seed(i)  # a process of its own has another random state
            with RunFolder.open(path) as run:
                go_on = lambda: resume_run(run, display, cache=tmp_path / "cache", stop=stop)  # noqa: E731, B023
                _run_until_stopped(go_on, stop, stopped=i < len(displays) - 1)
        last = max((path / "checkpoints").iterdir())
        return read_checkpoint(last), path

    return train


def _run_until_stopped(run, stop, *, stopped):
    with stop:
        if stopped:
            with pytest.raises(Stopped):
                run()
        else:
            run()


def epochs(count):
    """Settings of a run that saves its last state."""
    return f"training.epochs={count}", f"training.checkpoint.steps={count * EPOCH}"


def check(train_to_the_end, recipe, *stops, **options):
    whole, whole_run = train_to_the_end(recipe, name="whole", **options)
    resumed, resumed_run = train_to_the_end(recipe, *stops, name="resumed", **options)
    assert whole.facts.position.epoch == recipe.training.epochs + 1  # all is done but the scores
    assert_same_state(whole, resumed)
    assert_same_run(whole_run, resumed_run)


@pytest.mark.parametrize("name", RECIPES)
def test_bit_for_bit_on_one_thread(name, tiny_recipe, train_to_the_end):
    recipe, *settings = RECIPES[name]
    check(train_to_the_end, tiny_recipe(recipe, *settings, *epochs(2)), StopAt(17))  # rewired after 10 and 20


@pytest.mark.parametrize("name", ["auxiliary objective", "words, clusters, start from tokens"])
def test_bit_for_bit_wherever_it_is_stopped(name, tiny_recipe, train_to_the_end):
    recipe, *settings = RECIPES[name]
    stops = [StopAt(7), StopAt(6), StopAt(1, "validation"), StopAt(20)]  # in step 7, 13, after 18, in 38
    check(train_to_the_end, tiny_recipe(recipe, *settings, *epochs(3)), *stops)


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        ("dense", ("classifier.fan_in=90",)),  # nothing of the encoder is trained
        ("dense", ("encoder.out_features=32", "encoder.dropout=0.2")),
        ("sparse", ("encoder.out_features=32", "encoder.dropout=0.2")),
    ],
)
def test_features(kind, settings, features, feature_recipe, train_to_the_end):
    check(train_to_the_end, feature_recipe(*settings, *epochs(2)), StopAt(17), data=features[kind])


@pytest.mark.parametrize("frozen", [False, True])
def test_transformers(frozen, transformer_recipe, train_to_the_end):
    settings = [f"encoder.frozen={str(frozen).lower()}", "encoder.dropout=0.2", "encoder.out_features=64"]
    check(train_to_the_end, transformer_recipe(*settings, *epochs(2)), StopAt(17))


def test_within_rounding_on_several_threads(tiny_recipe, train_to_the_end):
    recipe = tiny_recipe("plain", *NOISE, *epochs(2))
    torch.set_num_threads(2)
    try:
        whole, _ = train_to_the_end(recipe, name="whole")
        resumed, _ = train_to_the_end(recipe, StopAt(7), StopAt(20), name="resumed")
    finally:
        torch.set_num_threads(1)
    for part in ("encoder", "classifier"):
        second = resumed.tensors(part)
        for name, tensor in whole.tensors(part).items():
            torch.testing.assert_close(tensor, second[name], rtol=1e-3, atol=1e-4, msg=name)


@pytest.fixture
def stopped_run(planted, tmp_path):
    """Stop a run of a recipe after 25 steps; gives its folder."""

    def stop(recipe, data=planted):
        prepared = prepare(open_dataset(data), recipe, tmp_path / "cache")
        with RunFolder.create(tmp_path / "run", recipe, data) as run, StopSignals() as signals:
            trainer = Trainer(recipe, prepared, run, StopAt(25), stop=signals)
            with pytest.raises(Stopped):
                trainer.train()
        return tmp_path / "run"

    return stop


def resumed(path, display=None, **options):
    with RunFolder.open(path) as run:
        return resume_run(run, display or Silent(), cache=path.parent / "cache", **options)


def test_a_run_of_a_gpu_needs_one_or_is_told_another_device(stopped_run, tiny_recipe, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    path = stopped_run(tiny_recipe("plain", "training.epochs=2"))
    origin = json.loads((path / "run.json").read_text(encoding="utf-8"))
    (path / "run.json").write_text(json.dumps(origin | {"device": "cuda:1"}), encoding="utf-8")
    with pytest.raises(BackendError, match=r"on a GPU; to go on without it give --device cpu \(device 'cuda:1'"):
        resumed(path)
    assert resumed(path, device=torch.device("cpu")).metrics["device"] == "cpu"


def test_stopped_while_it_is_scored(tiny_recipe, train_to_the_end):
    recipe = tiny_recipe("plain", "training.epochs=1")
    _, whole = train_to_the_end(recipe, StopAt(5), name="whole")
    last, resumed = train_to_the_end(recipe, StopAt(1, "scoring test"), name="resumed")
    assert (last.facts.position.step, last.facts.position.epoch) == (EPOCH, 2)
    assert_same_run(whole, resumed)


def test_labels_are_not_clustered_again(stopped_run, tiny_recipe, monkeypatch):
    path = stopped_run(tiny_recipe("plain", AUXILIARY, "classifier.cluster_size=4", "training.epochs=2"))

    def never(*_args):
        raise AssertionError("the order was known")

    for name in ("related_order", "related_clusters"):
        module = "assemble_classifier" if name == "related_order" else "assemble_auxiliary"
        monkeypatch.setattr(f"fanin.training.{module}.{name}", never)
    assert resumed(path).metrics["validation"]["points"] == 30


def test_what_the_state_depends_on_cannot_be_changed(stopped_run, tiny_recipe):
    path = stopped_run(tiny_recipe("plain", "training.epochs=2"))
    kept = {file: file.read_bytes() for file in path.rglob("*") if file.is_file()}
    for setting, name in (
        ("classifier.fan_in=8", "classifier.fan_in"),
        ("training.seed=1", "training.seed"),
        ("training.epochs=3", "training.epochs"),
        ("classifier.rewiring=null", "classifier.rewiring"),
    ):
        with pytest.raises(ConfigError, match=f"recipe.yaml: {name}.* cannot be changed in a run that goes on"):
            resumed(path, settings=[setting])
    assert {file: file.read_bytes() for file in path.rglob("*") if file.is_file()} == kept
    changed = (path / "recipe.yaml").read_text(encoding="utf-8").replace("fan_in: 16", "fan_in: 15")
    (path / "recipe.yaml").write_text(changed, encoding="utf-8")
    with pytest.raises(ConfigError, match="classifier.fan_in cannot be changed"):
        resumed(path)


def test_other_data_is_refused_and_moved_data_found(stopped_run, tiny_recipe, planted, write_planted, tmp_path):
    path = stopped_run(tiny_recipe("plain", "training.epochs=2"))
    other = write_planted(tmp_path / "other", seed=1)
    with pytest.raises(CheckpointError, match="step-00000025: belongs to other data: .* with .*planted"):
        resumed(path, data=other)
    moved = write_planted(tmp_path / "moved")
    assert resumed(path, data=moved).metrics["test"]["points"] == 120


@pytest.mark.parametrize(("kind", "file"), [("dense", "trn_X.npy"), ("sparse", "trn_X_Xf.txt")])
def test_changed_features_are_refused(kind, file, stopped_run, features, feature_recipe, tmp_path):
    data = shutil.copytree(features[kind], tmp_path / "data")
    path = stopped_run(feature_recipe("encoder.out_features=32"), data)
    content = (data / file).read_bytes()
    changed = content[:-200] + content[-200:].replace(b":1", b":2") if kind == "sparse" else content[:-1] + b"\x40"
    assert changed != content
    (data / file).write_bytes(changed)
    with pytest.raises(CheckpointError, match="step-00000025: belongs to other data"):
        resumed(path)


def test_another_tokenizer_is_refused(stopped_run, tiny_recipe, monkeypatch):
    path = stopped_run(tiny_recipe("plain", "training.epochs=2"))
    monkeypatch.setattr("fanin.encoders.tokenization.Tokenizer.key", "another")
    with pytest.raises(CheckpointError, match="belongs to another tokenizer"):
        resumed(path)


def test_a_best_model_that_is_gone_is_not_missed(stopped_run, tiny_recipe):
    path = stopped_run(tiny_recipe("plain", "training.epochs=2"))
    shutil.rmtree(path / "model")
    assert resumed(path).model is not None


def test_other_versions_are_mentioned(stopped_run, tiny_recipe, monkeypatch):
    path, display = stopped_run(tiny_recipe("plain", "training.epochs=2")), Telling()
    monkeypatch.setattr("fanin.runs.checkpoint.__version__", "9.9")
    resumed(path, display)
    assert any("written with fanin 0.1.0 (now 9.9)" in line for line in display.lines)
    assert not any("numpy" in line for line in display.lines)
    assert "going on after step 25" in display.lines


def test_another_number_of_threads_is_mentioned(stopped_run, tiny_recipe, monkeypatch):
    path, display = stopped_run(tiny_recipe("plain", "training.epochs=2")), Telling()
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    resumed(path, display)
    assert any("written with threads 1 (now 3); results may differ" in line for line in display.lines)


def test_what_older_checkpoints_do_not_say_is_not_mentioned(stopped_run, tiny_recipe, monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr("fanin.runs.checkpoint.surroundings", lambda _recipe: {"torch": torch.__version__})
        path, display = stopped_run(tiny_recipe("plain", "training.epochs=2")), Telling()
    resumed(path, display)
    assert not any("written with" in line for line in display.lines)


def test_a_state_that_does_not_fit_is_refused(stopped_run, tiny_recipe, monkeypatch):
    growth = (f"{GROW}=gradient", "classifier.rewiring.stop_share=1")
    path = stopped_run(tiny_recipe("plain", *growth, "training.epochs=2"))
    whole = Checkpoint.tensors

    def without(part, name):
        def tensors(self, of):
            found = whole(self, of)
            return {key: value for key, value in found.items() if (of, key) != (part, name)}

        return tensors

    for part, name in (
        ("encoder", "table"),
        ("encoder_update", "table.touches"),
        ("encoder_update", "adamw.0.exp_avg"),
        ("classifier", "index"),
        ("classifier_update", "weight.1"),
        ("rewiring", "gradient.0.rows"),
        ("random", "torch"),
    ):
        with monkeypatch.context() as patched:
            patched.setattr(Checkpoint, "tensors", without(part, name))
            with pytest.raises(CheckpointError, match="step-00000025: does not fit recipe and data of the run"):
                resumed(path)


@pytest.mark.parametrize("shift", [1, -1, 0.5, None])
def test_a_label_structure_of_other_labels_is_refused(shift, stopped_run, tiny_recipe, monkeypatch):
    path = stopped_run(tiny_recipe("plain", "classifier.cluster_size=4", "training.epochs=2"))
    order = torch.arange(39) if shift is None else torch.arange(40) + shift
    monkeypatch.setattr(Checkpoint, "tensors", lambda _self, _part: {"order": order})
    with pytest.raises(CheckpointError, match="step-00000025: 'order' does not hold 40 numbers"):
        resumed(path)


def test_seconds_go_on_and_memory_is_the_largest(stopped_run, tiny_recipe):
    path = stopped_run(tiny_recipe("plain", "training.epochs=2"))
    [folder] = (path / "checkpoints").iterdir()
    facts = read_checkpoint(folder).facts
    parts = {part: read_checkpoint(folder).tensors(part) for part in ("encoder", "encoder_update", "classifier")}
    parts |= {part: read_checkpoint(folder).tensors(part) for part in ("classifier_update", "random")}
    later = facts.position.model_copy(update={"train_seconds": 1000.0, "peak_bytes": 1 << 50})
    write_checkpoint(folder, facts.model_copy(update={"position": later, "log_seconds": 2000.0}), parts)
    metrics = resumed(path).metrics
    assert 1000 < metrics["train_seconds"] < 1100
    assert metrics["peak_bytes"] == 1 << 50
    last = json.loads((path / "log.jsonl").read_text(encoding="utf-8").splitlines()[-1])
    assert last["event"] == "end"
    assert last["seconds"] > 2000
