import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fanin
from fanin.errors import DataError
from fanin.labels.vocabulary import LabelVocabulary

ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path(fanin.__file__).parent.parent)}
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
    assert vocabulary.names([]) == []
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


def test_a_loaded_vocabulary_reads_its_file_and_leaves_it_as_it_is(tmp_path):
    path, copy = tmp_path / "labels.jsonl", tmp_path / "copy.jsonl"
    path.write_bytes(b'"\\u00e9"\n "two words" \n"c"')  # other escapes, spaces, and no last line end
    vocabulary = LabelVocabulary.load(path)
    assert list(vocabulary) == vocabulary[:] == ["é", "two words", "c"]
    assert vocabulary == LabelVocabulary(["é", "two words", "c"])
    assert vocabulary != LabelVocabulary(["é", "two words"])
    path.unlink()  # the mapping keeps it
    vocabulary.save(copy)
    assert LabelVocabulary.load(copy) == vocabulary
    assert vocabulary.ids(LabelVocabulary.load(copy)).tolist() == [0, 1, 2]
    assert vocabulary.ids(LabelVocabulary(["c", "é"])).tolist() == [2, 0]


def test_many_names_in_blocks(tmp_path, monkeypatch):
    monkeypatch.setattr("fanin.labels.vocabulary.NAMES_AT_A_TIME", 7)
    monkeypatch.setattr("fanin.labels.name_lines.NAMES_AT_A_TIME", 11)
    monkeypatch.setattr("fanin.labels.name_lines._READ_BYTES", 50)
    names = [f"name {i} \u00e9" * (i % 5 + 1) for i in range(100)]
    held = LabelVocabulary(iter(names))
    held.save(tmp_path / "labels.jsonl")
    mapped = LabelVocabulary.load(tmp_path / "labels.jsonl")
    for vocabulary in (held, mapped):
        assert list(vocabulary) == names
        assert vocabulary.ids(names[::-1]).tolist() == list(range(100))[::-1]
        assert vocabulary.ids([]).tolist() == []
    with pytest.raises(DataError, match="lines 13 and 101: both"):
        LabelVocabulary([*names, names[12]])
    (tmp_path / "labels.jsonl").write_bytes((tmp_path / "labels.jsonl").read_bytes() + b"5\n")
    with pytest.raises(DataError, match="line 101: not a JSON string"):
        LabelVocabulary.load(tmp_path / "labels.jsonl")


def test_names_with_one_hash_are_told_apart(monkeypatch):
    monkeypatch.setattr("fanin.labels.vocabulary.hashes", lambda names: np.zeros(len(names), np.int64))
    vocabulary = LabelVocabulary(["a", "b", "c"])
    assert vocabulary.ids(["c", "a", "d", "b"]).tolist() == [2, 0, -1, 1]
    with pytest.raises(DataError, match="lines 2 and 4"):
        LabelVocabulary(["a", "b", "c", "b"])


def test_a_million_mapped_names_take_few_bytes_each(tmp_path):
    path = tmp_path / "labels.jsonl"
    path.write_text("".join(f'"the name of label {i}"\n' for i in range(1_000_000)), encoding="utf-8")
    program = (
        "import sys\n"
        "from fanin.labels.vocabulary import LabelVocabulary\n"
        "from fanin.training.process_memory import peak_bytes\n"
        "before = peak_bytes()\n"
        "vocabulary = LabelVocabulary.load(sys.argv[1])\n"
        "assert vocabulary[999_999] == 'the name of label 999999'\n"
        "vocabulary.save(sys.argv[1] + '.copy')\n"
        "print(peak_bytes() - before)"
    )
    run = subprocess.run([sys.executable, "-c", program, path], env=ENVIRONMENT, check=True, stdout=subprocess.PIPE)
    assert int(run.stdout) < 60e6  # as Python strings they would take 90 MB; the file has 28 MB
