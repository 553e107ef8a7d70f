"""Every process of a run gets a connection to the first one; nobody else does, and it listens where it has to."""

import select
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest

from fanin.processes import connections
from fanin.processes.connections import connect_to_first
from fanin.processes.group import Processes
from process_threads import run_together


@pytest.fixture
def listened(monkeypatch):
    """The address and port of every server that is made."""
    found, create = [], socket.create_server

    def noted(*arguments, **keywords):
        server = create(*arguments, **keywords)
        found.append(server.getsockname()[:2])
        return server

    monkeypatch.setattr(socket, "create_server", noted)
    return found


def _spoken(processes: Processes, name="127.0.0.1"):
    """What the first process and the others say to each other."""
    lines = connect_to_first(processes, name)
    heard = []
    for line in lines:
        with line:
            line.sendall(bytes([processes.rank]))
            heard += line.recv(1)
            assert line.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
    return heard


@pytest.mark.parametrize("size", [2, 3])
def test_all_are_connected_to_the_first_one_which_listens_where_they_reach_it(size, listened):
    first, *others = run_together(size, _spoken)
    assert sorted(first) == list(range(1, size))
    assert others == [[0]] * (size - 1)
    [(address, _)] = listened
    assert address == "127.0.0.1"


def test_it_listens_on_all_addresses_where_others_know_it_by_different_ones(listened):
    names = {0: "127.0.0.9", 1: "127.0.0.1", 2: "127.0.0.2"}
    found = run_together(3, lambda processes: _spoken(processes, names[processes.rank]))
    assert sorted(found[0]) == [1, 2]
    [(address, _)] = listened
    assert address in {"::", "0.0.0.0"}


def test_an_address_of_another_machine_is_passed_over(monkeypatch, listened):
    """Others may know the first machine by several addresses, of which one leads nowhere."""
    here = ["192.0.2.1", "127.0.0.1"]  # the first is nobody's: it is for documents
    monkeypatch.setattr(connections, "_addresses_of", lambda _name: here)
    assert run_together(2, lambda processes: _spoken(processes, "nowhere.invalid")) == [[1], [0]]
    [(address, _)] = listened
    assert address == "127.0.0.1"


def test_addresses_of_a_name():
    assert connections._addresses_of("127.0.0.1") == ["127.0.0.1"]
    assert connections._addresses_of("nowhere.invalid") == []


def test_a_stranger_is_turned_away(listened):
    arrived, turned_away = threading.Event(), threading.Event()

    def work(processes: Processes):
        if processes.first:
            told = processes.told_by_first

            def tell(make):
                arrived.set()  # it listens by now
                assert turned_away.wait(20)
                return told(make)

            processes.told_by_first = tell
        return _spoken(processes)

    def visit():
        assert arrived.wait(20)
        strangers = []
        for word in (b"x" * 32, b""):
            stranger = socket.create_connection(listened[0])
            stranger.sendall(word)
            stranger.shutdown(socket.SHUT_WR)
            strangers.append(stranger)
        turned_away.set()  # they are first in the line
        heard = []
        for stranger in strangers:
            with stranger:
                heard.append(stranger.recv(1))
        return heard

    with ThreadPoolExecutor(1) as pool:
        strangers = pool.submit(visit)
        assert run_together(2, work) == [[1], [0]]
        assert strangers.result() == [b"", b""]


def test_a_process_of_the_run_is_known_though_its_word_comes_in_pieces():
    token = bytes(range(32))
    ours, theirs = socket.socketpair()
    with ours, theirs, ThreadPoolExecutor(1) as pool:
        ours.sendall(token[:5])
        known = pool.submit(connections._knows, theirs, token)
        while select.select([theirs], [], [], 0)[0]:  # until the first piece has been read
            pass
        ours.sendall(token[5:])
        assert known.result(timeout=20)


def test_a_connection_that_breaks_at_once_is_closed(monkeypatch):
    line = SimpleNamespace(closed=0)

    def sendall(_word):
        raise ConnectionResetError

    def close():
        line.closed += 1

    line.sendall, line.close = sendall, close
    monkeypatch.setattr(socket, "create_connection", lambda *_, **__: line)
    told = SimpleNamespace(first=False, told_by_all=lambda own: [own, own], told_by_first=lambda _: [None, 1, "00"])
    with pytest.raises(ConnectionResetError):
        connect_to_first(told, "127.0.0.1")
    assert line.closed == 1
