import pytest

from fanin.data.formats import open_dataset
from fanin.data.json_lines import JsonLinesDataset
from fanin.data.raw_text import RawTextDataset
from fanin.errors import DataError


def test_recognises_formats_by_file_names(raw_text, json_lines):
    assert isinstance(open_dataset(raw_text()), RawTextDataset)
    assert isinstance(open_dataset(json_lines()), JsonLinesDataset)
    assert isinstance(open_dataset(str(json_lines() / "test.jsonl")), JsonLinesDataset)


def test_says_what_it_looked_for(tmp_path):
    (tmp_path / "notes.md").write_text("x")
    (tmp_path / "empty").mkdir()
    for path, message in [
        (tmp_path, r"found empty, notes\.md\); expected .*trn_X_Y\.txt.*train\.jsonl"),
        (tmp_path / "empty", r"it is empty\); expected .*trn_X_Y\.txt"),
        (tmp_path / "nothing", "there is no such folder or file"),
        (tmp_path / "notes.md", r"must be named \.jsonl"),
    ]:
        with pytest.raises(DataError, match=message):
            open_dataset(path)
