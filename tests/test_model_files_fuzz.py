"""Whatever a model folder holds, loading it gives a model that predicts or one of our errors, and takes no memory."""

import hashlib
import json
import struct

import numpy as np
import pytest
import torch

from described_models import as_format_1, sealed
from fanin.data.feature_rows import DenseFeatures, SparseFeatures
from fanin.encoders.features import SparseFeatureEncoder
from fanin.encoders.tokenization import Tokenizer
from fanin.errors import CheckpointError
from fanin.model_files import load_model, save_model
from fanin.tensor_files import read_tensors, tensor_shapes, write_tensors
from fuzzing import Folder, bounded_memory, inputs, try_inputs
from mutations import mutated, mutated_json, mutated_tensors, mutated_value
from untrained_models import MODELS, TEXTS, made

DENSE_ROWS = DenseFeatures(np.ones((2, 5), np.float32))
SPARSE_ROWS = SparseFeatures(np.array([0, 2, 2]), np.array([4, 1], np.int32), np.ones(2, np.float32), 5)


def predicted(folder):
    model = load_model(folder)
    if model.tokenizer is not None:
        return model.predict(["green tea with x", ""], 3)
    return list(
        model.predict_features(SPARSE_ROWS if isinstance(model.encoder, SparseFeatureEncoder) else DENSE_ROWS, 3)
    )


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Model folders by name, each as files by name."""
    found = {}
    for name in MODELS:
        folder = tmp_path_factory.mktemp("models") / "model"
        save_model(made(name), folder)
        found[name] = {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    return found


def changed_files(rng, files):
    """One file of a model with something changed, mostly with a description whose digests fit."""
    name, body = rng.choice(("model.json", *files)), json.loads(files["model.json"])["model"]
    if name == "model.json":
        fits = rng.random() < 0.7
        return {name: sealed(mutated_value(rng, body)) if fits else mutated_json(rng, json.loads(files[name]))}
    content = mutated_file(rng, name, files[name])
    noted = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    return {name: content, "model.json": sealed(body | {"files": body["files"] | {name: noted}})}


def mutated_file(rng, name, content):
    if name.endswith(".safetensors"):
        return mutated_tensors(rng, content)
    return mutated_json(rng, json.loads(content)) if name.endswith(".json") else mutated(rng, content)


@pytest.mark.parametrize("name", MODELS)
@inputs(100, 100_000)
def test_model_folders(name, count, saved, scratch):
    files = saved[name]
    folder = Folder(scratch / "model", files)
    assert len(predicted(folder.path)) == 2

    def check(rng):
        with folder.with_changed(changed_files(rng, files)) as path:
            assert len(predicted(path)) == 2

    try_inputs(count, check)


@inputs(500, 50_000)
def test_model_folders_of_format_1(count, saved, scratch):
    """Which noted no digests."""
    folder = Folder(scratch / "model", saved["sparse"])
    as_format_1(folder.path)
    files = saved["sparse"] | {"model.json": (folder.path / "model.json").read_bytes()}
    folder.files, described = files, json.loads(files["model.json"])
    assert len(predicted(folder.path)) == 2

    def check(rng):
        name = rng.choice(("model.json", *files))
        content = mutated_json(rng, described) if name == "model.json" else mutated_file(rng, name, files[name])
        changed = {name: content}
        if name != "model.json":
            noted = described | {"bytes": described["bytes"] | {name: len(content)}}
            changed["model.json"] = json.dumps(noted).encode()
        with folder.with_changed(changed) as path:
            assert len(predicted(path)) == 2

    try_inputs(count, check)


@inputs()
def test_tensor_files(count, scratch):
    write_tensors({"one": torch.arange(6.0).view(2, 3), "other": torch.arange(3, dtype=torch.uint8)}, scratch / "file")
    content = (scratch / "file").read_bytes()
    folder = Folder(scratch / "folder", {"file": content})

    def check(rng):
        with folder.with_changed({"file": mutated_tensors(rng, content)}) as path:
            shapes = tensor_shapes(path / "file")
            tensors = read_tensors(path / "file")
            assert {name: tuple(tensor.shape) for name, tensor in tensors.items()} == shapes
            assert all(tensor.numel() * tensor.element_size() <= 1000 for tensor in tensors.values())

    try_inputs(count, check)


@pytest.mark.parametrize("unit", ["word", "subword"])
@inputs()
def test_tokenizer_files(unit, count, scratch):
    settings = {"unit": unit, "vocabulary_size": 12, "min_count": 1, "unknown_buckets": 3, "frequent_pairs": 3}
    Tokenizer.train(TEXTS[:3], **settings).save(scratch / "tokenizer")
    files = {path.name: path.read_bytes() for path in (scratch / "tokenizer").iterdir()}
    folder = Folder(scratch / "folder", files)
    values = {name: json.loads(content) for name, content in files.items()}

    def check(rng):
        changed = rng.choice(sorted(files))
        with folder.with_changed({changed: mutated_json(rng, values[changed])}) as path:
            tokenizer = Tokenizer.load(path)
            tokens, offsets = tokenizer.encode_flat(["green tea \u00e9\U0001f600 x", ""])
            assert offsets[-1] == len(tokens)
            assert not len(tokens) or 0 <= tokens.min() <= tokens.max() < tokenizer.vocabulary_size

    try_inputs(count, check)


@pytest.mark.parametrize(
    "header",
    [
        b'{"weight":{"dtype":"F32","shape":[1000000000000,1000000000000],"data_offsets":[0,4]}}',
        b'{"weight":{"dtype":"F32","shape":[1000000000000],"data_offsets":[0,4000000000000]}}',
        b'{"weight":{"dtype":"F32","shape":[18446744073709551615,2],"data_offsets":[0,4]}}',
        b'{"weight":{"dtype":"F32","shape":' + b"[" * 100_000,
    ],
)
@pytest.mark.parametrize("length", [None, 2**62])
def test_what_a_header_promises_is_not_allocated(header, length, tmp_path):
    path = tmp_path / "file.safetensors"
    path.write_bytes(struct.pack("<Q", length or len(header)) + header + b"\0" * 4)
    for read in (read_tensors, tensor_shapes):
        with bounded_memory(), pytest.raises(CheckpointError, match="file.safetensors"):
            read(path)
