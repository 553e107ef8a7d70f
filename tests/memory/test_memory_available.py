"""What memory there is, by files like those that the system shows."""

import contextlib
import mmap
import resource
import sys

import pytest

from fanin.memory.available import allowed_bytes, free_bytes
from fanin.training.process_memory import peak_bytes, resident_bytes

MIB = 1 << 20


def write(folder, **files):
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name.replace("__", ".")).write_text(f"{content}\n")


@pytest.fixture
def system(tmp_path):
    """``system(cgroup_line, meminfo_kib)`` gives what it says is free."""

    def ask(line="", free=8 * 1024 * 1024):
        process = tmp_path / "proc"
        write(process, meminfo=f"MemTotal: 99 kB\nMemAvailable: {free} kB")
        write(process / "self", cgroup=line)
        found = free_bytes(tmp_path / "cgroup", process)
        assert found is not None
        return found / MIB

    return ask


def test_without_limits_it_is_what_is_free(system):
    assert system() == 8192


def test_the_newer_kind_of_group_and_those_around_it(system, tmp_path):
    group = tmp_path / "cgroup" / "job" / "step"
    write(group, memory__max="max", memory__current=50 * MIB)
    write(group.parent, memory__max=1000 * MIB, memory__current=400 * MIB, memory__stat=f"inactive_file {150 * MIB}")
    assert system("0::/job/step") == 1000 - (400 - 150)
    assert system("0::/elsewhere") == 8192
    assert system("0::/job/step", free=512 * 1024) == 512


def test_the_older_kind_and_a_path_from_outside_the_container(system, tmp_path):
    memory = tmp_path / "cgroup" / "memory"
    stat = f"inactive_file 1\ntotal_inactive_file {10 * MIB}"
    write(memory, memory__limit_in_bytes=300 * MIB, memory__usage_in_bytes=110 * MIB, memory__stat=stat)
    assert system("7:cpu,cpuacct:/x\n4:memory:/docker/abc\n0::/") == 200
    write(memory, memory__limit_in_bytes=9223372036854771712)
    assert system("4:memory:/docker/abc") == 8192


def test_a_group_that_is_full_leaves_nothing(system, tmp_path):
    write(tmp_path / "cgroup", memory__max=MIB, memory__current=5 * MIB)
    assert system("0::/") == 0


def test_here_something_is_free():
    found = free_bytes()
    assert found is None or found > 0
    assert 0 < resident_bytes() <= peak_bytes()


LIMITS = """\
Limit                     Soft Limit           Hard Limit           Units
Max data size             {data:<20} unlimited            bytes
Max resident set          unlimited            unlimited            bytes
Max address space         {space:<20} unlimited            bytes
"""


@pytest.mark.parametrize(
    ("data", "space", "left"),
    [
        ("unlimited", "unlimited", None),
        (500 * MIB, "unlimited", 500 - 200),
        ("unlimited", 4000 * MIB, 4000 - 3000),
        (500 * MIB, 3100 * MIB, 100),
        (100 * MIB, 4000 * MIB, 0),
    ],
)
def test_limits_of_the_process_itself(data, space, left, tmp_path):
    status = f"VmPeak: 1 kB\nVmSize: {3000 * 1024} kB\nVmRSS: 7 kB\nVmData: {200 * 1024} kB"
    write(tmp_path / "self", limits=LIMITS.format(data=data, space=space), status=status)
    assert allowed_bytes(tmp_path) == (None if left is None else left * MIB)


def test_a_system_that_tells_of_no_limits(tmp_path):
    assert allowed_bytes(tmp_path) is None
    write(tmp_path / "self", limits=LIMITS.format(data=MIB, space=MIB))  # but not of what is held
    assert allowed_bytes(tmp_path) is None


@contextlib.contextmanager
def limited(kind, size):
    soft, hard = resource.getrlimit(kind)
    resource.setrlimit(kind, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(kind, (soft, hard))


@pytest.mark.skipif(sys.platform != "linux", reason="asks Linux for its limits")
@pytest.mark.parametrize("kind", [resource.RLIMIT_DATA, resource.RLIMIT_AS])
def test_no_more_can_be_had_than_real_limits_allow(kind):
    before = allowed_bytes()
    with limited(kind, 1 << 40):
        held = (1 << 40) - allowed_bytes()
    with limited(kind, held + 64 * MIB):
        assert allowed_bytes() == pytest.approx(64 * MIB, abs=4 * MIB)
        mmap.mmap(-1, 32 * MIB, mmap.MAP_PRIVATE).close()
        with pytest.raises(OSError, match="Cannot allocate memory"):
            mmap.mmap(-1, 128 * MIB, mmap.MAP_PRIVATE)
    assert (allowed_bytes() is None) == (before is None)
