"""Whatever a model folder holds, loading it gives a model that predicts or one of our errors, and takes no memory."""

import json
import struct

import numpy as np
import pytest
import torch

from fanin.classifier.kinds import CLASSIFIERS
from fanin.data.feature_rows import DenseFeatures, SparseFeatures
from fanin.encoders.bag import BagEncoder
from fanin.encoders.features import FeatureEncoder, SparseFeatureEncoder
from fanin.encoders.intermediate import IntermediateLayer
from fanin.encoders.tokenization import Tokenizer
from fanin.errors import CheckpointError
from fanin.kernels.spec import Loss
from fanin.labels.vocabulary import LabelVocabulary
from fanin.model import TextModel
from fanin.model_files import load_model, save_model
from fanin.tensor_files import read_tensors, tensor_shapes, write_tensors
from fuzzing import Folder, bounded_memory, inputs, mutated, mutated_json, mutated_value, try_inputs

D, L = 8, 12
TEXTS = ["green tea", "black coffee", "milk and sugar", "a pot of tea"] * 3
BAG = {"embedding_dim": 4, "block_width": 4, "lexical_features": 0}
DENSE_ROWS = DenseFeatures(np.ones((2, 5), np.float32))
SPARSE_ROWS = SparseFeatures(np.array([0, 2, 2]), np.array([4, 1], np.int32), np.ones(2, np.float32), 5)
MODELS = {  # unit of the tokenizer or kind of features, kind and settings of the classifier
    "sparse": ("word", "sparse", {"fan_in": 3, "cluster_size": 4, "ordered": True}),
    "groups": ("subword", "sparse", {"fan_in": 3, "group_size": 5}),
    "bfloat16": ("dense features", "sparse", {"fan_in": 3, "dtype": "bfloat16"}),
    "float8": ("sparse features", "dense", {"dtype": "float8_e4m3fn"}),
    "dense": ("intermediate", "dense", {}),
    "head and tail": ("word", "head_tail", {"fan_in": 3, "head_labels": 4, "cluster_size": 2}),
    "bands": ("word", "banded", {"bands": [(4, 6), (8, 3)]}),
    "bottleneck": ("word", "bottleneck", {"width": 2}),
    "mask": ("word", "masked", {"fan_in": 3}),
    "autograd": ("word", "dense_autograd", {}),
}


def made(name):
    """A model as it is before training."""
    reads, kind, settings = MODELS[name]
    tokenizer = None
    if reads == "dense features":
        encoder = FeatureEncoder(5, D)
    elif reads == "sparse features":
        encoder = SparseFeatureEncoder(5, D)
    else:
        unit = "subword" if reads == "subword" else "word"
        tokenizer = Tokenizer.train(TEXTS, unit=unit, vocabulary_size=30, min_count=1, unknown_buckets=3)
        encoder = BagEncoder(tokenizer.vocabulary_size, D, **{**BAG, "lexical_features": 3 * (kind == "sparse")})
        encoder = IntermediateLayer(encoder, 9) if reads == "intermediate" else encoder
    torch.manual_seed(0)
    classifier = CLASSIFIERS[kind](encoder.out_features, L, **settings)
    labels = LabelVocabulary(f"label {i}" for i in range(L))
    return TextModel(tokenizer, encoder.eval(), classifier, labels, np.arange(L), 12, Loss.BCE)


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


def with_sizes(files, contents):
    """The same contents, and a description that has their sizes."""
    description = json.loads(files["model.json"])
    description["bytes"] |= {name: len(content) for name, content in contents.items()}
    return contents | {"model.json": json.dumps(description).encode()}


def mutated_tensors(rng, content):
    """A safetensors file with another header, other bytes behind it, or hardly one at all."""
    [size] = struct.unpack("<Q", content[:8])
    header, data = json.loads(content[8 : 8 + size]), content[8 + size :]
    how = rng.randrange(4)
    if how == 0:
        return mutated(rng, content)
    if how == 1:
        data = mutated(rng, data)
        data = (data + content)[: len(content) - 8 - size] if rng.random() < 0.8 else data
    elif how == 2:
        tensor = rng.choice([value for name, value in header.items() if name != "__metadata__"])
        tensor["dtype"] = rng.choice(("F64", "F32", "F16", "BF16", "F8_E4M3", "I64", "I32", "U16", "I16", "U8", "BOOL"))
        if rng.random() < 0.5:
            tensor["shape"] = tensor["shape"][::-1]
    else:
        header = mutated_value(rng, header)
    text = json.dumps(header).encode("utf-8", "surrogatepass")
    return struct.pack("<Q", len(text)) + text + data


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
        changed = rng.choice(("model.json", *files))
        content = mutated_file(rng, changed, files[changed])
        contents = {changed: content} if changed == "model.json" else with_sizes(files, {changed: content})
        with folder.with_changed(contents) as path:
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
