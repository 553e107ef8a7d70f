"""A folder or a file is there whole or not at all."""

import os
import threading
import time
from pathlib import Path

import pytest

from fanin.folders import (
    link_out_of,
    make_folder,
    read_in_place,
    remove_drafts,
    remove_folder,
    replace_file,
    replacing_folder,
    settle_folder,
    settle_folders,
)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_new_folder_appears_at_the_end(tmp_path):
    with replacing_folder(tmp_path / "a" / "model", "file") as new:
        (new / "file").write_text("1")
        assert not (tmp_path / "a" / "model").exists()
    assert names(tmp_path / "a") == ["model"]
    assert names(tmp_path / "a" / "model") == ["file"]


def test_everything_is_on_the_disk_before_it_takes_its_place(tmp_path, monkeypatch):
    """Files, their folders, and then the folder that holds the new name."""
    done, fsync, rename = [], os.fsync, Path.rename

    def flushed(descriptor):
        done.append(os.fstat(descriptor).st_ino)
        fsync(descriptor)

    def renamed(self, target):
        done.append(str(target))
        return rename(self, target)

    monkeypatch.setattr(os, "fsync", flushed)
    monkeypatch.setattr(Path, "rename", renamed)
    with replacing_folder(tmp_path / "model", "mark") as new:
        (new / "mark").touch()
        (new / "inner").mkdir()
        (new / "inner" / "file").touch()
    at = done.index(str(tmp_path / "model"))
    parts = [tmp_path / "model", *(tmp_path / "model").rglob("*")]
    assert {path.stat().st_ino for path in parts} == set(done[:at])
    assert done[at + 1] == tmp_path.stat().st_ino


@pytest.mark.parametrize("make", [make_folder, lambda folder: fill(folder / "model")])
def test_folders_above_are_on_the_disk_too(make, tmp_path, monkeypatch):
    done, fsync = [], os.fsync

    def flushed(descriptor):
        done.append(os.fstat(descriptor).st_ino)
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", flushed)
    make(tmp_path / "a" / "b")
    assert {path.stat().st_ino for path in (tmp_path, tmp_path / "a")} <= set(done)
    done.clear()
    make_folder(tmp_path / "a" / "b")
    assert not done


def test_what_died_between_two_renames_is_put_right(tmp_path):
    for name in ("lost", "there", "there.previous"):
        fill(tmp_path / name, name)
    (tmp_path / "lost").rename(tmp_path / "lost.previous")
    fill(tmp_path / "elsewhere" / "linked")
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere" / "linked")
    (tmp_path / "elsewhere" / "linked").rename(tmp_path / "elsewhere" / "linked.previous")
    settle_folder(tmp_path / "link", "mark")
    assert names(tmp_path / "link") == ["mark"]
    (tmp_path / "foreign.previous").mkdir()
    settle_folders(tmp_path, "mark")
    settle_folders(tmp_path / "missing", "mark")
    assert names(tmp_path) == ["elsewhere", "foreign.previous", "link", "lost", "there"]
    assert (tmp_path / "lost" / "mark").read_text() == "lost"
    assert (tmp_path / "there" / "mark").read_text() == "there"


def test_a_folder_that_is_never_left_alone_is_read_at_last(tmp_path):
    fill(tmp_path / "model", "0")
    reads = []

    def read(folder):
        found = (folder / "mark").read_text()
        fill(tmp_path / "model", str(len(reads) + 1))
        reads.append(found)
        return found

    assert read_in_place(tmp_path / "model", read) == reads[-1]
    assert reads == [str(i) for i in range(len(reads))]


def test_errors_about_a_folder_that_is_left_alone_are_told(tmp_path):
    fill(tmp_path / "model")
    for name, error in (("model", ZeroDivisionError), ("missing", FileNotFoundError), ("model/mark", OSError)):

        def read(folder, error=error):
            if error is ZeroDivisionError:
                raise error
            return (folder / "mark").read_text()

        with pytest.raises(error):
            read_in_place(tmp_path / name, read)


@pytest.mark.parametrize("target", ["/etc", "..", "../other", "inner/../../other"])
def test_a_link_that_leads_out_is_found(target, tmp_path):
    folder = tmp_path / "model"
    (folder / "inner").mkdir(parents=True)
    (folder / "inner" / "back").symlink_to("../inner")
    (tmp_path / "model link").symlink_to(folder)
    assert link_out_of(folder) is link_out_of(tmp_path / "model link") is None
    (folder / "link").symlink_to(target)
    assert link_out_of(folder) == folder / "link"
    assert link_out_of(tmp_path / "model link") == tmp_path / "model link" / "link"


def test_the_old_folder_is_replaced_as_a_whole(tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "mark").touch()
    with replacing_folder(tmp_path / "model", "mark") as new:
        (new / "mark").write_text("new")
        assert (tmp_path / "model" / "mark").read_text() == ""
    assert names(tmp_path) == ["model"]
    assert (tmp_path / "model" / "mark").read_text() == "new"


def test_an_error_changes_nothing(tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "mark").touch()

    def fail():
        with replacing_folder(tmp_path / "model", "mark") as new:
            (new / "mark").write_text("new")
            raise RuntimeError("in between")

    with pytest.raises(RuntimeError, match="in between"):
        fail()
    assert names(tmp_path) == ["model"]
    assert (tmp_path / "model" / "mark").read_text() == ""


def fill(folder, content="new"):
    with replacing_folder(folder, "mark") as new:
        (new / "mark").write_text(content)


@pytest.mark.parametrize("name", ["model", "model.previous"])
def test_a_foreign_folder_or_file_is_never_replaced(name, tmp_path):
    (tmp_path / name).mkdir()
    (tmp_path / name / "thesis.txt").touch()
    with pytest.raises(FileExistsError, match=f"{name} .*mark"):
        fill(tmp_path / "model")
    assert names(tmp_path) == [name]
    assert names(tmp_path / name) == ["thesis.txt"]
    (tmp_path / "file").write_text("x")
    with pytest.raises(FileExistsError, match="file"):
        fill(tmp_path / "file")
    assert (tmp_path / "file").read_text() == "x"


def test_what_comes_to_stand_there_in_between_is_kept(tmp_path):
    def fill_slowly():
        with replacing_folder(tmp_path / "model", "mark") as new:
            (new / "mark").touch()
            (tmp_path / "model").mkdir()
            (tmp_path / "model" / "thesis.txt").touch()

    with pytest.raises(FileExistsError, match="model"):
        fill_slowly()
    assert names(tmp_path) == ["model"]
    assert names(tmp_path / "model") == ["thesis.txt"]


def test_the_current_folder_can_be_filled(tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    fill(type(tmp_path)("."))
    assert names(tmp_path) == ["here"]
    assert names(tmp_path / "here") == ["mark"]


def test_leftovers_of_the_dead_are_removed_after_a_day(tmp_path):
    day_ago = time.time() - 25 * 3600
    for name in ("model.writing-12-0123abcd", "model.writing-12", "model.writing-notes", "other.writing-12"):
        (tmp_path / name).mkdir()
        os.utime(tmp_path / name, (day_ago, day_ago))
    (tmp_path / "model.writing-13-0123abcd").mkdir()
    fill(tmp_path / "model")
    assert names(tmp_path) == ["model", "model.writing-13-0123abcd", "model.writing-notes", "other.writing-12"]


def test_many_that_fill_one_folder_at_once_leave_one_whole_folder(tmp_path):
    errors = []

    def fill_often(content):
        try:
            for _ in range(10):
                fill(tmp_path / "model", content)
        except OSError as error:
            errors.append(error)

    threads = [threading.Thread(target=fill_often, args=(str(i),)) for i in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    assert names(tmp_path) == ["model"]
    assert (tmp_path / "model" / "mark").read_text() in {"0", "1", "2"}


def test_a_file_is_replaced_as_a_whole(tmp_path, monkeypatch):
    replace_file(tmp_path / "file", "é\n")
    assert (tmp_path / "file").read_bytes() == "é\n".encode()

    def full(_descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        replace_file(tmp_path / "file", "new")
    assert names(tmp_path) == ["file"]
    assert (tmp_path / "file").read_text(encoding="utf-8") == "é\n"


def test_what_killed_processes_were_writing_is_removed(tmp_path):
    (tmp_path / "model.writing-12-0123abcd").mkdir()
    (tmp_path / "model.writing-12-0123abcd" / "half").touch()
    for name in ("run.json.writing-7-00000000", "model", "notes.writing", "a.writing-of-mine"):
        (tmp_path / name).touch()
    remove_drafts(tmp_path)
    assert names(tmp_path) == ["a.writing-of-mine", "model", "notes.writing"]


def test_a_folder_is_removed(tmp_path):
    fill(tmp_path / "model")
    remove_folder(tmp_path / "model")
    assert names(tmp_path) == []
    remove_folder(tmp_path / "model")  # gone already
