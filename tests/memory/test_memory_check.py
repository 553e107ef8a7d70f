"""The check before a run of several processes: what is there is counted a machine, and all of them agree."""

import socket
import threading

import pytest

from fanin.data.formats import open_dataset
from fanin.errors import MemoryPlanError
from fanin.memory import room as room_module
from fanin.memory.check import check_memory
from fanin.memory.data_sizes import assumed_sizes
from fanin.memory.plan import plan_memory
from fanin.memory.room import Room, find_room
from fanin.memory.team import Team
from fanin.processes.launch import machine_name
from fanin.recipes.recipe_files import load_recipe
from process_threads import run_together

BASE = 300 << 20


@pytest.fixture(autouse=True)
def _base_of_a_fresh_process(monkeypatch):
    """Whatever earlier tests left in this process must not count as the libraries' memory."""
    monkeypatch.setattr("fanin.memory.check.base_bytes", lambda _encoder: BASE)


@pytest.mark.parametrize("machines", ["aab", "abc", "aaa"])
def test_what_is_free_is_there_once_for_all_processes_of_a_machine(machines, monkeypatch):
    names = {}
    monkeypatch.setattr(room_module, "machine_name", lambda: names[threading.get_ident()])
    monkeypatch.setattr(room_module, "free_bytes", lambda: 1000)
    monkeypatch.setattr(room_module, "resident_bytes", lambda: 7)
    monkeypatch.setattr(room_module, "allowed_bytes", lambda: None)

    def work(processes):
        names[threading.get_ident()] = machines[processes.rank]
        return find_room(None, processes)

    for name, room in zip(machines, run_together(3, work), strict=True):
        here = machines.count(name)
        assert room == Room(1000 + 7 * here, None, here)


def test_limits_of_a_process_are_its_own(monkeypatch):
    monkeypatch.setattr(room_module, "free_bytes", lambda: 1000)
    monkeypatch.setattr(room_module, "allowed_bytes", lambda: 50)
    monkeypatch.setattr(room_module, "resident_bytes", lambda: 7)
    assert run_together(2, lambda processes: find_room(None, processes)) == [Room(1000 + 14, None, 2, 50 + 7)] * 2


def test_a_system_that_does_not_tell(monkeypatch):
    monkeypatch.setattr(room_module, "free_bytes", lambda: None)
    assert [room.machine for room in run_together(2, lambda processes: find_room(None, processes))] == [None, None]


def test_machines_are_told_apart_as_torchrun_numbers_them(monkeypatch):
    monkeypatch.setenv("GROUP_RANK", "3")
    assert machine_name() == "3"
    monkeypatch.delenv("GROUP_RANK")
    assert machine_name() == socket.gethostname()


def refusals(monkeypatch, planted, rooms, *settings):
    """What each process of a run is told that finds this room."""
    recipe, dataset = load_recipe("plain", settings), open_dataset(planted)
    by_thread = {}
    monkeypatch.setattr("fanin.memory.check.find_room", lambda *_: by_thread[threading.get_ident()])

    def work(processes):
        by_thread[threading.get_ident()] = rooms[processes.rank]
        try:
            check_memory(recipe, dataset, None, processes)
        except MemoryPlanError as error:
            return str(error)
        return None

    return run_together(len(rooms), work)


def test_all_refuse_by_what_the_one_tells_that_is_shortest(monkeypatch, planted):
    rooms = [Room(8 << 30, None, 2), Room(8 << 30, None, 2), Room(100 << 20, None, 1), Room(200 << 20, None, 1)]
    first, *others = refusals(monkeypatch, planted, rooms)
    assert first.startswith("training needs about ")
    assert "memory on the machine of each of 4 processes; 100 MiB are free, counting limits of containers" in first
    assert "as process 2 finds" in first
    assert others == [first] * 3


def test_processes_of_a_machine_are_counted_together(monkeypatch, planted):
    enough_for_two = Room(700 << 20, None, 2)
    assert refusals(monkeypatch, planted, [enough_for_two] * 2) == [None, None]
    told = refusals(monkeypatch, planted, [enough_for_two._replace(on_machine=4)] * 4)
    assert "of memory for 4 of 4 processes on a machine; 700 MiB are free" in told[0]
    assert " processes on one machine, instead of 4 processes on one machine: " in told[0].splitlines()[-1]
    assert told == told[:1] * 4


def test_a_gpu_that_is_too_small_for_one_is_told_to_all(monkeypatch, planted):
    rooms = [Room(64 << 30, 8 << 30, 2), Room(64 << 30, 200 << 20, 2)]
    told = refusals(monkeypatch, planted, rooms)
    assert "of memory on the GPU of each of 2 processes; 200 MiB are free there, as process 1 finds" in told[0]
    assert told[0] == told[1]


@pytest.mark.parametrize("machine", [64 << 30, None])
def test_a_limit_of_the_process_is_a_shortage_too(machine, monkeypatch, planted):
    [told] = refusals(monkeypatch, planted, [Room(machine, None, 1, 200 << 20)])
    assert told.startswith("training needs about ")
    assert "of memory; 200 MiB are allowed by limits of a process (ulimit -d and -v)" in told
    assert refusals(monkeypatch, planted, [Room(machine, None, 1, 8 << 30)]) == [None]


def test_each_of_several_processes_needs_room_below_its_own_limit(monkeypatch, planted):
    """Which is more than half of what they need together."""
    rooms = [Room(64 << 30, None, 2, 400 << 20)] * 2
    assert refusals(monkeypatch, planted, rooms) == [None, None]
    first, second = refusals(monkeypatch, planted, [rooms[0], rooms[1]._replace(own=200 << 20)])
    assert "memory on the machine of each of 2 processes; 200 MiB are allowed by limits of a process" in first
    assert "as process 1 finds" in first
    assert first == second


def test_the_first_process_needs_what_is_there_once(planted):
    recipe = load_recipe("plain")
    plan = plan_memory(recipe, assumed_sizes(1_000_000, 1000, recipe), BASE, team=Team(2, 1))
    once = max(sum(part.bytes for part in stage.parts if part.once) for stage in plan.training)
    assert once > 10 << 20
    assert plan.needed - once <= plan.needed_by_others < plan.needed
