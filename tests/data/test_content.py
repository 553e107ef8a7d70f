import os
import shutil
import time
from pathlib import Path

import pytest

from fanin.data import content
from fanin.data.content import cache_folder, content_key, make_key
from fanin.data.formats import open_dataset
from fanin.errors import DataError
from full_disk import full_disk


def age(folder):
    """Date the files back, as if they had been left alone for an hour (their change time cannot be dated)."""
    for path in folder.iterdir():
        os.utime(path, (time.time() - 3600,) * 2)


def test_cache_folder_follows_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("FANIN_CACHE", str(tmp_path))
    assert cache_folder() == tmp_path
    assert cache_folder(tmp_path / "own") == tmp_path / "own"
    monkeypatch.delenv("FANIN_CACHE")
    assert cache_folder() == Path.home() / ".cache" / "fanin"


def test_key_parts_do_not_run_together():
    assert make_key(["ab", "c"]) != make_key(["a", "bc"])


def test_key_depends_on_content_and_not_on_place(raw_text, tmp_path):
    folder = raw_text()
    key = content_key(open_dataset(folder), tmp_path / "cache")
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    assert content_key(open_dataset(copy), tmp_path / "cache") == key
    (copy / "Y.txt").write_bytes((copy / "Y.txt").read_bytes().replace(b"fruit", b"Fruit"))
    assert content_key(open_dataset(copy), tmp_path / "cache") != key
    (copy / "Y.txt").write_bytes((copy / "Y.txt").read_bytes().replace(b"Fruit", b"fruit"))
    (copy / "filter_labels_test.txt").write_text("0 1\n")
    assert content_key(open_dataset(copy), tmp_path / "cache") != key


def test_settled_files_are_not_read_again(raw_text, tmp_path, monkeypatch):
    folder, cache = raw_text(), tmp_path / "cache"
    monkeypatch.setattr(content, "_SETTLED_NS", 0)
    key = content_key(open_dataset(folder), cache)
    monkeypatch.setattr(content, "_hash_content", lambda path: pytest.fail(f"{path} was read again"))
    assert content_key(open_dataset(folder), cache) == key


def test_on_a_full_disk_nothing_is_noted_and_nothing_left(raw_text, tmp_path, monkeypatch):
    folder, cache = raw_text(), tmp_path / "cache"
    monkeypatch.setattr(content, "_SETTLED_NS", 0)
    with full_disk(10):
        key = content_key(open_dataset(folder), cache)
    assert list((cache / "digests").iterdir()) == []
    assert content_key(open_dataset(folder), cache) == key


def test_a_change_that_keeps_size_and_time_is_seen(raw_text, tmp_path, monkeypatch):
    folder, cache = raw_text(), tmp_path / "cache"
    monkeypatch.setattr(content, "_SETTLED_NS", 0)
    age(folder)
    key = content_key(open_dataset(folder), cache)
    names = folder / "Y.txt"
    names.write_bytes(names.read_bytes().replace(b"fruit", b"Fruit"))
    age(folder)
    assert content_key(open_dataset(folder), cache) != key


def test_files_just_written_are_not_noted(raw_text, tmp_path):
    content_key(open_dataset(raw_text()), tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


def test_damaged_notes_are_passed_over(raw_text, tmp_path, monkeypatch):
    folder, cache = raw_text(), tmp_path / "cache"
    monkeypatch.setattr(content, "_SETTLED_NS", 0)
    key = content_key(open_dataset(folder), cache)
    for damage in (b"", b"[]", b"{}", b"\xff", b'{"status": 1}'):
        for note in (cache / "digests").iterdir():
            note.write_bytes(damage)
        assert content_key(open_dataset(folder), cache) == key


def test_a_folder_in_place_of_a_file_is_refused(raw_text, tmp_path):
    folder = raw_text(Y=None)
    (folder / "Y.txt").mkdir()
    with pytest.raises(DataError, match=r"Y\.txt: is not a regular file"):
        content_key(open_dataset(folder), tmp_path)
