import pytest

from fanin.data.formats import open_dataset
from fanin.errors import DataError


def read_all(path):
    dataset = open_dataset(path)
    list(dataset.vocabulary)
    for split in dataset.split_names:
        dataset.positives(split)
        dataset.excluded(split)
        list(dataset.texts(split))
    return dataset


def test_reads_a_folder(raw_text):
    dataset = read_all(raw_text())
    assert dataset.split_names == ("train", "test")
    assert list(dataset.vocabulary) == ["fruit", "red thing", "unseen"]
    train = dataset.positives("train")
    assert (train.indptr.tolist(), train.indices.tolist()) == ([0, 2, 3, 4, 4], [0, 1, 0, 1])
    assert train.counts().tolist() == [2, 2, 0]
    assert dataset.positives("test").indices.tolist() == [0, 2]
    assert list(dataset.texts("train")) == ["red apple", "green pear", "red cherry", ""]
    assert list(dataset.texts("train")) == list(dataset.texts("train"))
    assert dataset.excluded("test") is None


def test_crlf_and_bom_change_nothing(raw_text, tmp_path):
    plain = read_all(raw_text())
    names, train = list(plain.vocabulary), plain.positives("train")
    for path in plain.files:
        path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n"))
    changed = read_all(plain.path)
    assert list(changed.vocabulary) == names
    assert changed.positives("train").indices.tolist() == train.indices.tolist()
    assert list(changed.texts("train")) == ["red apple", "green pear", "red cherry", ""]


def test_dev_and_filter_files_are_used_where_they_are(raw_text):
    dataset = read_all(raw_text(dev_X="sour plum\n", dev_X_Y="1 3\n1:1\n", filter_labels_test="0 1\n1 2\n0 0\n"))
    assert dataset.split_names == ("train", "dev", "test")
    assert dataset.positives("dev").indices.tolist() == [1]
    excluded = dataset.excluded("test")
    assert (excluded.indptr.tolist(), excluded.indices.tolist()) == ([0, 2, 3], [0, 1, 2])
    assert dataset.excluded("train") is None
    assert {path.name for path in dataset.files} > {"dev_X.txt", "filter_labels_test.txt"}


@pytest.mark.parametrize("name", ["trn_X", "trn_X_Y", "tst_X", "tst_X_Y", "Y"])
def test_a_missing_file_is_named_with_what_is_there(raw_text, name):
    with pytest.raises(DataError, match=rf"missing {name}\.txt; a raw-text folder has .*\(found .*\.txt") as error:
        read_all(raw_text(**{name: None}))
    assert "trn_X_Y.txt" in str(error.value)


@pytest.mark.parametrize("name", ["trn_X", "trn_X_Y", "tst_X", "tst_X_Y", "Y"])
def test_an_empty_file_is_named(raw_text, name):
    with pytest.raises(DataError, match=rf"{name}\.txt: the file is empty"):
        read_all(raw_text(**{name: ""}))


def test_half_a_dev_split_is_refused(raw_text):
    with pytest.raises(DataError, match=r"missing dev_X_Y\.txt"):
        read_all(raw_text(dev_X="sour plum\n"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"trn_X": "one\ntwo\nthree\n"}, r"trn_X\.txt: 3 texts \(lines\), but .*trn_X_Y\.txt has 4 rows"),
        ({"tst_X": "one\ntwo\nthree\n"}, r"tst_X\.txt: 3 texts \(lines\), but .*tst_X_Y\.txt has 2 rows"),
        ({"tst_X_Y": "2 4\n0\n3\n"}, r"tst_X_Y\.txt, line 1: the header says 4 columns, but .*Y\.txt names 3"),
        ({"Y": "fruit\nred thing\n"}, r"Y\.txt: 2 label names \(lines\), but .*trn_X_Y\.txt, line 1, says 3 columns"),
        ({"Y": "fruit\n\nunseen\n"}, r"Y\.txt, line 2: the label name is empty"),
        ({"Y": "fruit\nred\nfruit\n"}, r"Y\.txt, lines 1 and 3: both labels are named 'fruit'"),
        ({"Y": b"fruit\nr\xe9d\nunseen\n"}, r"Y\.txt, line 2: byte 2"),
        ({"trn_X": b"a\nb\xff\nc\nd\n"}, r"trn_X\.txt, line 2: byte 2"),
        ({"trn_X_Y": "4 3\n0\n7\n1\n\n"}, r"trn_X_Y\.txt, line 3: id 7 is not below 3"),
        ({"filter_labels_test": "0 3\n"}, r"filter_labels_test\.txt, line 1: label id 3 is not below 3"),
        ({"filter_labels_test": "2 0\n"}, r"filter_labels_test\.txt, line 1: row 2 is not below 2"),
    ],
)
def test_inconsistent_files_are_refused(raw_text, changes, message):
    with pytest.raises(DataError, match=message):
        read_all(raw_text(**changes))


def test_an_unknown_split_is_refused(raw_text):
    dataset = open_dataset(raw_text())
    for ask in (dataset.texts, dataset.positives, dataset.excluded):
        with pytest.raises(DataError, match="no 'dev' split; it has train, test"):
            ask("dev")
