"""JSON files are read, or refused with their path and what to do."""

import pytest

from fanin.errors import CheckpointError
from fanin.json_files import read_json

ADVICE = {"unreadable": "give another", "damaged": "copy it again"}


def test_a_value_is_read(tmp_path):
    path = tmp_path / "some.json"
    path.write_text('{"ä": [1, null]}', encoding="utf-8")
    assert read_json(path, **ADVICE) == {"ä": [1, None]}


def test_what_cannot_be_read_is_refused(tmp_path):
    with pytest.raises(CheckpointError, match=r"some\.json: cannot be read \(No such file.*\); give another$"):
        read_json(tmp_path / "some.json", **ADVICE)


@pytest.mark.parametrize("content", [b"", b"{", b"\xff", b"[" * 100_000], ids=["empty", "cut off", "no text", "deep"])
def test_what_is_not_json_is_refused(content, tmp_path):
    path = tmp_path / "some.json"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"(?s)some\.json: damaged, not JSON \(.+\); copy it again$"):
        read_json(path, **ADVICE)
