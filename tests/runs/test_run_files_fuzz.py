"""Whatever recipes, run folders and checkpoints hold, they are read whole or refused with one of our errors."""

import contextlib
import hashlib
import json

import pytest
import torch

from fanin.compare.plan import PLAN, read_plan
from fanin.compare.running import steps_within
from fanin.errors import CheckpointError, ConfigError
from fanin.recipes.recipe import Recipe
from fanin.recipes.recipe_files import changed_recipe, load_recipe, recipe_from_values
from fanin.recipes.strict_yaml import parse_yaml
from fanin.report.finished_runs import read_metrics
from fanin.runs.checkpoint import DESCRIPTION, RunFacts, read_checkpoint, write_checkpoint
from fanin.runs.position import Position
from fanin.runs.run_folder import RUN_FILE, RunFolder, model_folder
from fuzzing import Folder, bounded_memory, inputs, only_our_errors, try_inputs
from mutations import mutated, mutated_json, mutated_value

YAML_WORDS = (
    *(b"a: &a [x]\n", b"*a", b"<<: *a\n", b"!!python/object:os.system x", b"!!int", b"!x", b"? [a]\n: b", b"- "),
    *(b"---\n", b"...\n", b"|\n", b">\n", b"%YAML 9.9\n", b"#", b"'", b'"', b"{", b"[", b"\0", b"\xff", b": ", b"\t"),
    *(b"extends: default\n", b"kind: dense\n", b".inf", b".nan", b"~", b"1:1:1", b"=", b"2001-01-99", b"0o9"),
)
SHORT = b"training: {epochs: 3, seed: 1}\nclassifier:\n  fan_in: 16\n  rewiring: {interval: 10}\n"


@inputs()
def test_yaml(count):
    def check(rng):
        text = mutated(rng, SHORT, YAML_WORDS)
        with only_our_errors("mine.yaml", lambda: text):
            parse_yaml(text.decode(errors="replace"), "mine.yaml")

    try_inputs(count, check)


@inputs()
def test_values(count):
    recipes = [load_recipe(name).model_dump(mode="json") for name in ("default", "head-tail", "minilm-frozen")]

    def check(rng):
        values = mutated_value(rng, rng.choice(recipes))
        with only_our_errors("mine.yaml", lambda: values):
            assert isinstance(recipe_from_values(values, "mine.yaml"), Recipe)

    try_inputs(count, check)


@inputs(500, 50_000)
def test_recipes(count, scratch):
    """As a whole: the reader of YAML takes milliseconds for the recipe that is extended."""
    content = b"extends: plain\n" + SHORT
    folder = Folder(scratch / "recipes", {"mine.yaml": content})
    settings = ("classifier.fan_in=64", "classifier.rewiring={interval: 10, grow: random}", "training.seed=1")

    def check(rng):
        setting = mutated(rng, rng.choice(settings).encode(), YAML_WORDS).decode(errors="replace")
        with folder.with_changed({"mine.yaml": mutated(rng, content, YAML_WORDS)}) as path:
            recipe = load_recipe(path / "mine.yaml")
            with contextlib.suppress(ConfigError):
                assert isinstance(changed_recipe(recipe, [setting]), Recipe)

    try_inputs(count, check)


@pytest.mark.parametrize(
    "text",
    [
        "a: &a [x, x]\nb: &b [*a, *a]\nc: &c [*b, *b]\nd: [*c, *c]\n",
        "training: " + "[" * 10_000,
        "training: " + "{a: " * 10_000,
        "- " * 10_000,
        "training: {epochs: " + "9" * 100_000 + "}",
        "training: !!python/object/apply:os.system [true]",
        "training: !!binary aGFsbG8=",
        "? [a]\n: b",
    ],
)
def test_what_stands_for_more_than_it_says_is_refused(text, tmp_path):
    (tmp_path / "mine.yaml").write_text(text, encoding="utf-8")
    with bounded_memory(), pytest.raises(ConfigError, match="mine.yaml") as caught:
        load_recipe(tmp_path / "mine.yaml")
    assert len(str(caught.value)) < 5000


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """The files of a checkpoint."""
    folder = tmp_path_factory.mktemp("checkpoints") / "step-00000003"
    recipe = load_recipe("plain").model_dump(mode="json")
    facts = RunFacts(
        position=Position(epoch=2, batch=3, step=21, best=0.5, skipped=[4]),
        classifier_steps=20,
        auxiliary_steps=None,
        log_size=1234,
        log_seconds=5.5,
        data_key="d",
        tokenizer_key=None,
        recipe={"training": recipe["training"]},
    )
    write_checkpoint(folder, facts, {"random": {"torch": torch.arange(20, dtype=torch.uint8)}})
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@inputs()
def test_checkpoints(count, checkpoint, scratch):
    """Also with a digest that is right, as somebody could write who wishes to deceive."""
    folder, whole = Folder(scratch / "step-00000003", checkpoint), json.loads(checkpoint[DESCRIPTION])

    def check(rng):
        name = rng.choice(sorted(checkpoint))
        content = mutated(rng, checkpoint[name])
        if name == DESCRIPTION and rng.random() < 0.7:
            body = mutated_value(rng, whole["checkpoint"])
            digest = hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()
            content = json.dumps({"sha256": digest, "checkpoint": body}).encode()
        with folder.with_changed({name: content}) as path:
            found = read_checkpoint(path)
            assert found.files == {"random.safetensors"}
            assert found.facts.position.step >= 0
            assert list(found.tensors("random")) == ["torch"]

    try_inputs(count, check)


@pytest.mark.parametrize("name", ["../outside.safetensors", "/etc/hostname", "sub/x", "."])
def test_a_checkpoint_names_no_files_elsewhere(name, checkpoint, tmp_path):
    folder = Folder(tmp_path / "step-00000003", checkpoint)
    (tmp_path / "outside.safetensors").write_bytes(checkpoint["random.safetensors"])
    body = json.loads(checkpoint[DESCRIPTION])["checkpoint"]
    body["files"][name] = body["files"]["random.safetensors"]
    digest = hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()
    (folder.path / DESCRIPTION).write_text(json.dumps({"sha256": digest, "checkpoint": body}))
    with pytest.raises(CheckpointError, match="missing, but listed"):
        read_checkpoint(folder.path)


METRICS = {"validation": {"P@1": 0.5, "points": 30}, "train_seconds": 1.5, "skipped_steps": [3], "peak_bytes": 10**9}
PLAN_VALUES = {
    "format": 1,
    "data": "d",
    "data_key": "k",
    "budget": "steps=300",
    "score_test": True,
    "machine": "m",
    "recipes": {"plain": "plain", "dense": "dense=dense"},
    "seeds": [0, 1],
    "steps": {"plain": 300},
}


@inputs()
def test_run_folders(count, scratch):
    run_file = {"format": 1, "fanin": "0.1.0", "data": "/data", "score_test": True}
    values = {RUN_FILE: run_file, "metrics.json": METRICS, PLAN: PLAN_VALUES, "model/model.json": {"format": 1}}
    files = {name: json.dumps(value).encode() for name, value in values.items()}
    folder = Folder(scratch / "run", {**files, "log.jsonl": b'{"event": "start"}\n'})
    readers = {RUN_FILE: RunFolder.open, "metrics.json": read_metrics, PLAN: read_plan}
    for read in readers.values():
        getattr(read(folder.path), "close", dict)()

    def check(rng):
        name = rng.choice(sorted(readers))
        with folder.with_changed({name: mutated_json(rng, values[name])}) as path:
            found = readers[name](path)
            if isinstance(found, RunFolder):
                found.close()
                assert found.finished
                assert model_folder(path) == path / "model"

    try_inputs(count, check)


@inputs()
def test_logs_of_probes(count, scratch):
    """What fanin compare reads of a short run, to know how many steps fit into a budget of seconds."""
    lines = [{"event": "start", "seconds": 1.5}, *({"event": "step", "step": i, "seconds": 0.5 * i} for i in (5, 10))]
    log = b"".join(json.dumps(line).encode() + b"\n" for line in lines)
    metrics = {"validation": {}, "train_seconds": 6.0}
    folder = Folder(scratch / "run", {"log.jsonl": log, "metrics.json": json.dumps(metrics).encode()})
    assert steps_within(60, folder.path) == 118

    def check(rng):
        changed = {"metrics.json": mutated_json(rng, metrics)}
        if rng.random() < 0.8:
            changed = {"log.jsonl": mutated(rng, log)}
        with folder.with_changed(changed) as path:
            assert steps_within(60, path) >= 1

    try_inputs(count, check)
