"""Inputs by the ten thousand for whatever reads files: sound ones, changed at random."""

import contextlib
import json
import re
import resource
import tempfile
from copy import deepcopy
from pathlib import Path
from random import Random

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from fanin.errors import FaninError

BLOCK = 50  # inputs that hypothesis draws as one: it takes a millisecond for what a reader does in a tenth of one
MEMORY = 1 << 30  # what a reader may take beyond what the process has: inputs are of some hundred bytes
SECONDS = 4 * 3600

SIZES = "0 -1 1 2 255 65536 2147483647 2147483648 4294967296 999999999999 1e12 1e999 -0 1.5 0x10 1_0"
NUMBERS = (*SIZES.split(), "nan", "NaN", "Infinity", "-Infinity", "9" * 19, "9" * 40, "9" * 5000)
SYMBOLS = tuple(bytes([byte]) for byte in b'0123 :.\n\r\t-+"einfa[]{},')
WORDS = (*SYMBOLS, b"\r\n", b"\\", b"\0", b"\xff", b"\xef\xbb\xbf", b"\xe2\x80\xa8", b"\\ud800", b"\xed\xa0\x80")
WORDS = (*WORDS, b"null", b"true", b"../../x", b"/etc/passwd", b"[" * 3000)
COUNTS = (-1, 0, 1, 2, 255, 2**31, 2**63, 2**64, 10**12, 10**30, 1.5, 1e308, float("nan"), float("inf"))
STRINGS = ("", "x", "\ud800", "\0", "../../x", "/etc/passwd", "x" * 5000)
VALUES = (None, True, False, *COUNTS, *STRINGS, [], {}, [[]], [1] * 300, {"x": 1})
DEEP = json.loads("[" * 900 + "]" * 900)
_NUMBER = re.compile(rb"-?\d+(\.\d+)?")


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


def mutated(rng, content, words=WORDS):
    """Some bytes after one to four changes; those that mean something are likelier than chance would have them."""
    for _ in range(rng.choice((1, 1, 2, 4))):
        content = rng.choice(_CHANGES)(rng, content, words)
    return content


def _flip(rng, content, _words):
    at = rng.randrange(len(content) + 1)
    return content[:at] + bytes(byte ^ (1 << rng.randrange(8)) for byte in content[at : at + 1]) + content[at + 1 :]


def _noise(rng, content, _words):
    at = rng.randrange(len(content) + 1)
    return content[:at] + rng.randbytes(rng.randrange(1, 9)) + content[at + rng.randrange(9) :]


def _remove(rng, content, _words):
    at = rng.randrange(len(content) + 1)
    return content[:at] + content[at + rng.choice((1, 1, 2, 8, 64)) :]


def _cut(rng, content, _words):
    return content[: rng.randrange(len(content) + 1)]


def _repeat(rng, content, _words):
    at, length = rng.randrange(len(content) + 1), rng.choice((1, 4, 16, 64))
    return content[:at] + content[at : at + length] * rng.choice((2, 2, 3, 100)) + content[at + length :]


def _insert(rng, content, words):
    at = rng.randrange(len(content) + 1)
    return content[:at] + rng.choice(words) + content[at + rng.randrange(3) :]


def _renumber(rng, content, _words):
    found = list(_NUMBER.finditer(content))
    if not found:
        return content + b"1"
    start, stop = rng.choice(found).span()
    return content[:start] + rng.choice(NUMBERS).encode() + content[stop:]


def _swap_lines(rng, content, _words):
    lines = content.split(b"\n")
    i, j = rng.randrange(len(lines)), rng.randrange(len(lines))
    lines[i], lines[j] = lines[j], lines[i]
    return b"\n".join(lines)


_CHANGES = (_flip, _noise, _remove, _cut, _repeat, _insert, _insert, _renumber, _renumber, _swap_lines)


def mutated_value(rng, value):
    """A JSON value with something in it replaced, removed, renamed or added; the value itself is left as it is."""
    value = json.loads(json.dumps(value))
    for _ in range(rng.choice((1, 1, 1, 2))):
        inner = [holder for holder in _holders(value) if holder]
        if not inner:
            return deepcopy(rng.choice(VALUES))
        holder = rng.choice(inner)
        key = rng.choice(list(holder)) if isinstance(holder, dict) else rng.randrange(len(holder))
        _CHANGES_OF_VALUES[rng.randrange(len(_CHANGES_OF_VALUES))](rng, holder, key)
    return value


def _holders(value):
    if isinstance(value, (dict, list)):
        yield value
        for inner in value.values() if isinstance(value, dict) else value[:20]:
            yield from _holders(inner)


def _replace(rng, holder, key):
    holder[key] = DEEP if rng.random() < 0.01 else deepcopy(rng.choice(VALUES))


def _nudge(rng, holder, key):
    number = holder[key]
    holder[key] = number + rng.choice((-1, 1, 7, 2**16)) if isinstance(number, (int, float)) else [number]


def _delete(_rng, holder, key):
    del holder[key]


def _copy(rng, holder, key):
    if isinstance(holder, dict):
        holder[rng.choice((*holder, "", "extra"))] = deepcopy(holder[key])
    else:
        holder.append(deepcopy(holder[key]))


_CHANGES_OF_VALUES = (_replace, _replace, _replace, _nudge, _delete, _copy)


def mutated_json(rng, value):
    """A JSON document: one of values that do not fit, or one that is hardly JSON."""
    if rng.random() < 0.3:
        return mutated(rng, json.dumps(value).encode())
    return json.dumps(mutated_value(rng, value)).encode("utf-8", "surrogatepass")
