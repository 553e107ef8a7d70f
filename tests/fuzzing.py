"""Inputs by the ten thousand for whatever reads files: sound ones, changed at random."""

import contextlib
import resource
import tempfile
from pathlib import Path
from random import Random

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from fanin.errors import FaninError

BLOCK = 50  # inputs that hypothesis draws as one: it takes a millisecond for what a reader does in a tenth of one
MEMORY = 1 << 30  # what a reader may take beyond what the process has: inputs are of some hundred bytes
SECONDS = 4 * 3600


def inputs(short=10_000, long=1_000_000):
    """A test that is called with how many inputs to try: so many, and so many in the long run."""
    marks = [pytest.mark.long, pytest.mark.timeout(SECONDS)]
    return pytest.mark.parametrize("count", [short, pytest.param(long, marks=marks)])


def try_inputs(count, check):
    """Call ``check`` so often, each time with a generator of random numbers in another state."""
    tried = 0

    @settings(
        max_examples=count // BLOCK,
        deadline=None,
        phases=[Phase.generate],  # smaller seeds do not give smaller inputs
        suppress_health_check=list(HealthCheck),
    )
    @given(seed=st.integers(0, 2**48))
    def block(seed):
        nonlocal tried
        for i in range(BLOCK):
            check(Random(seed * BLOCK + i))
            tried += 1

    with bounded_memory():
        block()
    assert tried >= count


@contextlib.contextmanager
def bounded_memory():
    """Let allocations fail that no small file should ask for, whether they would be touched or not."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + MEMORY, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


@contextlib.contextmanager
def only_our_errors(path, shown):
    """Let one of our errors pass if its message names the path; all else is told with the input that led to it."""
    try:
        yield
    except FaninError as error:
        if str(path) not in str(error):
            raise AssertionError(f"the message names no path, for {_short(shown())}") from error
    except BaseException as error:  # those of libraries written in other languages too
        raise AssertionError(f"{type(error).__name__} for {_short(shown())}") from error


def _short(content):
    told = repr(content)
    return told if len(told) < 4000 else f"{told[:3000]} ... {told[-900:]}"


@pytest.fixture
def scratch():
    """A folder whose files are in memory where the system has such a place."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(prefix="fanin-fuzz-", dir=memory if memory.is_dir() else None) as folder:
        yield Path(folder)


class Folder:
    """A folder of sound files, some of which are changed for a while.

    Args:
        path: the folder; made here.
        files: content by name.
    """

    def __init__(self, path, files):
        self.path, self.files = path, files
        for name, content in files.items():
            (path / name).parent.mkdir(parents=True, exist_ok=True)
            (path / name).write_bytes(content)

    @contextlib.contextmanager
    def with_changed(self, contents):
        """The folder with another content of some files; our errors about it pass."""
        self._write(contents)
        try:
            with only_our_errors(self.path, lambda: contents):
                yield self.path
        finally:
            self._write({name: self.files[name] for name in contents})

    def _write(self, contents):
        for name, content in contents.items():
            (self.path / name).unlink()  # what was read may still be mapped
            (self.path / name).write_bytes(content)
