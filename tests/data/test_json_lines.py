import json
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fanin.data.formats import open_dataset
from fanin.data.json_lines import read_records
from fanin.errors import DataError

TEXT = st.text(st.characters(exclude_categories=["Cs"]))
RECORDS = st.lists(
    st.tuples(TEXT, st.lists(TEXT.filter(lambda name: name and not name.isspace()), max_size=3)), min_size=1
)


@given(RECORDS, st.booleans(), st.sampled_from(["\n", "\r\n", "\n\n"]))
def test_any_strings_survive(records, escaped, line_end):
    lines = (json.dumps({"text": text, "labels": labels}, ensure_ascii=escaped) for text, labels in records)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "data.jsonl"
        path.write_bytes("".join(line + line_end for line in lines).encode())
        assert list(read_records(path)) == records


def test_vocabulary_is_sorted_training_labels_then_the_others(json_lines):
    dataset = open_dataset(json_lines(dev='{"labels": ["zebra", "blue"], "text": "x", "id": 3}\n'))
    assert dataset.split_names == ("train", "dev", "test")
    assert list(dataset.vocabulary) == ["fruit", "red", "blue", "green", "zebra"]
    train, test = dataset.positives("train"), dataset.positives("test")
    assert (train.indptr.tolist(), train.indices.tolist()) == ([0, 2, 2], [0, 1])
    assert (test.indptr.tolist(), test.indices.tolist()) == ([0, 2], [0, 3])
    assert dataset.positives("dev").indices.tolist() == [2, 4]
    assert train.columns == test.columns == 5
    assert list(dataset.texts("test")) == list(dataset.texts("test")) == ["green pear"]


def test_one_file_is_a_training_set(json_lines):
    dataset = open_dataset(json_lines() / "train.jsonl")
    assert dataset.split_names == ("train",)
    assert list(dataset.vocabulary) == ["fruit", "red"]


def test_a_folder_needs_train_and_test(json_lines):
    with pytest.raises(DataError, match=r"missing test\.jsonl; .* give the \.jsonl file itself"):
        open_dataset(json_lines(test=None))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"text": "a", "labels": ["b"]', "line 2, column 30: not JSON"),
        ("text", "line 2, column 1: not JSON"),
        ('{"text": "a\tb", "labels": []}', "line 2, column 12: not JSON"),
        ("[" * 100_000, "line 2: this JSON cannot be read"),
        ('{"text": "a", "labels": [' + "1" * 5000 + "]}", "line 2: this JSON cannot be read"),
        ('["a"]', "line 2: expected an object, found a list"),
        ("null", "line 2: expected an object, found null"),
        ('{"labels": []}', 'line 2: the key "text" is missing'),
        ('{"text": "a"}', 'line 2: the key "labels" is missing'),
        ('{"text": 1, "labels": []}', 'line 2: "text" must be a string, found a number'),
        ('{"text": "a", "labels": "b"}', 'line 2: "labels" must be a list, found a string'),
        ('{"text": "a", "labels": [true]}', 'line 2: "labels" must hold strings, found a truth value'),
        ('{"text": "a", "labels": ["b", 3]}', 'line 2: "labels" must hold strings, found a number'),
        ('{"text": "a", "labels": [" "]}', 'line 2: "labels" holds an empty name'),
        ('{"text": "a", "labels": ["\\ud800"]}', "line 2: character 1 of a string is half a surrogate pair"),
        ('{"text": "ab\\udfff", "labels": []}', "line 2: character 3 of a string is half a surrogate pair"),
        (b'{"text": "\xff", "labels": []}', r"line 2: byte 11 \(0xff\)"),
    ],
)
def test_faults_name_the_line(json_lines, line, message):
    line = line if isinstance(line, bytes) else line.encode()
    folder = json_lines(train=b'{"text": "a", "labels": ["x"]}\n' + line + b"\n")
    with pytest.raises(DataError, match=rf"train\.jsonl, {message}"):
        open_dataset(folder).positives("train")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", r"train\.jsonl: the file is empty"),
        ("\n \n", r"train\.jsonl: every line is blank"),
        ('{"text": "a", "labels": []}\n', r"train\.jsonl: no text has a label"),
    ],
)
def test_a_training_set_without_content_is_refused(json_lines, content, message):
    with pytest.raises(DataError, match=message):
        open_dataset(json_lines(train=content)).positives("train")


def test_separators_of_unicode_stay_in_the_text(json_lines):
    text = "a\u2028b\x85c\u2029d"
    folder = json_lines(train='\ufeff{"text": "' + text + '", "labels": ["x\u2028y"]}\r\n')
    dataset = open_dataset(folder)
    assert list(dataset.texts("train")) == [text]
    assert dataset.vocabulary[0] == "x\u2028y"
