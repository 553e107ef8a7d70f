"""Feature files: what is accepted, and every way to be refused."""

import contextlib
import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fanin.data.features import describe_features, open_features
from fanin.errors import DataError


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_a_matrix_is_described(dtype, tmp_path):
    matrix = np.array([[3.0, 4.0], [0.0, 0.0], [-6.0, 8.0]], dtype=dtype)
    np.save(tmp_path / "x.npy", matrix)
    assert np.array_equal(open_features(tmp_path / "x.npy"), matrix)
    found = describe_features(tmp_path / "x.npy")
    assert (found.rows, found.features, found.dtype, found.zero_rows) == (3, 2, dtype, 1)
    assert (found.smallest, found.largest, found.mean_norm) == (-6.0, 8.0, 5.0)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_value_that_is_not_finite_is_placed(value, tmp_path, monkeypatch):
    monkeypatch.setattr("fanin.data.features.BLOCK_VALUES", 8)
    matrix = np.zeros((100, 4), dtype=np.float32)
    matrix[57, 2] = value
    np.save(tmp_path / "x.npy", matrix)
    with pytest.raises(DataError, match=r"x\.npy, row 57, column 2"):
        describe_features(tmp_path / "x.npy")


def test_pickled_objects_are_refused_and_never_run(tmp_path):
    marker = tmp_path / "ran"

    class Payload:
        def __reduce__(self):
            return open, (str(marker), "w")

    np.save(tmp_path / "x.npy", np.array([[Payload()]], dtype=object), allow_pickle=True)
    with pytest.raises(DataError, match="pickled objects are refused"):
        describe_features(tmp_path / "x.npy")
    assert not marker.exists()


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros(3, dtype=np.float32), "shape"),
        (np.zeros((0, 3), dtype=np.float32), "shape"),
        (np.zeros((2, 3), dtype=np.int64), "int64"),
        (np.zeros((2, 3), dtype=np.complex64), "complex64"),
    ],
)
def test_other_arrays_are_refused(array, message, tmp_path):
    np.save(tmp_path / "x.npy", array)
    with pytest.raises(DataError, match=message):
        open_features(tmp_path / "x.npy")


def test_a_header_that_promises_too_much_allocates_nothing(tmp_path):
    header = io.BytesIO()
    np.lib.format.write_array_header_2_0(header, {"descr": "<f4", "fortran_order": False, "shape": (10**12, 768)})
    (tmp_path / "x.npy").write_bytes(header.getvalue() + b"\0" * 64)
    with pytest.raises(DataError, match=r"x\.npy"):
        open_features(tmp_path / "x.npy")


def test_a_header_that_ends_inside_a_bracket(tmp_path):
    header = b"{'descr': '<f4', 'fortran_order': False, 'shape': (4L, 7".ljust(117) + b"\n"
    (tmp_path / "x.npy").write_bytes(b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header)
    with pytest.raises(DataError, match=r"x\.npy: not a whole"):
        open_features(tmp_path / "x.npy")


def test_missing_empty_and_archive(tmp_path):
    with pytest.raises(DataError, match="cannot be read"):
        open_features(tmp_path / "missing.npy")
    (tmp_path / "empty.npy").touch()
    with pytest.raises(DataError, match="not a whole"):
        open_features(tmp_path / "empty.npy")
    np.savez(tmp_path / "x.npz", a=np.zeros((2, 2)))
    with pytest.raises(DataError, match="archive"):
        open_features(tmp_path / "x.npz")


@given(position=st.integers(0, 200), byte=st.integers(0, 255), cut=st.integers(0, 240))
def test_damaged_files_give_our_errors_only(position, byte, cut, tmp_path_factory):
    buffer = io.BytesIO()
    np.save(buffer, np.ones((4, 7), dtype=np.float32))
    content = bytearray(buffer.getvalue()[: len(buffer.getvalue()) - cut])
    if position < len(content):
        content[position] = byte
    path = tmp_path_factory.mktemp("damaged") / "x.npy"
    path.write_bytes(bytes(content))
    with contextlib.suppress(DataError):
        describe_features(path)
