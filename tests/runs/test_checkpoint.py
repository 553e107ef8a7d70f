"""A checkpoint comes back as it was written, or is refused with the file that is damaged."""

import json
import os
import random
from importlib.metadata import version

import numpy as np
import pytest
import torch

from fanin.errors import CheckpointError
from fanin.runs.checkpoint import (
    DESCRIPTION,
    DamagedCheckpointError,
    RunFacts,
    read_checkpoint,
    surroundings,
    write_checkpoint,
)
from fanin.runs.position import Position

FACTS = RunFacts(
    position=Position(epoch=2, batch=3, step=21, best=0.1 + 0.2, epoch_loss=1 / 3, skipped=[4]),
    classifier_steps=20,
    auxiliary_steps=None,
    log_size=1234,
    log_seconds=5.5,
    data_key="d",
    tokenizer_key=None,
    recipe={"training": {"epochs": 2, "schedule": {"learning_rate": 1e-3}}, "evaluation": {"ks": [1, 3]}},
)
PARTS = {
    "classifier": {"weight": torch.arange(6.0).view(2, 3), "index": torch.tensor([[1, 2]], dtype=torch.uint16)},
    "random": {"torch": torch.arange(200, dtype=torch.uint8)},
    "auxiliary": {},
}


@pytest.fixture
def folder(tmp_path):
    write_checkpoint(tmp_path / "step-00000021", FACTS, PARTS)
    return tmp_path / "step-00000021"


def test_it_comes_back(folder):
    found = read_checkpoint(folder)
    assert found.facts == FACTS
    assert found.versions == surroundings(FACTS.recipe)
    for part, tensors in PARTS.items():
        back = found.tensors(part)
        assert back.keys() == tensors.keys()
        assert all(
            torch.equal(back[name], tensor) and back[name].dtype == tensor.dtype for name, tensor in tensors.items()
        )
    assert {path.name for path in folder.iterdir()} == {DESCRIPTION, "classifier.safetensors", "random.safetensors"}


def test_nothing_in_it_is_left_unchecked(folder):
    """Any change of a byte, any length, and any file too many or too few is found, and the file named."""
    rng = random.Random(0)
    for path in sorted(folder.iterdir()):
        content = path.read_bytes()
        changes = []
        for _ in range(40):
            place = rng.randrange(len(content))
            changes.append(content[:place] + bytes([content[place] ^ (1 << rng.randrange(8))]) + content[place + 1 :])
        changes += [content[: rng.randrange(len(content))] for _ in range(5)] + [content + b"x", b""]
        for change in changes:
            if path.name == DESCRIPTION and _says_the_same(change, content):
                continue
            path.write_bytes(change)
            with pytest.raises(DamagedCheckpointError, match=str(path)):
                read_checkpoint(folder)
        path.unlink()
        with pytest.raises(DamagedCheckpointError, match=str(path)):
            read_checkpoint(folder)
        path.write_bytes(content)
    read_checkpoint(folder)
    (folder / "more.safetensors").touch()
    with pytest.raises(DamagedCheckpointError, match="more.safetensors"):
        read_checkpoint(folder)


def _says_the_same(change, content):
    try:
        return json.loads(change) == json.loads(content)  # a space or a line feed more or less
    except ValueError:
        return False


def test_what_another_version_wrote_is_not_damaged(folder, monkeypatch):
    monkeypatch.setattr("fanin.runs.checkpoint.FORMAT", 2)
    with pytest.raises(CheckpointError, match="format 1; this version of fanin reads format 2") as caught:
        read_checkpoint(folder)
    assert not isinstance(caught.value, DamagedCheckpointError)


def test_a_description_of_something_else_is_refused(folder, monkeypatch):
    for facts in ({"position": {}}, {**FACTS.model_dump(), "log_size": "12"}, {**FACTS.model_dump(), "more": 1}, 3):
        monkeypatch.setattr(RunFacts, "model_dump", lambda _self, facts=facts: facts)
        write_checkpoint(folder, FACTS, PARTS)
        with pytest.raises(DamagedCheckpointError, match=f"{DESCRIPTION}: not the description of a checkpoint"):
            read_checkpoint(folder)


def test_versions_and_threads_are_noted():
    plain, transformer = (surroundings({"encoder": {"kind": kind}}) for kind in ("bag", "transformer"))
    assert plain.keys() == {"fanin", "torch", "numpy", "tokenizers", "threads"}
    assert plain["numpy"] == np.__version__
    assert plain["threads"] == str(torch.get_num_threads())
    assert transformer == plain | {"transformers": version("transformers")}


def test_a_description_elsewhere_is_not_opened(folder, tmp_path):
    os.mkfifo(tmp_path / "elsewhere")  # whoever opens it waits for ever
    (folder / DESCRIPTION).unlink()
    (folder / DESCRIPTION).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(DamagedCheckpointError, match=f"{DESCRIPTION}: a link to a place outside the checkpoint"):
        read_checkpoint(folder)


def test_a_link_out_of_it_is_refused(folder, tmp_path):
    """Even if what it leads to has the right content."""
    (folder / "random.safetensors").rename(tmp_path / "elsewhere")
    (folder / "random.safetensors").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(DamagedCheckpointError, match="random.safetensors: a link to a place outside the checkpoint"):
        read_checkpoint(folder)


@pytest.mark.parametrize("versions", [3, [[]], "x", None])
def test_versions_of_another_form_are_refused(versions, folder, monkeypatch):
    monkeypatch.setattr("fanin.runs.checkpoint.surroundings", lambda _recipe: versions)
    write_checkpoint(folder, FACTS, PARTS)
    with pytest.raises(DamagedCheckpointError, match=f"{DESCRIPTION}: not the description of a checkpoint"):
        read_checkpoint(folder)


def test_what_cannot_be_written_is_said(tmp_path):
    (tmp_path / "step-00000021").write_text("a file of somebody's")
    with pytest.raises(CheckpointError, match="step-00000021: the checkpoint could not be written"):
        write_checkpoint(tmp_path / "step-00000021", FACTS, PARTS)
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000021"]
