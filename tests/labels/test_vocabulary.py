import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fanin.errors import DataError
from fanin.labels.vocabulary import LabelVocabulary

NAMES = st.lists(
    st.text(st.characters(exclude_categories=["Cs"]), min_size=1).filter(lambda name: not name.isspace()),
    min_size=1,
    unique=True,
)


@given(NAMES)
def test_any_names_survive_saving_and_loading(tmp_path_factory, names):
    path = tmp_path_factory.mktemp("vocabulary") / "labels.jsonl"
    LabelVocabulary(names).save(path)
    loaded = LabelVocabulary.load(path)
    assert list(loaded) == names
    assert loaded == LabelVocabulary(names)
    assert loaded.ids(names).tolist() == list(range(len(names)))


def test_file_is_one_json_string_a_line(tmp_path):
    path = tmp_path / "labels.jsonl"
    LabelVocabulary(['line\nfeed "quoted"', "a\u2028b", "tab\t\x85"]).save(path)
    assert path.read_bytes().count(b"\n") == 3
    assert path.read_text(encoding="utf-8").split("\n")[0] == '"line\\nfeed \\"quoted\\""'


def test_looks_up_by_id_range_and_name():
    vocabulary = LabelVocabulary(["é", "two words", "c"])
    assert (vocabulary[0], vocabulary[-1], vocabulary[1:]) == ("é", "c", ["two words", "c"])
    assert vocabulary.names(np.array([[2, 0]])) == ["c", "é"]
    assert vocabulary.ids(["c", "no such", "é"]).tolist() == [2, -1, 0]
    assert len(vocabulary) == 3
    assert "c" in vocabulary
    assert vocabulary != LabelVocabulary(["é", "two words", "d"])
    with pytest.raises(IndexError):
        vocabulary[3]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ([], "no labels"),
        (["a", ""], "line 2: the label name is empty"),
        (["a", " \t"], "line 2: the label name is empty"),
        (["a", "b", "c", "b"], "lines 2 and 4: both labels are named 'b'"),
        (["a", "\ud800"], "surrogate"),
    ],
)
def test_refuses_bad_names(names, message):
    with pytest.raises(DataError, match=message):
        LabelVocabulary(names, source="Y.txt")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'"a"\nb\n', "line 2: not a JSON string"),
        (b'"a"\n2\n', "line 2: not a JSON string"),
        (b'"a", "b"\n\n', "line 1: not a JSON string"),
        (b'"a"\n"b\n', "line 2: not a JSON string"),
        (b'"a"\n"\xff"\n', "byte 6 is not UTF-8"),
        (b"", "line 1: not a JSON string"),
        (b"[" * 100_000, "line 1: not a JSON string"),
    ],
)
def test_refuses_a_damaged_file(tmp_path, content, message):
    path = tmp_path / "labels.jsonl"
    path.write_bytes(content)
    with pytest.raises(DataError, match=message):
        LabelVocabulary.load(path)


def test_refuses_a_missing_file(tmp_path):
    with pytest.raises(DataError, match=r"labels\.jsonl: cannot read"):
        LabelVocabulary.load(tmp_path / "labels.jsonl")
