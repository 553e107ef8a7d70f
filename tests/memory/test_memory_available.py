"""What memory there is, by files like those that the system shows."""

import pytest

from fanin.memory.available import free_bytes
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
