"""A beam beside its model: it comes back, and nothing that is damaged or belongs to other weights is used."""

import hashlib
import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from described_models import as_format_1
from fanin.beams import files as beam_files
from fanin.beams.files import load_beam, save_beam
from fanin.classifier.beam import Beam
from fanin.classifier.label_clusters import LabelClusters
from fanin.classifier.router import Router
from fanin.errors import CheckpointError, ConfigError
from fanin.estimator import TextClassifier
from fanin.model_files import load_model, save_model
from full_disk import full_disk


@pytest.fixture(scope="module")
def run(planted, tiny_recipe, train):
    return train(planted, tiny_recipe("plain", "training.epochs=1"))[1]


@pytest.fixture
def folder(run, tmp_path):
    return shutil.copytree(run.model, tmp_path / "model")


@pytest.fixture
def model(folder):
    return load_model(folder)


@pytest.fixture
def beam(model):
    D, L = model.classifier.in_features, model.classifier.out_features
    clusters = LabelClusters(torch.arange(L).flip(0).int(), torch.tensor([0, 10, L]), torch.zeros(2, dtype=torch.int64))
    return Beam(clusters, Router(torch.randn(1, D).bfloat16(), torch.randn(1)), None, 1)


def test_a_saved_beam_comes_back(folder, model, beam):
    save_beam(beam, folder, {"recall": 0.9})
    again = load_beam(folder, model.classifier)
    assert again.width == 1
    assert load_beam(folder, model.classifier, 2).width == 2
    for name in ("weight", "bias"):
        assert torch.equal(getattr(again.router, name), getattr(beam.router, name))
    for name in ("members", "bounds", "part"):
        assert torch.equal(getattr(again.clusters, name), getattr(beam.clusters, name))
    texts = ["word1 word2", ""]
    assert model.predict(texts, 3, beam=again) == model.predict(texts, 3, beam=beam)
    assert json.loads((folder / "beam.json").read_text())["facts"] == {"recall": 0.9}
    assert load_model(folder).predict(texts, 3) == model.predict(texts, 3)  # a model does not mind its beam
    assert not list(folder.glob("*.draft"))


@pytest.mark.parametrize("size", [100, 20_000])  # not even the tensors fit, or what is noted of the new beam does not
def test_on_a_full_disk_the_beam_before_is_kept(size, folder, model, beam):
    save_beam(beam, folder, {})
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert len(before[folder / "beam.safetensors"]) < 20_000
    with full_disk(size), pytest.raises(CheckpointError, match=f"{folder}: the beam could not be saved .*too large"):
        save_beam(beam, folder, {"noted": "x" * 20_000})
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before
    assert load_beam(folder, model.classifier).width == 1


@pytest.mark.parametrize("rank", [None, 3])
def test_folded_and_projected_inputs_come_back(folder, model, beam, rank):
    D = model.classifier.in_features
    fold = torch.tensor([1, -2, 2, -1], dtype=torch.int32)
    projection = None if rank is None else torch.randn(rank, D - 2)
    router = Router(torch.randn(1, rank or D - 2).bfloat16(), beam.router.bias, projection)
    folded = Beam(beam.clusters, router, fold, 1)
    save_beam(folded, folder, {})
    again = load_beam(folder, model.classifier)
    assert torch.equal(again.fold, fold)
    assert (again.router.projection is None) == (rank is None)
    assert rank is None or torch.equal(again.router.projection, projection)
    assert model.predict(["word1"], 3, beam=again) == model.predict(["word1"], 3, beam=folded)


def test_a_beam_of_other_weights_is_refused(folder, model, beam, tmp_path):
    save_beam(beam, folder, {})
    other = tmp_path / "other"
    with torch.no_grad():
        model.classifier.bias[3] += 1
    save_model(model, other)
    for name in ("beam.json", "beam.safetensors"):
        shutil.copy(folder / name, other)
    with pytest.raises(CheckpointError, match="the model has changed.*fanin index"):
        load_beam(other, load_model(other).classifier)
    save_beam(beam, other, {})  # made anew for the weights that are there
    assert load_beam(other, load_model(other).classifier)


def test_a_beam_of_other_weights_of_format_1_is_refused(folder, model, beam):
    """Their model's description notes no digests."""
    as_format_1(folder)
    save_beam(beam, folder, {})
    tensors = load_file(folder / "classifier.safetensors")
    tensors["bias"][3] += 1
    save_file(tensors, folder / "classifier.safetensors")
    with pytest.raises(CheckpointError, match="the model has changed.*fanin index"):
        load_beam(folder, load_model(folder).classifier)


@pytest.mark.parametrize("change", [lambda _: None, as_format_1], ids=["format 2", "format 1"])
def test_every_file_is_hashed_once_in_a_load(folder, model, beam, change, monkeypatch):
    change(folder)
    save_beam(beam, folder, {})
    hashed, digest = [], hashlib.file_digest

    def noted(file, name):
        hashed.append(Path(file.name))
        return digest(file, name)

    monkeypatch.setattr(hashlib, "file_digest", noted)
    load_beam(folder, load_model(folder).classifier)
    files = [path for path in folder.rglob("*") if path.is_file() and path.name != "beam.json"]
    assert sorted(hashed) == sorted(files)


def test_the_digest_of_the_model_is_the_one_that_is_documented(folder, model, beam):
    save_beam(beam, folder, {})
    paths = sorted(["classifier.safetensors", "encoder.safetensors", "model.json"])
    lines = [f"{path} {hashlib.sha256((folder / path).read_bytes()).hexdigest()}\n" for path in paths]
    assert json.loads((folder / "beam.json").read_text())["model_sha256"] == (
        hashlib.sha256("".join(lines).encode()).hexdigest()
    )


@pytest.mark.parametrize("damage", ["", "{}", '{"format": 2}', None])
def test_a_damaged_description_of_the_model_is_refused(folder, model, beam, damage):
    save_beam(beam, folder, {})
    path = folder / "model.json"
    path.unlink() if damage is None else path.write_text(damage)
    with pytest.raises(CheckpointError, match=r"model\.json"):
        load_beam(folder, model.classifier)


def test_missing_and_damaged_files_are_refused(folder, model, beam):
    with pytest.raises(CheckpointError, match="has no beam"):
        load_beam(folder, model.classifier)
    save_beam(beam, folder, {})
    tensors, description = folder / "beam.safetensors", folder / "beam.json"
    whole = tensors.read_bytes(), description.read_text()
    for damage in (whole[0][:-1], whole[0][:-1] + bytes([whole[0][-1] ^ 1]), b""):
        tensors.write_bytes(damage)
        with pytest.raises(CheckpointError, match="damaged"):
            load_beam(folder, model.classifier)
    tensors.unlink()
    with pytest.raises(CheckpointError, match="missing"):
        load_beam(folder, model.classifier)
    tensors.write_bytes(whole[0])
    good = json.loads(whole[1])
    for text in (
        "",
        "[]",
        "{}",
        "[" * 100_000,
        *(
            json.dumps(good | change)
            for change in (
                {"format": 2},
                {"width": 0},
                {"width": True},
                {"width": "1"},
                {"sha256": None},
                {"model_sha256": 3},
            )
        ),
    ):
        description.write_text(text)
        with pytest.raises(CheckpointError, match=r"beam\.json"):
            load_beam(folder, model.classifier)
    description.write_text(whole[1])
    assert load_beam(folder, model.classifier)


def _changed(tensors, name, value):
    return tensors | {name: value}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("weight", torch.zeros(1, 3, dtype=torch.bfloat16)),
        ("weight", torch.zeros(1, 32)),
        ("weight", torch.zeros(3, 32, dtype=torch.bfloat16)),
        ("bias", torch.zeros(2)),
        ("members", torch.zeros(40, dtype=torch.int32)),
        ("bounds", torch.tensor([0, 50, 40])),
        ("part", torch.tensor([0, 1])),
        ("fold", torch.zeros(4, dtype=torch.int32)),
        ("fold", torch.ones(40, dtype=torch.int32)),
        ("projection", torch.zeros(4, 32)),
        ("projection", torch.zeros(32, 3)),
        ("projection", torch.zeros(32)),
        ("projection", torch.zeros(32, 32, dtype=torch.bfloat16)),
        ("another", torch.zeros(1)),
    ],
    ids=lambda value: value if isinstance(value, str) else str(tuple(value.shape)),
)
def test_tensors_that_do_not_fit_are_refused(folder, model, beam, name, value, monkeypatch):
    """Their digest is right: whoever wrote them meant it."""
    write = beam_files.write_tensors
    monkeypatch.setattr(beam_files, "write_tensors", lambda tensors, path: write(tensors | {name: value}, path))
    save_beam(beam, folder, {})
    with pytest.raises(CheckpointError, match=r"beam\.safetensors"):
        load_beam(folder, model.classifier)


def test_a_classifier_uses_the_beam_of_its_folder(folder, model, beam):
    save_beam(beam, folder, {})
    classifier = TextClassifier.load(folder)
    texts = ["word1 word2", "word3"]
    assert classifier.predict(texts, 3, beam="kept") == model.predict(texts, 3, beam=beam)
    assert classifier.predict(texts, 3, beam=2) == classifier.predict(texts, 3) == model.predict(texts, 3)
    with pytest.raises(ConfigError, match="at least 1"):
        classifier.predict(texts, beam=0)
    with pytest.raises(ConfigError, match="folder"):
        TextClassifier(model).predict(texts, beam="kept")
