"""Stores of data sets with features: what they hold, and that they are whole or not there, in whatever form."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import fanin
from fanin.data.building import build_sparse_store
from fanin.data.feature_store import FeatureStore
from fanin.data.formats import open_dataset
from fanin.data.label_store import LabelStore
from fanin.data.sparse_store import SparseStore
from fanin.data.store import Store
from fanin.errors import ConfigError, DataError
from fanin.mapped_arrays import _mapping

SOURCES = str(Path(fanin.__file__).parent.parent)
LABELS = {
    "Y.txt": "tea\ncoffee\nmilk\n",
    "trn_X_Y.txt": "3 3\n2:1 0:1\n\n1\n",
    "tst_X_Y.txt": "1 3\n1:1\n",
    "filter_labels_test.txt": "0 2\n",
}
FOLDERS = {
    "sparse": {**LABELS, "trn_X_Xf.txt": "3 9\n0:1 8:0.5\n\n3:-2.25\n", "tst_X_Xf.txt": "1 9\n1 1:2\n"},
    "dense": LABELS,
    "bag of words": {"train.txt": "3 9 3\n2,0 0:1 8:0.5\n\n1 3:-2.25\n", "test.txt": "1 9 3\n1 1 1:2\n"},
}
DENSE = {"trn_X.npy": np.arange(27.0).reshape(3, 9), "tst_X.npy": np.ones((1, 9), np.float16)}
SPARSE = ("sparse", "bag of words")


@pytest.fixture(params=FOLDERS)
def kind(request):
    return request.param


@pytest.fixture
def folder(kind, tmp_path):
    path = tmp_path / "data"
    path.mkdir()
    for name, content in FOLDERS[kind].items():
        (path / name).write_text(content)
    if kind == "dense":
        for name, values in DENSE.items():
            np.save(path / name, values)
    return path


@pytest.fixture
def cache(tmp_path):
    return tmp_path / "cache"


def stores(cache):
    return sorted((cache / "stores").iterdir())


def on_the_way(dataset, act):
    """The data set, which calls ``act`` when its training labels are read."""
    read = dataset.label_blocks

    def label_blocks(split):
        if split == "train":
            act()
        return read(split)

    dataset.label_blocks = label_blocks
    return dataset


def never():
    pytest.fail("the files were read again")


def check_content(store, dataset):
    """Every split is what the data set reads into memory."""
    assert store.split_names == dataset.split_names
    assert list(store.vocabulary) == list(dataset.vocabulary)
    for name in store.split_names:
        split, features, labels = store.split(name), dataset.features(name), dataset.positives(name)
        fields = ("indptr", "indices", "values") if store.sparse else ("values",)
        pairs = [(getattr(split.features, field), getattr(features, field)) for field in fields]
        for found, expected in [*pairs, (split.labels_indptr, labels.indptr), (split.labels, labels.indices)]:
            assert found.dtype == expected.dtype
            assert np.array_equal(found, expected)
        assert (split.features.columns, len(split)) == (features.columns, len(features))


def test_a_store_holds_what_the_files_say(folder, cache, kind):
    store = FeatureStore(open_dataset(folder), cache=cache)
    check_content(store, open_dataset(folder))
    assert (store.columns, store.sparse, store.n_labels) == (9, kind != "dense", 3)
    assert store.excluded("train") is None
    excluded = store.excluded("test")
    assert excluded is None if kind == "bag of words" else excluded.indices.tolist() == [2]
    with pytest.raises(DataError, match="no 'dev' split"):
        store.split("dev")


def test_everything_stays_in_its_file(folder, cache, kind):
    train = FeatureStore(open_dataset(folder), cache=cache).split("train")
    arrays = [train.labels, train.labels_indptr, train.features.values]
    arrays += [train.features.indices, train.features.indptr] if kind != "dense" else []
    assert all(_mapping(array) is not None for array in arrays)
    with pytest.raises(ValueError, match="read-only"):
        train.labels[0] = 1
    (made,) = stores(cache)
    assert any("values" in path.name for path in made.iterdir()) == (kind != "dense")


def test_the_second_opening_reads_no_rows(folder, cache):
    FeatureStore(open_dataset(folder), cache=cache)
    check_content(FeatureStore(on_the_way(open_dataset(folder), never), cache=cache), open_dataset(folder))
    assert len(stores(cache)) == 1


def test_one_split_by_itself(folder, cache, kind):
    changed = {"sparse": "trn_X_Xf.txt", "bag of words": "train.txt"}.get(kind)
    if changed is not None:
        sound = (folder / changed).read_text()
        (folder / changed).write_text(sound.replace("-2.25", "many"))
    one = FeatureStore(on_the_way(open_dataset(folder), never), None, ("test",), cache)
    assert one.split_names == ("test",)
    assert one.split("test").labels.tolist() == [1]
    if changed is not None:
        with pytest.raises(DataError, match=f"{changed}, line 4: the value in '3:many' is not a number"):
            FeatureStore(open_dataset(folder), cache=cache)
        (folder / changed).write_text(sound)
    FeatureStore(open_dataset(folder), cache=cache)
    before = stores(cache)
    (folder / "Y.txt").write_text("1\n2\n3\n")
    FeatureStore(open_dataset(folder), cache=cache)
    again = FeatureStore(open_dataset(folder), None, ("test",), cache)
    assert list(again.vocabulary) == ["1", "2", "3"]
    assert len(stores(cache)) == len(before) + 1  # that of all splits serves for one


@pytest.mark.parametrize("kind", SPARSE, indirect=True)
def test_other_features_are_another_store(folder, cache, kind):
    FeatureStore(open_dataset(folder), cache=cache)
    name = "trn_X_Xf.txt" if kind == "sparse" else "train.txt"
    (folder / name).write_text((folder / name).read_text().replace("0.5", "0.7"))
    store = FeatureStore(open_dataset(folder), cache=cache)
    assert store.split("train").features.values.tolist() == pytest.approx([1, 0.7, -2.25])
    assert len(stores(cache)) == 2


def test_progress_ends_with_all_texts(folder, cache):
    seen = []
    FeatureStore(open_dataset(folder), lambda done, total: seen.append((done, total)), cache=cache)
    assert seen == [(3, 4), (4, 4)]


@pytest.mark.parametrize("kind", SPARSE, indirect=True)
def test_a_split_without_texts(folder, cache, kind):
    for name in ("tst_X_Xf.txt", "tst_X_Y.txt") if kind == "sparse" else ("test.txt",):
        header = (folder / name).read_text().split("\n", 1)[0]
        (folder / name).write_text(header.replace("1", "0", 1) + "\n")
    (folder / "filter_labels_test.txt").unlink(missing_ok=True)
    store = FeatureStore(open_dataset(folder), cache=cache)
    assert (len(store.split("train")), len(store.split("test"))) == (3, 0)


DAMAGES = {
    "truncate": lambda folder, _: os.truncate(folder / "train.labels.bin", 2),
    "delete": lambda folder, _: (folder / "labels.jsonl").unlink(),
    "meta": lambda folder, _: os.truncate(folder / "meta.json", 20),
    "version": lambda folder, meta: write_meta(folder, {**meta, "version": 1}),
    "another kind": lambda folder, meta: write_meta(folder, {**meta, "holds": "tokens"}),
    "columns": lambda folder, meta: write_meta(folder, {**meta, "columns": -1}),
    "an array less": lambda folder, meta: write_meta(
        folder, {**meta, "arrays": dict(list(meta["arrays"].items())[1:])}
    ),
}


def write_meta(folder, meta):
    (folder / "meta.json").write_text(json.dumps(meta))


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_store_is_found_and_built_again(folder, cache, kind, damage):
    if (kind, damage) == ("dense", "columns"):
        pytest.skip("no columns in it")
    FeatureStore(open_dataset(folder), cache=cache)
    (made,) = stores(cache)
    DAMAGES[damage](made, json.loads((made / "meta.json").read_text()))
    with pytest.raises(DataError, match="delete the folder"):
        (LabelStore if kind == "dense" else SparseStore)(made)
    check_content(FeatureStore(open_dataset(folder), cache=cache), open_dataset(folder))
    assert stores(cache) == [made]


def test_a_store_of_another_kind_is_refused(folder, cache):
    FeatureStore(open_dataset(folder), cache=cache)
    with pytest.raises(DataError, match="not of tokens; delete the folder"):
        Store(*stores(cache))


@pytest.mark.parametrize("kind", ["sparse"], indirect=True)
def test_values_that_do_not_fit_their_columns_are_refused(folder, cache):
    FeatureStore(open_dataset(folder), cache=cache)
    (made,) = stores(cache)
    meta = json.loads((made / "meta.json").read_text())
    meta["arrays"]["train.values"][1] = 2
    write_meta(made, meta)
    os.truncate(made / "train.values.bin", 8)
    with pytest.raises(DataError, match=r"train\.values\.bin does not fit the features; delete the folder"):
        SparseStore(made).features("train")


def test_an_error_leaves_nothing(folder, cache):
    def fail():
        raise RuntimeError("the disk broke")

    with pytest.raises(RuntimeError, match="the disk broke"):
        FeatureStore(on_the_way(open_dataset(folder), fail), cache=cache)
    assert stores(cache) == []


def test_a_killed_process_leaves_no_store_and_its_draft_goes_in_time(folder, cache):
    program = (
        "import os, sys; from pathlib import Path; from fanin.data.formats import open_dataset\n"
        "from fanin.data.feature_store import FeatureStore; dataset = open_dataset(sys.argv[1])\n"
        "dataset.label_names = lambda: os._exit(9)\n"
        "FeatureStore(dataset, cache=Path(sys.argv[2]))"
    )
    run = subprocess.run(
        [sys.executable, "-c", program, folder, cache], env={**os.environ, "PYTHONPATH": SOURCES}, check=False
    )
    assert run.returncode == 9
    (draft,) = stores(cache)
    assert draft.name.startswith("draft-")
    for path in (draft, *draft.rglob("*")):
        os.utime(path, (time.time() - 2 * 24 * 3600,) * 2)
    check_content(FeatureStore(open_dataset(folder), cache=cache), open_dataset(folder))
    assert not draft.exists()


def test_two_builders_at_once_both_succeed(folder, cache):
    others = []

    def start_another():
        others.append(FeatureStore(open_dataset(folder), cache=cache))

    store = FeatureStore(on_the_way(open_dataset(folder), start_another), cache=cache)
    for one in (store, *others):
        check_content(one, open_dataset(folder))
    assert len(stores(cache)) == 1


def test_files_that_change_meanwhile_are_refused(folder, cache, kind):
    name, old, new = {
        "dense": ("tst_X_Y.txt", "1:1", "2:1"),
        "sparse": ("trn_X_Xf.txt", "0:1", "2:1"),
        "bag of words": ("test.txt", "1:2", "3:2"),
    }[kind]

    def tamper():
        (folder / name).write_text((folder / name).read_text().replace(old, new))

    with pytest.raises(DataError, match="changed while they were read"):
        FeatureStore(on_the_way(open_dataset(folder), tamper), cache=cache)
    assert stores(cache) == []


@pytest.mark.parametrize("kind", ["sparse"], indirect=True)
def test_labels_and_features_of_other_numbers_of_rows_make_no_store(folder, cache):
    dataset = open_dataset(folder)
    dataset.feature_blocks = lambda split: iter(list(open_dataset(folder).feature_blocks(split)) * 2)
    with pytest.raises(DataError, match="the files of the train split changed while they were read"):
        build_sparse_store(dataset, ("train",), 9, cache)
    assert stores(cache) == []


def test_a_cache_that_cannot_be_written_is_named(folder, cache):
    cache.write_text("a file in the way")
    with pytest.raises(ConfigError, match="cannot be written .* FANIN_CACHE"):
        FeatureStore(open_dataset(folder), cache=cache)
