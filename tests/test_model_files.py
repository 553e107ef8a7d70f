"""Model folders: what is saved comes back, and nothing that does not fit is used."""

import json
import random
import re
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from described_models import as_format_1, body_of, describe, note_file
from fanin import model_files
from fanin.errors import CheckpointError
from fanin.model_description import model_digest
from fanin.model_files import load_model, load_networks, save_model
from fanin.runs.run_folder import model_folder
from full_disk import full_disk


@pytest.fixture(scope="module")
def runs(planted, tiny_recipe, train):
    return {name: train(planted, tiny_recipe(name, "training.epochs=1")) for name in ("plain", "dense")}


@pytest.fixture
def folder(runs, tmp_path):
    return shutil.copytree(runs["plain"][1].model, tmp_path / "model")


def rewrite(folder, name, change):
    """Change a weight file's tensors and note it in the description, as an attacker or a bug would."""
    tensors = {key: tensor.clone() for key, tensor in load_file(folder / name).items()}
    change(tensors)
    save_file(tensors, folder / name)
    note_file(folder, name)


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
    part = body_of(folder)["encoder"]
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
    with full_disk(), pytest.raises(CheckpointError, match="kept"):
        save_model(runs["dense"][0].model, folder)
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


def test_any_flipped_bit_is_found_and_its_file_named(folder):
    rng, digest = random.Random(0), model_digest(folder)
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        content = path.read_bytes()
        for place in rng.sample(range(len(content)), min(20, len(content))):
            changed = content[:place] + bytes([content[place] ^ (1 << rng.randrange(8))]) + content[place + 1 :]
            if path.name == "model.json" and changed.split() == content.split():
                continue  # between two values
            path.write_bytes(changed)
            for read in (load_model, load_networks, model_digest):
                with pytest.raises(CheckpointError, match=str(path)):
                    read(folder)
        path.write_bytes(content)
    assert model_digest(folder) == digest
    load_model(folder)


def test_a_model_of_format_1_is_read_and_its_sizes_are_checked(folder):
    texts = ["word1 word2", ""]
    expected = load_model(folder).predict(texts, 3)
    as_format_1(folder)
    assert load_model(folder).predict(texts, 3) == expected
    save_model(load_model(folder), folder)
    assert json.loads((folder / "model.json").read_text(encoding="utf-8"))["format"] == 2
    as_format_1(folder)
    path = folder / "classifier.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(CheckpointError, match="classifier.safetensors: truncated or damaged"):
        load_model(folder)


def test_a_saved_model_is_known_again_by_its_digest(runs, tmp_path):
    digests = {name: save_model(runs[name][0].model, tmp_path / name) for name in ("plain", "dense")}
    assert digests["plain"] != digests["dense"]
    assert digests == {name: model_digest(tmp_path / name) for name in digests}
    assert save_model(load_model(tmp_path / "plain"), tmp_path / "again") == digests["plain"]


@pytest.mark.parametrize("name", ["model", "model.previous"])
def test_a_model_that_is_replaced_while_it_is_read_is_read_whole(name, runs, folder, monkeypatch):
    """Files of two models fit each other here in all but what they hold."""
    newer, load_into = runs["plain"][0].model, model_files.load_into
    older = load_model(folder)
    older.encoder.table.data += 1  # read before the other is there
    save_model(older, folder)
    folder.rename(folder.with_name(name))
    replaced = []

    def load_later(module, path):
        if not replaced:
            save_model(newer, folder)
            replaced.append(True)
        load_into(module, path)

    monkeypatch.setattr(model_files, "load_into", load_later)
    found = load_model(folder.with_name(name))
    assert replaced
    for part in ("encoder", "classifier"):
        for key, tensor in getattr(found, part).state_dict().items():
            assert torch.equal(tensor, getattr(newer, part).state_dict()[key]), key


@pytest.mark.parametrize("name", ["encoder.safetensors", "classifier.safetensors", "labels.jsonl", "tokenizer"])
def test_a_missing_file_is_named(name, folder):
    path = folder / name
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    with pytest.raises(CheckpointError, match=name):
        load_model(folder)


@pytest.mark.parametrize(
    "content",
    ["", "[]", "{}", '{"format": 1}', "[" * 100_000, '{"format": 2}', '{"format": "1"}', "\x00", '{"format": [1]}']
    + [f'{{"format": 2, "sha256": "x", "model": {model}}}' for model in ("3", "{}", '{"files": 3}')]
    + [f'{{"format": 1, "bytes": {sizes}}}' for sizes in ("3", "{}", '{"x": 1}', '{"x": {}}')],
)
def test_a_foreign_description_is_refused(content, folder):
    (folder / "model.json").write_text(content, encoding="utf-8")
    with pytest.raises(CheckpointError, match="model.json"):
        load_model(folder)


def test_a_newer_format_says_which_is_read(folder):
    (folder / "model.json").write_text('{"format": 3}', encoding="utf-8")
    with pytest.raises(CheckpointError, match=r"format 3; this version of fanin reads formats 1 and 2"):
        load_model(folder)


@pytest.mark.parametrize("size", [10**12, 10**30, -1, 1.5, "many", None])
def test_promised_sizes_are_not_allocated(size, folder):
    part = body_of(folder)["classifier"]
    describe(folder, classifier=part | {"settings": part["settings"] | {"out_features": size}})
    with pytest.raises(CheckpointError):
        load_model(folder)


@pytest.mark.parametrize("setting", ["trust", "backend", "device"])
def test_settings_of_another_layer_are_refused(setting, folder):
    part = body_of(folder)["classifier"]
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
    (folder.parent / "secret").touch()
    listed = body_of(folder)["files"]
    describe(folder, files=listed | {"../secret": listed["labels.jsonl"]})
    with pytest.raises(CheckpointError, match="secret: is missing, but listed in model.json"):
        load_model(folder)


def test_a_tokenizer_of_another_size_is_refused(folder, planted, tiny_recipe, train):
    other, _ = train(planted, tiny_recipe("plain", "training.epochs=1", "tokenizer.unknown_buckets=7"))
    other.model.tokenizer.save(folder / "tokenizer")
    note_file(folder, "tokenizer/fanin_tokenizer.json")
    with pytest.raises(CheckpointError, match="the tokenizer has"):
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
