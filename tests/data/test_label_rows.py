import tempfile
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fanin.data.label_rows import join_label_rows, label_row_blocks, make_label_rows, read_header, read_pairs
from fanin.errors import DataError


def read_label_rows(path):
    return join_label_rows(label_row_blocks(path), read_header(path)[1])


def write(folder, content):
    path = Path(folder) / "trn_X_Y.txt"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def as_lists(label_rows):
    return [part.tolist() for part in np.split(label_rows.indices, label_rows.indptr[1:-1])]


VALUES = {"": True, ":1": True, ":1.0": True, ":+0.5": True, ":1e-3": True, ":3.": True, ":.25": True}
VALUES |= {":0.1234567890123": True, ":0": False, ":0.0": False, ":-0": False, ":0.00000000000": False}
ROWS = st.lists(st.lists(st.tuples(st.integers(0, 11), st.sampled_from(sorted(VALUES))), max_size=5), max_size=12)


@given(ROWS, st.sampled_from(["\n", "\r\n"]), st.sampled_from([" ", "\t", "  "]), st.booleans())
def test_reads_what_was_written(rows, line_end, space, bom):
    lines = [f"{len(rows)} 12", *(space.join(f"{label}{value}" for label, value in row) for row in rows)]
    content = ("\ufeff" if bom else "") + "".join(line + line_end for line in lines)
    with tempfile.TemporaryDirectory() as folder:
        found = read_label_rows(write(folder, content))
    expected = [sorted({label for label, value in row if VALUES[value]}) for row in rows]
    assert len(found) == len(rows)
    assert found.columns == 12
    if rows:
        assert as_lists(found) == expected
    assert (found.indptr.dtype, found.indices.dtype) == (np.int64, np.int32)
    assert found.counts().tolist() == [sum(label in row for row in expected) for label in range(12)]


def test_a_file_of_many_blocks_agrees_with_a_plain_parser(tmp_path):
    rng = np.random.default_rng(0)
    rows = [rng.integers(0, 2_000_000, size=n).tolist() for n in rng.integers(0, 8, size=60_000)]
    content = "60000 2000000\n" + "".join(" ".join(f"{label}:1.0" for label in row) + "\n" for row in rows)
    assert len(content) > 2 << 20
    assert as_lists(read_label_rows(write(tmp_path, content))) == [sorted(set(row)) for row in rows]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "the file is empty"),
        ("hello\n", "line 1: expected the header"),
        ("1\n", "line 1: expected the header"),
        ("1 2 3\n0:1\n", "bag-of-words"),
        ("-1 2\n", "line 1: expected the header"),
        ("1 99999999999\n0\n", "at most 2147483647"),
        ("2 3\n0:1\n", "promises 2 rows, but there are only 1 lines"),
        ("1 3\n0:1\n1:1\n", "promises 1 rows, but there are more lines than that, from line 3"),
        ("1000000000000 3\n0:1\n", "promises 1000000000000 rows, but there are only 1 lines"),
        ("2 3\n0:1\n0:1 3:1\n", "line 3: id 3 is not below 3"),
        ("2 3\n0:1\n999999999999999999999:1\n", "line 3: expected"),
        ("2 3\n0:1\n-1:1\n", "line 3: the id is negative, found '-1:1'"),
        ("1 3\n1.5:1\n", "line 2: expected"),
        ("1 3\none\n", "line 2: expected"),
        ("1 3\n:1\n", "line 2: expected"),
        ("1 3\n+1:1\n", "line 2: expected"),
        ("1 3\n1_0:1\n", "line 2: expected"),
        ("1 3\n0:1 ٣:1\n", "line 2: expected"),
        ("1 3\n1:nan\n", "line 2: the value in '1:nan' is not finite"),
        ("1 3\n1:-inf\n", "line 2: the value in '1:-inf' is not finite"),
        ("1 3\n1:1e999\n", "line 2: the value in '1:1e999' is not finite"),
        ("1 3\n1:Infinity\n", "is not finite"),
        ("1 3\n1:-1\n", "line 2: the value in '1:-1' is negative"),
        ("1 3\n1:\n", "line 2: the value in '1:' is not a number"),
        ("1 3\n1:one\n", "is not a number"),
        ("1 3\n1:1_000\n", "is not a number"),
        ("1 3\n1:1 2:1:1\n", "is not a number"),
        ("2 3\n1:1 2:1\x00\n1:1\n", "line 2: the value in .* is not a number"),
        ("1 3\n0:1\r1:1\n", "line 2: the value in .* is not a number"),
        (b"1 3\n\xff:1\n", "line 2: expected"),
        ("1 3\n" + "9" * 5000 + "\n", r"line 2: expected .*999'\.\.\.;"),
    ],
)
def test_faults_name_the_line(tmp_path, content, message):
    path = write(tmp_path, content)
    with pytest.raises(DataError, match=message) as error:
        read_label_rows(path)
    assert str(error.value).startswith(str(path))
    assert len(str(error.value)) < 400 + len(str(path))


def test_a_fault_in_a_later_block_names_its_line(tmp_path):
    path = write(tmp_path, "300001 10\n" + "1:1.0 2:1.0\n" * 300_000 + "3:1 10:1\n")
    with pytest.raises(DataError, match="line 300002: id 10 is not below 10"):
        read_label_rows(path)


def test_a_huge_promise_allocates_nothing(tmp_path):
    path = write(tmp_path, "1000000000000 2000000000\n0:1\n")
    tracemalloc.start()
    with pytest.raises(DataError):
        read_label_rows(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 << 20
    assert read_header(path) == (10**12, 2_000_000_000)


def test_pairs_become_rows(tmp_path):
    found = read_pairs(write(tmp_path, "2 1\r\n0 3\n2 0\n2 1\n\n"), n_rows=3, columns=4)
    assert as_lists(found) == [[3], [], [0, 1]]
    assert len(read_pairs(write(tmp_path, ""), n_rows=3, columns=4).indices) == 0


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("0 1\n3 0\n", "line 2: row 3 is not below 3"),
        ("0 1\n\n0 4\n", "line 3: label id 4 is not below 4"),
        ("0\n", 'line 1: expected "row label", found 1'),
        ("0 1 2\n", 'line 1: expected "row label", found 3'),
        ("0 1:1\n", "without values"),
        ("0 -1\n", "line 1: the id is negative"),
        ("a b\n", "line 1: expected"),
    ],
)
def test_bad_pairs_name_the_line(tmp_path, content, message):
    with pytest.raises(DataError, match=message):
        read_pairs(write(tmp_path, content), n_rows=3, columns=4)


def test_empty_sets_of_pairs():
    empty = np.empty(0, np.int64)
    assert make_label_rows(empty, empty, 2, 5).indptr.tolist() == [0, 0, 0]
