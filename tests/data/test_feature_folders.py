"""Folders with features in place of texts, or beside them."""

import numpy as np
import pytest

from fanin.data import validation
from fanin.data.batches import Batches
from fanin.data.feature_rows import DenseFeatures, FeatureSplit, SparseFeatures
from fanin.data.feature_store import FeatureStore, read_features
from fanin.data.formats import open_dataset
from fanin.data.validation import row_keys
from fanin.errors import DataError


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("FANIN_CACHE", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture
def folder(tmp_path):
    """Labels of three training and two test texts, dense features, no texts."""
    (tmp_path / "Y.txt").write_text("a\nb\n")
    (tmp_path / "trn_X_Y.txt").write_text("3 2\n0:1\n1:1\n0:1 1:1\n")
    (tmp_path / "tst_X_Y.txt").write_text("2 2\n0:1\n\n")
    np.save(tmp_path / "trn_X.npy", np.arange(12, dtype=np.float64).reshape(3, 4))
    np.save(tmp_path / "tst_X.npy", np.ones((2, 4), np.float16))
    return tmp_path


def test_dense_features_are_read_in_batches(folder):
    store = FeatureStore(open_dataset(folder))
    assert (store.columns, store.sparse, store.n_labels, store.split_names) == (4, False, 2, ("train", "test"))
    (batch,) = Batches(store.split("train"), 2, shuffle=False, rows=np.array([2, 0])).epoch()
    (values,) = batch.inputs
    assert values.dtype == np.float32
    assert values.flags.c_contiguous
    assert values.flags.writeable
    assert values.tolist() == [[8, 9, 10, 11], [0, 1, 2, 3]]
    assert batch.indices.tolist() == [0, 1, 0]


def test_sparse_features_are_read_in_batches(folder):
    for name in ("trn", "tst"):
        (folder / f"{name}_X.npy").unlink()
    (folder / "trn_X_Xf.txt").write_text("3 9\n0:1 8:0.5\n\n3:2\n")
    (folder / "tst_X_Xf.txt").write_text("2 9\n0:1\n1:1\n")
    store = FeatureStore(open_dataset(folder))
    assert (store.columns, store.sparse) == (9, True)
    (batch,) = Batches(store.split("train"), 3, shuffle=False, rows=np.array([2, 1, 0])).epoch()
    assert [array.tolist() for array in batch.inputs] == [[3, 0, 8], [0, 1, 1, 3], [2.0, 1.0, 0.5]]


def test_a_repository_folder_has_labels_by_number_or_by_name(tmp_path):
    (tmp_path / "train.txt").write_text("2 3 2\n0 1:1\n1 2:1\n")
    (tmp_path / "test.txt").write_text("1 3 2\n0,1 0:1\n")
    store = FeatureStore(open_dataset(tmp_path))
    assert list(store.vocabulary) == ["0", "1"]
    assert store.split("test").labels.tolist() == [0, 1]
    (tmp_path / "Y.txt").write_text("tea\ncoffee\n")
    assert list(FeatureStore(open_dataset(tmp_path)).vocabulary) == ["tea", "coffee"]
    with pytest.raises(DataError, match="no texts"):
        open_dataset(tmp_path).texts("train")


def test_texts_and_features_can_stand_side_by_side(folder):
    (folder / "trn_X.txt").write_text("x\ny\nz\n")
    (folder / "tst_X.txt").write_text("x\ny\n")
    dataset = open_dataset(folder)
    assert list(dataset.texts("train")) == ["x", "y", "z"]
    assert dataset.features("test").columns == 4


def change(folder, name, content):
    if isinstance(content, np.ndarray):
        np.save(folder / name, content)
    elif content is None:
        (folder / name).unlink()
    else:
        (folder / name).write_text(content)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("trn_X.npy", np.ones((2, 4), np.float32), "features of 2 texts, but .* has 3 rows"),
        ("tst_X.npy", np.ones((2, 5), np.float32), "test split has 5 features"),
        ("tst_X.npy", np.full((2, 4), np.nan, np.float32), r"tst_X\.npy, row 0, column 0: the value is nan"),
        ("tst_X.npy", np.full((2, 4), 1e300), r"tst_X\.npy, row 0, column 0"),
        ("tst_X.npy", None, "the test split has none"),
        ("tst_X.npy", np.array([[{}]], dtype=object), "pickled"),
        ("trn_X_Xf.txt", "3 4\n\n\n\n", "in two forms"),
        ("trn_X_Y.txt", None, r"missing trn_X_Y\.txt"),
        ("Y.txt", "a\n", "1 label names"),
    ],
)
def test_faulty_folders_are_refused(name, content, message, folder):
    change(folder, name, content)
    with pytest.raises(DataError, match=message):
        FeatureStore(open_dataset(folder))


def test_what_is_not_there_is_said(folder):
    with pytest.raises(DataError, match="encoder.kind features"):
        open_dataset(folder).texts("train")
    (folder / "texts").mkdir()
    for name in ("Y.txt", "trn_X_Y.txt", "tst_X_Y.txt"):
        (folder / name).rename(folder / "texts" / name)
    (folder / "texts" / "trn_X.txt").write_text("x\ny\nz\n")
    (folder / "texts" / "tst_X.txt").write_text("x\ny\n")
    with pytest.raises(DataError, match="holds no features"):
        FeatureStore(open_dataset(folder / "texts"))


def test_a_file_of_features_by_itself(folder):
    assert isinstance(read_features(folder / "trn_X.npy"), DenseFeatures)
    (folder / "x.txt").write_text("1 3\n2:1\n")
    assert isinstance(read_features(folder / "x.txt"), SparseFeatures)
    with pytest.raises(DataError, match="cannot be read"):
        read_features(folder / "missing.npy")


def test_equal_features_have_equal_keys():
    labels = (np.zeros(5, np.int64), np.empty(0, np.int32))
    dense = np.array([[1, 2], [2, 1], [1, 2], [0, 0]], np.float32)
    keys = row_keys(FeatureSplit(DenseFeatures(dense), *labels)).tolist()
    assert keys[0] == keys[2]
    assert len(set(keys)) == 3
    indptr, indices = np.array([0, 2, 4, 6, 7]), np.array([1, 2, 2, 1, 1, 2, 1], np.int32)
    values = np.array([1, 2, 2, 1, 2, 1, 1], np.float32)  # row 1 is row 0 in another order
    keys = row_keys(FeatureSplit(SparseFeatures(indptr, indices, values, 3), *labels)).tolist()
    assert keys[0] == keys[1]
    assert len(set(keys)) == 3


@pytest.mark.parametrize("values", [1, 5, 1 << 19])
def test_keys_do_not_depend_on_blocks(values, monkeypatch):
    labels = (np.zeros(8, np.int64), np.empty(0, np.int32))
    random = np.random.default_rng(0)
    dense = random.random((7, 3), np.float32)
    indptr = np.array([0, 3, 3, 5, 9, 9, 9, 12])
    sparse = SparseFeatures(indptr, random.integers(0, 5, 12).astype(np.int32), random.random(12, np.float32), 5)
    for features in (DenseFeatures(dense), sparse):
        split = FeatureSplit(features, *labels)
        expected = row_keys(split).tolist()
        with monkeypatch.context() as patched:
            patched.setattr(validation, "_BLOCK_VALUES", values)
            assert row_keys(split).tolist() == expected
        assert len(set(expected)) == (7 if features is not sparse else 5)  # three rows of none
