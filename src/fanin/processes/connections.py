"""A connection of every process of a run to the first one, which is kept alive while nothing is said."""

from __future__ import annotations

import contextlib
import secrets
import socket
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fanin.processes.group import Processes

_JOIN_SECONDS = 300.0
_KEEP_ALIVE = {"TCP_KEEPIDLE": 20, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 5}  # a machine that is gone: 45 seconds
_TOKEN_BYTES, _TOKEN_SECONDS = 32, 10.0


def connect_to_first(processes: Processes, name: str) -> list[socket.socket]:
    """Connect all processes to the first one; all of them do so at the same time.

    The first one listens until all have connected, on the one address of its own by which all others know its machine;
    where there is none, on all addresses. Who connects has to know a random token that only the processes are told.

    Args:
        processes: all of them.
        name: of the first one's machine, or an address of it; each process may know it by another.

    Returns:
        At the first process its connections to all others, at these the one to the first.

    Raises:
        OSError: the first process cannot be reached.
        LostProcessError: a process has ended before all were connected.
    """
    known = processes.told_by_all(_addresses_of(name))
    with contextlib.ExitStack() as opened:
        lines = _accepted(processes, _in_common(known[1:])) if processes.first else _connected(processes, name)
        found = [opened.enter_context(line) for line in lines]
        opened.pop_all()
    return found


def _addresses_of(name: str) -> list[str]:
    """The addresses of a machine, as this one knows them."""
    try:
        found = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
    except OSError:
        return []
    return [str(place[0]) for *_, place in found]


def _in_common(known: list[list[str]]) -> list[str]:
    """The addresses that are in all lists.

    >>> _in_common([["::1", "10.0.0.1"], ["10.0.0.1"]]), _in_common([["127.0.1.1"], ["10.0.0.1"]])
    (['10.0.0.1'], [])
    """
    first, *others = known
    return [address for address in first if all(address in other for other in others)]


def _accepted(processes: Processes, addresses: list[str]) -> Iterator[socket.socket]:
    """The connections of all other processes, as the first one has them."""
    address, server = _listening(addresses)
    with server:
        server.settimeout(_JOIN_SECONDS)
        token = secrets.token_bytes(_TOKEN_BYTES)
        processes.told_by_first(lambda: [address, server.getsockname()[1], token.hex()])
        missing = processes.size - 1
        while missing:
            line, _ = server.accept()
            if _knows(line, token):
                missing -= 1
                yield _kept_alive(line)
            else:
                line.close()


def _listening(addresses: list[str]) -> tuple[str | None, socket.socket]:
    """A socket that listens on the first of some addresses that is this machine's; on all, and None, where none is."""
    for address in addresses:
        with contextlib.suppress(OSError):  # not an address of this machine
            family = socket.AF_INET6 if ":" in address else socket.AF_INET
            return address, socket.create_server((address, 0), family=family)
    both = socket.has_dualstack_ipv6()
    family = socket.AF_INET6 if both else socket.AF_INET
    return None, socket.create_server(("", 0), family=family, dualstack_ipv6=both)


def _knows(line: socket.socket, token: bytes) -> bool:
    """Whether whoever has connected is a process of this run."""
    told, until = b"", time.monotonic() + _TOKEN_SECONDS  # for all of it, however slowly it comes
    try:
        while len(told) < len(token):
            line.settimeout(max(until - time.monotonic(), 0))
            more = line.recv(len(token) - len(told))
            if not more:
                return False
            told += more
    except OSError:
        return False
    return secrets.compare_digest(told, token)


def _connected(processes: Processes, name: str) -> Iterator[socket.socket]:
    """The connection to the first process."""
    address, port, token = processes.told_by_first(lambda: None)
    line = socket.create_connection((address or name, port), timeout=_JOIN_SECONDS)
    try:
        line.sendall(bytes.fromhex(token))
    except OSError:
        line.close()
        raise
    yield _kept_alive(line)


def _kept_alive(line: socket.socket) -> socket.socket:
    line.settimeout(None)
    line.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _KEEP_ALIVE.items():
        if hasattr(socket, name):
            line.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
    return line
