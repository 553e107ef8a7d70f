"""Mapped arrays: their values, and that exactly the rows asked for are read ahead."""

import mmap
import sys
from pathlib import Path

import numpy as np
import pytest

from fanin.data import feature_rows
from fanin.data.batches import Batches
from fanin.data.extended_split import ExtendedSplit
from fanin.data.feature_rows import DenseFeatures, FeatureSplit, SparseFeatures
from fanin.data.features import open_features
from fanin.data.store import TokenizedSplit
from fanin.mapped_arrays import _mapping, forget, map_array, will_need

PAGE = mmap.PAGESIZE


def mapped(tmp_path, values, name="values.bin"):
    values.tofile(tmp_path / name)
    return map_array(tmp_path / name, values.dtype, values.shape)


@pytest.fixture
def advised(monkeypatch):
    """What was asked for: (mapping's length, first byte, number of bytes)."""
    calls = []

    class Recorded:
        def __init__(self, real):
            self.real = real

        def madvise(self, advice, start, size):
            assert advice == mmap.MADV_WILLNEED
            self.real.madvise(advice, start, size)
            calls.append((len(self.real), start, size))

    def recorded(array):
        found = _mapping(array)
        return None if found is None else (Recorded(found[0]), found[1])

    monkeypatch.setattr("fanin.mapped_arrays._mapping", recorded)
    return calls


def test_an_array_is_what_the_file_holds(tmp_path):
    values = np.arange(12, dtype=np.int32).reshape(3, 4)
    array = mapped(tmp_path, values)
    assert type(array) is np.ndarray
    assert (array.dtype, array.tolist()) == (np.int32, values.tolist())
    with pytest.raises(ValueError, match="read-only"):
        array[0, 0] = 1
    assert map_array(tmp_path / "none.bin", np.uint16, (0, 5)).shape == (0, 5)


def test_ranges_are_asked_for_in_whole_pages(tmp_path, advised):
    array = mapped(tmp_path, np.arange(5 * PAGE, dtype=np.uint16))  # 10 pages
    will_need(array, np.array([3, PAGE, 7]), np.array([5, 2 * PAGE, 7]))
    assert advised == [(10 * PAGE, 0, 10), (10 * PAGE, 2 * PAGE, 2 * PAGE)]
    advised.clear()
    will_need(array[PAGE:], np.array([0]), np.array([2]))  # a part of it
    assert advised == [(10 * PAGE, 2 * PAGE, 4)]
    advised.clear()
    will_need(np.arange(5), np.array([0]), np.array([2]))  # not mapped
    assert advised == []


def test_features_behind_a_header(tmp_path, advised):
    np.save(tmp_path / "x.npy", np.zeros((8, PAGE), np.float32))
    header = (tmp_path / "x.npy").stat().st_size - 8 * PAGE * 4
    features = DenseFeatures(open_features(tmp_path / "x.npy"))
    split = FeatureSplit(features, np.arange(9), np.zeros(8, np.int32))
    split.read_ahead(np.array([5, 1]))
    assert advised == [
        (header + 32 * PAGE, 20 * PAGE, header + 4 * PAGE),
        (header + 32 * PAGE, 4 * PAGE, header + 4 * PAGE),
    ]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="smaps")
@pytest.mark.parametrize("large", [False, True])
def test_nothing_of_large_features_stays_mapped(large, tmp_path, monkeypatch):
    values = np.random.default_rng(0).standard_normal((500, 1024))
    np.save(tmp_path / "x.npy", values)
    if large:
        monkeypatch.setattr(feature_rows, "MAPPED_WHOLE", values.nbytes - 1)
    features = DenseFeatures(open_features(tmp_path / "x.npy"))
    rows = np.random.default_rng(1).permutation(500)[:333]
    for _ in range(2):
        (found,) = features.inputs(rows)
        assert (found == values[rows].astype(np.float32)).all()
        assert found.flags.c_contiguous
        assert found.dtype == np.float32
    assert (resident(tmp_path / "x.npy") == 0) == large


def resident(path):
    """Bytes of a file that are mapped into this process and in memory."""
    mapping, total = False, 0
    for line in Path("/proc/self/smaps").read_text().splitlines():
        first = line.split()[0]
        mapping = line.endswith(str(path)) if "-" in first else mapping
        total += int(line.split()[1]) * 1024 if mapping and first == "Rss:" else 0
    return total


def test_shuffled_batches_read_ahead_each_row_once_and_not_far(tmp_path, monkeypatch):
    rows = 100
    split = TokenizedSplit(
        np.arange(rows + 1),
        mapped(tmp_path, np.arange(rows, dtype=np.uint16)),
        np.arange(rows + 1),
        np.zeros(rows, np.int32),
    )
    asked = []
    monkeypatch.setattr(TokenizedSplit, "read_ahead", lambda self, rows: asked.append(rows))
    seen = 0
    for batch in Batches(split, 7, seed=1).epoch(0):
        seen += len(batch)
        assert seen <= len(np.concatenate(asked)) <= seen + 4 * 7
    assert sorted(np.concatenate(asked).tolist()) == list(range(rows))
    asked.clear()
    assert len(list(Batches(split, 7, shuffle=False).epoch(0))) == 15
    assert asked == []


def test_both_parts_of_an_extended_split_are_read_ahead(monkeypatch):
    one = TokenizedSplit(np.arange(4), np.zeros(3, np.uint16), np.arange(4), np.zeros(3, np.int32))
    asked = []
    monkeypatch.setattr(TokenizedSplit, "read_ahead", lambda self, rows: asked.append(rows.tolist()))
    ExtendedSplit(one, one).read_ahead(np.array([4, 0, 2, 5]))
    assert asked == [[0, 2], [1, 2]]


@pytest.mark.parametrize("shuffle", [False, True])
def test_what_batches_have_read_is_given_back_every_few_rows(shuffle, tmp_path, monkeypatch):
    rows, forgotten, seen = 60, [], 0
    empty = np.zeros(0, np.int32)
    split = TokenizedSplit(np.arange(rows + 1), np.arange(rows, dtype=np.uint16), np.zeros(rows + 1, np.int64), empty)
    monkeypatch.setattr("fanin.data.batches.ROWS_KEPT", 20)
    monkeypatch.setattr(TokenizedSplit, "forget", lambda self: forgotten.append(seen))
    for batch in Batches(split, 8, shuffle=shuffle).epoch(0):
        seen += len(batch)
    assert forgotten == [0, 24, 40]


def test_every_kind_of_split_gives_back_all_of_its_parts(tmp_path, monkeypatch):
    forgotten = []
    monkeypatch.setattr("fanin.data.store.forget", lambda array: forgotten.append(id(array)))
    monkeypatch.setattr("fanin.data.feature_rows.forget", lambda array: forgotten.append(id(array)))
    labels, values, columns = np.zeros(3, np.int32), np.zeros(3, np.float32), np.zeros(3, np.int32)
    vectors = values.reshape(3, 1)
    texts = TokenizedSplit(np.arange(4), columns, np.arange(4), labels)
    for split, parts in (
        (texts, [columns, labels]),
        (ExtendedSplit(texts, texts), [columns, labels] * 2),
        (FeatureSplit(DenseFeatures(vectors), np.arange(4), labels), [vectors, labels]),
        (
            FeatureSplit(SparseFeatures(np.arange(4), columns, values, 1), np.arange(4), labels),
            [columns, values, labels],
        ),
    ):
        forgotten.clear()
        split.forget()
        assert forgotten == [id(part) for part in parts]


def test_what_is_forgotten_is_still_there(tmp_path):
    values = np.arange(3 * PAGE, dtype=np.int32)
    array = mapped(tmp_path, values)
    assert int(array.sum()) == values.sum()
    forget(array[5:])
    forget(values)  # not mapped: stays as it is
    assert array.tolist() == values.tolist()


@pytest.mark.skipif(not Path("/proc/self/smaps").is_file(), reason="the system does not tell what is in memory")
def test_what_is_forgotten_takes_no_memory(tmp_path):
    array = mapped(tmp_path, np.zeros(1 << 20, np.uint8), "large.bin")

    def resident():
        lines = iter(Path("/proc/self/smaps").read_text().splitlines())
        assert any(line.endswith("large.bin") for line in lines)
        return next(int(line.split()[1]) for line in lines if line.startswith("Rss:"))

    assert int(array.sum()) == 0
    assert resident() == 1024
    forget(array)
    assert resident() == 0
