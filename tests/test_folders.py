"""A folder is there whole or not at all."""

import pytest

from fanin.folders import replacing_folder


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_new_folder_appears_at_the_end(tmp_path):
    with replacing_folder(tmp_path / "a" / "model") as new:
        (new / "file").write_text("1")
        assert not (tmp_path / "a" / "model").exists()
    assert names(tmp_path / "a") == ["model"]
    assert names(tmp_path / "a" / "model") == ["file"]


def test_the_old_folder_is_replaced_as_a_whole(tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "old").touch()
    with replacing_folder(tmp_path / "model") as new:
        (new / "new").touch()
        assert names(tmp_path / "model") == ["old"]
    assert names(tmp_path) == ["model"]
    assert names(tmp_path / "model") == ["new"]


def test_an_error_changes_nothing(tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "old").touch()

    def fail():
        with replacing_folder(tmp_path / "model") as new:
            (new / "new").touch()
            raise RuntimeError("in between")

    with pytest.raises(RuntimeError, match="in between"):
        fail()
    assert names(tmp_path) == ["model"]
    assert names(tmp_path / "model") == ["old"]
