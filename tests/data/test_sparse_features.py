"""Sparse feature files: what is read, and every way to be refused."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fanin.data import label_rows
from fanin.data.feature_rows import join_features
from fanin.data.label_rows import join_label_rows
from fanin.data.lines import read_blocks
from fanin.data.sparse_features import (
    bag_of_words_features,
    bag_of_words_labels,
    read_bag_of_words_header,
    read_sparse_features,
    sparse_feature_blocks,
)
from fanin.errors import DataError

VALUES = st.floats(-(2**20), 2**20, width=32)
ROWS = st.lists(
    st.tuples(st.lists(st.integers(0, 4), max_size=3), st.lists(st.tuples(st.integers(0, 11), VALUES), max_size=5)),
    max_size=12,
)


def read_bag_of_words(path):
    """All features and labels in a file."""
    _, columns, n_labels = read_bag_of_words_header(path)
    features = join_features(bag_of_words_features(path), columns)
    return features, join_label_rows(bag_of_words_labels(path), n_labels)


def dense(features):
    """(N, D0) float64, features that stand twice summed."""
    found = np.zeros((len(features), features.columns))
    rows = np.repeat(np.arange(len(features)), np.diff(features.indptr))
    np.add.at(found, (rows, features.indices), features.values.astype(float))
    return found


def expected(rows):
    found = np.zeros((len(rows), 12))
    for i, (_, pairs) in enumerate(rows):
        for feature, value in pairs:
            found[i, feature] += np.float32(value)
    return found


def pairs_text(pairs):
    return " ".join(f"{feature}:{np.float32(value)}" for feature, value in pairs)


@given(ROWS)
def test_rows_of_features_come_back(tmp_path_factory, rows):
    path = tmp_path_factory.mktemp("sparse") / "x_Xf.txt"
    path.write_text("".join(f"{line}\n" for line in [f"{len(rows)} 12", *(pairs_text(p) for _, p in rows)]))
    np.testing.assert_allclose(dense(read_sparse_features(path)), expected(rows), rtol=1e-6, atol=1e-6)


@given(ROWS)
def test_labels_stand_before_the_features(tmp_path_factory, rows):
    path = tmp_path_factory.mktemp("bag") / "train.txt"
    lines = [f"{','.join(map(str, labels))} {pairs_text(pairs)}" for labels, pairs in rows]
    path.write_text("".join(f"{line}\n" for line in [f"{len(rows)} 12 5", *lines]))
    features, labels = read_bag_of_words(path)
    assert labels.columns == 5
    np.testing.assert_allclose(dense(features), expected(rows), rtol=1e-6, atol=1e-6)
    found = np.split(labels.indices, labels.indptr[1:-1]) if rows else []
    assert [part.tolist() for part in found] == [sorted(set(own)) for own, _ in rows]


@given(ROWS, st.integers(1, 40))
def test_blocks_of_any_size_hold_the_same(tmp_path_factory, rows, block_bytes):
    folder = tmp_path_factory.mktemp("blocks")
    lines = [f"{','.join(map(str, labels))} {pairs_text(pairs)}" for labels, pairs in rows]
    (folder / "train.txt").write_text("".join(f"{line}\n" for line in [f"{len(rows)} 12 5", *lines]))
    lines = [f"{len(rows)} 12", *(pairs_text(pairs) for _, pairs in rows)]
    (folder / "x_Xf.txt").write_text("".join(f"{line}\n" for line in lines))
    features, labels = read_bag_of_words(folder / "train.txt")
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(label_rows, "read_blocks", lambda path: read_blocks(path, block_bytes))
        blocks = list(sparse_feature_blocks(folder / "x_Xf.txt"))
        again, labels_again = read_bag_of_words(folder / "train.txt")
    assert all(block.columns == 12 for block in blocks)
    for streamed in (join_features(blocks, 12), again):
        for name in ("indptr", "indices", "values"):
            found, expected = getattr(streamed, name), getattr(features, name)
            assert found.dtype == expected.dtype
            assert found.tolist() == expected.tolist()
    assert labels_again.indptr.tolist() == labels.indptr.tolist()
    assert labels_again.indices.tolist() == labels.indices.tolist()


def test_forms_of_a_line(tmp_path):
    path = tmp_path / "train.txt"
    path.write_bytes(b"\xef\xbb\xbf5 4 3\r\n2,0 1:0.5 3:2\r\n 0:1\r\n1:7\r\n1\r\n1\t3\r\n")
    features, labels = read_bag_of_words(path)
    assert dense(features).tolist() == [[0, 0.5, 0, 2], [1, 0, 0, 0], [0, 7, 0, 0], [0] * 4, [0, 0, 0, 1]]
    assert [row.tolist() for row in np.split(labels.indices, labels.indptr[1:-1])] == [[0, 2], [], [], [1], [1]]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("2 5\n0:1\n5:1\n", "line 3: id 5 is not below 5"),
        ("2 5\n0:1\n-1:1\n", "line 3: the id is negative"),
        ("2 5\n0:1\n1:nan\n", "line 3: the value in '1:nan' is not finite"),
        ("2 5\n0:1\n1:inf\n", "line 3: .* not finite"),
        ("2 5\n0:1\n1:1e39\n", "line 3: .* too large for float32"),
        ("2 5\n0:1\n1:x\n", "line 3: .* not a number"),
        ("2 5\n0:1\n1,2 3:1\n", 'line 3: expected "feature:value"'),
        ("2 5\n0:1\n", "promises 2 rows, but there are only 1"),
        ("2 5\n0:1\n0:1\n0:1\n", "promises 2 rows, but there are more"),
        ("1000000000000 5\n0:1\n", "promises 1000000000000 rows"),
        ("1 1000000000000\n0:1\n", "1000000000000 features"),
        ("2 5 3\n0:1\n0:1\n", "named train.txt or test.txt"),
        ("two 5\n", "line 1: expected the header"),
        ("", "empty"),
    ],
)
def test_faulty_features_are_refused(content, message, tmp_path):
    path = tmp_path / "trn_X_Xf.txt"
    path.write_text(content)
    with pytest.raises(DataError, match=rf"trn_X_Xf\.txt.*{message}"):
        read_sparse_features(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("1 5 3\n3 0:1\n", "line 2: id 3 is not below 3"),
        ("1 5 3\nx 0:1\n", "line 2: expected"),
        ("1 5 3\n1;2 0:1\n", "line 2: expected"),
        ("1 5 3\n1 5:1\n", "line 2: id 5 is not below 5"),
        ("2 5 3\n1 0:1\n", "promises 2 rows"),
        ("1 5\n0:1\n", 'expected the header "rows features labels"'),
        ("1 5 99999999999\n1 0:1\n", "99999999999 labels"),
    ],
)
def test_faulty_bags_of_words_are_refused(content, message, tmp_path):
    path = tmp_path / "train.txt"
    path.write_text(content)
    with pytest.raises(DataError, match=rf"train\.txt.*{message}"):
        read_bag_of_words(path)
