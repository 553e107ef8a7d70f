"""Model folders: what is saved comes back, and nothing that does not fit is used."""

import json
import re
import resource
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from fanin.errors import CheckpointError
from fanin.model_files import load_model, save_model
from fanin.runs.run_folder import model_folder


@pytest.fixture(scope="module")
def runs(planted, tiny_recipe, train):
    return {name: train(planted, tiny_recipe(name, "training.epochs=1")) for name in ("plain", "dense")}


@pytest.fixture
def folder(runs, tmp_path):
    return shutil.copytree(runs["plain"][1].model, tmp_path / "model")


def describe(folder, **changes):
    path = folder / "model.json"
    description = json.loads(path.read_text(encoding="utf-8")) | changes
    path.write_text(json.dumps(description), encoding="utf-8")


def rewrite(folder, name, change):
    """Change a weight file's tensors and note its new size, as an attacker or a bug would."""
    tensors = {key: tensor.clone() for key, tensor in load_file(folder / name).items()}
    change(tensors)
    save_file(tensors, folder / name)
    description = json.loads((folder / "model.json").read_text(encoding="utf-8"))
    describe(folder, bytes=description["bytes"] | {name: (folder / name).stat().st_size})


@pytest.mark.parametrize("name", ["plain", "dense"])
def test_a_saved_model_predicts_the_same(name, runs, tmp_path):
    model = runs[name][0].model
    save_model(model, tmp_path / "again")
    texts = ["word1 word2", "nothing known", ""]
    assert load_model(tmp_path / "again").predict(texts, 7) == model.predict(texts, 7)


def test_saving_over_an_older_model_replaces_it(runs, folder):
    save_model(runs["dense"][0].model, folder)
    assert load_model(folder).classifier.weight.shape == (40, 32)
    assert not list(folder.parent.glob("model.*"))


def test_nothing_but_a_model_is_replaced(runs, tmp_path):
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "thesis.txt").touch()
    (tmp_path / "file").write_text("x")
    for name in ("home", "file"):
        with pytest.raises(CheckpointError, match=re.escape(str(tmp_path / name))):
            save_model(runs["plain"][0].model, tmp_path / name)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["file", "home", "thesis.txt"]
    (tmp_path / "home" / "thesis.txt").unlink()
    save_model(runs["plain"][0].model, tmp_path / "home")
    assert load_model(tmp_path / "home")


def test_a_loaded_encoder_can_be_trained_on(folder):
    encoder = load_model(folder).encoder
    before = encoder.table.clone()
    encoder.train()
    x = encoder(torch.arange(20), torch.tensor([0, 20]))
    x.backward(torch.ones_like(x))
    encoder.table_step(0.1)
    assert not torch.equal(encoder.table, before)
    assert all(parameter.grad is not None for parameter in encoder.dense_parameters())
    assert {tensor.device.type for tensor in encoder.table_state().values()} == {"cpu"}


@pytest.mark.parametrize("blocks", [0, 2, 10**9, -1, "1", None])
def test_promised_blocks_are_not_built(blocks, folder):
    description = json.loads((folder / "model.json").read_text(encoding="utf-8"))
    part = description["encoder"]
    describe(folder, encoder=part | {"settings": part["settings"] | {"blocks": blocks}})
    with pytest.raises(CheckpointError, match="model.json: encoder.blocks"):
        load_model(folder)


@pytest.mark.parametrize("points", [0, -1, 1.5, "7", None, True])
def test_a_wrong_number_of_training_points_is_refused(points, folder):
    describe(folder, train_points=points)
    with pytest.raises(CheckpointError, match="model.json: train_points"):
        load_model(folder)


@pytest.mark.parametrize("count", [-1, 10**9])
def test_a_wrong_count_of_a_label_is_refused(count, folder):
    rewrite(folder, "train_counts.safetensors", lambda t: t["train_counts"][3].fill_(count))
    with pytest.raises(CheckpointError, match="train_counts.safetensors"):
        load_model(folder)


def test_errors_are_short(folder):
    wrong = {"table": torch.ones(3, 3), "token_weights": torch.ones(3)}
    rewrite(folder, "encoder.safetensors", lambda t: t.update(wrong))
    with pytest.raises(CheckpointError, match="encoder.safetensors: .*size mismatch for table") as caught:
        load_model(folder)
    assert len(str(caught.value).replace(str(folder), "")) < 400
    assert "token_weights" not in str(caught.value)


def test_a_save_that_fails_keeps_what_stood_there(runs, folder):
    before = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))  # the next larger file fails to be written
    try:
        with pytest.raises(CheckpointError, match="kept"):
            save_model(runs["dense"][0].model, folder)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()} == before
    assert [path.name for path in folder.parent.iterdir()] == ["model"]


@pytest.mark.parametrize(
    "name", ["encoder.safetensors", "classifier.safetensors", "train_counts.safetensors", "labels.jsonl", "model.json"]
)
def test_a_truncated_file_is_named(name, folder):
    path = folder / name
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(CheckpointError, match=name):
        load_model(folder)


@pytest.mark.parametrize("name", ["encoder.safetensors", "classifier.safetensors", "labels.jsonl", "tokenizer"])
def test_a_missing_file_is_named(name, folder):
    path = folder / name
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    with pytest.raises(CheckpointError, match=name):
        load_model(folder)


@pytest.mark.parametrize(
    "content", ["", "[]", "{}", '{"format": 1}', "[" * 100_000, '{"format": 2}', '{"format": "1"}', "\x00"]
)
def test_a_foreign_description_is_refused(content, folder):
    (folder / "model.json").write_text(content, encoding="utf-8")
    with pytest.raises(CheckpointError, match="model.json"):
        load_model(folder)


def test_a_newer_format_says_which_is_read(folder):
    describe(folder, format=2)
    with pytest.raises(CheckpointError, match=r"format 2; this version of fanin reads format 1"):
        load_model(folder)


@pytest.mark.parametrize("size", [10**12, 10**30, -1, 1.5, "many", None])
def test_promised_sizes_are_not_allocated(size, folder):
    description = json.loads((folder / "model.json").read_text(encoding="utf-8"))
    part = description["classifier"]
    describe(folder, classifier=part | {"settings": part["settings"] | {"out_features": size}})
    with pytest.raises(CheckpointError):
        load_model(folder)


@pytest.mark.parametrize("setting", ["trust", "backend", "device"])
def test_settings_of_another_layer_are_refused(setting, folder):
    description = json.loads((folder / "model.json").read_text(encoding="utf-8"))
    part = description["classifier"]
    describe(folder, classifier=part | {"settings": part["settings"] | {setting: "cuda"}})
    with pytest.raises(CheckpointError):
        load_model(folder)


def test_an_input_out_of_range_never_reaches_a_kernel(folder):
    rewrite(folder, "classifier.safetensors", lambda t: t["index"].view(torch.int16)[3].fill_(999))
    with pytest.raises(CheckpointError, match="index set 3"):
        load_model(folder)


def test_a_duplicate_input_is_refused(folder):
    def duplicate(tensors):
        tensors["index"].view(torch.int16)[5, 1] = tensors["index"].view(torch.int16)[5, 0]

    rewrite(folder, "classifier.safetensors", duplicate)
    with pytest.raises(CheckpointError, match="index set 5"):
        load_model(folder)


@pytest.mark.parametrize(
    "change",
    [
        lambda t: t.update(weight=t["weight"].double()),
        lambda t: t.update(weight=t["weight"][:-1]),
        lambda t: t.pop("bias"),
        lambda t: t.update(extra=torch.zeros(1)),
        lambda t: t.update(index=t["index"].to(torch.int32)),
    ],
)
def test_tensors_that_do_not_fit_are_refused(change, folder):
    rewrite(folder, "classifier.safetensors", change)
    with pytest.raises(CheckpointError, match="classifier.safetensors"):
        load_model(folder)


def test_files_outside_the_folder_are_not_followed(folder):
    description = json.loads((folder / "model.json").read_text(encoding="utf-8"))
    describe(folder, bytes=description["bytes"] | {"../../etc/hostname": 1})
    with pytest.raises(CheckpointError, match="model.json"):
        load_model(folder)


def test_a_tokenizer_of_another_size_is_refused(folder, planted, tiny_recipe, train):
    other, _ = train(planted, tiny_recipe("plain", "training.epochs=1", "tokenizer.unknown_buckets=7"))
    other.model.tokenizer.save(folder / "tokenizer")
    path = folder / "tokenizer" / "fanin_tokenizer.json"
    description = json.loads((folder / "model.json").read_text(encoding="utf-8"))
    describe(folder, bytes=description["bytes"] | {"tokenizer/fanin_tokenizer.json": path.stat().st_size})
    with pytest.raises(CheckpointError, match="tokenizer"):
        load_model(folder)


def test_folders_without_a_model(tmp_path):
    with pytest.raises(CheckpointError, match="no such folder"):
        model_folder(tmp_path / "missing")
    with pytest.raises(CheckpointError, match="holds no model"):
        model_folder(tmp_path)


def test_a_crash_between_two_renames_loses_nothing(folder):
    folder.rename(folder.with_name("model.previous"))
    assert load_model(model_folder(folder.parent)).classifier.out_features == 40


def test_a_crash_between_two_renames_leaves_a_model_folder_to_be_found_by_its_name(folder, monkeypatch):
    mine = folder.rename(folder.with_name("my-model.previous"))
    assert model_folder(folder.with_name("my-model")) == mine
    monkeypatch.chdir(folder.parent)
    assert model_folder(Path("my-model")).samefile(mine)
