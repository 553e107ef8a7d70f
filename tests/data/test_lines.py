import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fanin.data import lines
from fanin.data.lines import count_lines, read_blocks, read_lines
from fanin.errors import DataError

SEPARATORS_IN_TEXT = "a\u2028b\x0bc\x0cd\x85e\rf\x1cg\u2029h"


def write(folder, content):
    path = Path(folder) / "file.txt"
    path.write_bytes(content)
    return path


def test_only_a_line_feed_ends_a_line(tmp_path):
    path = write(tmp_path, f"{SEPARATORS_IN_TEXT}\nsecond".encode())
    assert list(read_lines(path)) == [SEPARATORS_IN_TEXT, "second"]
    assert count_lines(path) == 2


def test_crlf_and_bom_are_accepted(tmp_path):
    path = write(tmp_path, b"\xef\xbb\xbfone\r\n\r\nthree\r\n")
    assert list(read_lines(path)) == ["one", "", "three"]
    assert count_lines(path) == 3


@given(st.lists(st.text(st.sampled_from("aé\r\x85\u2028 "))), st.booleans(), st.integers(1, 20))
def test_blocks_of_any_size_hold_the_same_lines(texts, ended, block_bytes):
    content = "\n".join(texts).encode() + (b"\n" if ended else b"")
    if not content:
        return
    whole = content if content.endswith(b"\n") else content + b"\n"
    expected = whole.replace(b"\r\n", b"\n").removesuffix(b"\n").split(b"\n")
    with tempfile.TemporaryDirectory() as folder:
        found = list(read_blocks(write(folder, content), block_bytes))
    assert b"".join(block for _, block in found).removesuffix(b"\n").split(b"\n") == expected
    assert all(block.endswith(b"\n") for _, block in found)
    numbers = [1]
    for _, block in found:
        numbers.append(numbers[-1] + block.count(b"\n"))
    assert [number for number, _ in found] == numbers[:-1]


@pytest.mark.parametrize(
    ("content", "place"),
    [
        (b"ok\nab\xffc\n", "line 2: byte 3 (0xff)"),
        (b"\xff\xfeo\x00k\x00", "line 1: byte 1 (0xff)"),
        (b"ok\r\n\r\n\xe9t\xe9", "line 3: byte 1 (0xe9)"),
    ],
)
def test_bad_utf8_names_line_and_byte(tmp_path, content, place):
    path = write(tmp_path, content)
    with pytest.raises(DataError) as error:
        list(read_lines(path))
    assert f"{path}, {place} is not valid UTF-8" in str(error.value)


def test_bad_utf8_in_a_later_block_names_its_line(tmp_path):
    path = write(tmp_path, b"0123456789\n" * 200_000 + b"bad \x80\n")
    with pytest.raises(DataError, match=r"line 200001: byte 5 \(0x80\)"):
        list(read_lines(path))


@pytest.mark.parametrize("content", [b"", b"\xef\xbb\xbf"])
def test_an_empty_file_is_refused(tmp_path, content):
    with pytest.raises(DataError, match="the file is empty"):
        count_lines(write(tmp_path, content))


def test_missing_file_and_folder_are_refused(tmp_path):
    with pytest.raises(DataError, match="cannot be read"):
        count_lines(tmp_path / "none.txt")
    with pytest.raises(DataError, match="not a regular file"):
        count_lines(tmp_path)


def test_an_endless_line_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(lines, "MAX_LINE_BYTES", 1 << 20)
    with pytest.raises(DataError, match="a line is longer than 1 MiB"):
        count_lines(write(tmp_path, b"x" * (4 << 20)))
