"""How much memory is left for this process: on the machine, by limits of a group or of its own, on a GPU."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from fanin.memory.gpu_parts import CONTEXT

if TYPE_CHECKING:
    from collections.abc import Iterator

_GROUPS = Path("/sys/fs/cgroup")
_SYSTEM = Path("/proc")
_UNLIMITED = 1 << 60  # limits of the older kind are huge numbers where there is none
_OWN_LIMITS = {"Max data size": "VmData:", "Max address space": "VmSize:"}  # and what they are about


def free_bytes(groups: Path = _GROUPS, process: Path = _SYSTEM) -> int | None:
    """Bytes that this process can take besides what it holds; None where the system does not tell.

    The least of: memory that is free or can be freed on the machine, and what is left of the limits of the control
    groups (containers, batch systems) that the process is in. Content of files in memory counts as free.

    Args:
        groups: where control groups are mounted.
        process: where the system tells of itself and its processes.
    """
    return min([*_free_on_the_machine(process), *_left_in_groups(groups, process)], default=None)


def allowed_bytes(process: Path = _SYSTEM) -> int | None:
    """Bytes that this process may take besides what it holds, by limits set for it alone; None where there is none.

    These are RLIMIT_DATA and RLIMIT_AS (``ulimit -d`` and ``-v``; of some batch systems the memory that was asked for).
    They count what is mapped, used or not: the first all memory that is the process's own, the second files, too. So
    not all of what is left can be used, but no more than that.

    Args:
        process: where the system tells of itself and its processes.
    """
    try:
        limits = (process / "self" / "limits").read_text(encoding="ascii").splitlines()
    except (OSError, ValueError):
        return None
    held, left = _table(process / "self" / "status"), []
    for name, what in _OWN_LIMITS.items():
        soft = next((line[len(name) :].split()[0] for line in limits if line.startswith(name)), "unlimited")
        if soft.isdigit() and what in held:
            left.append(max(int(soft) - 1024 * held[what], 0))
    return min(left, default=None)


def gpu_available_bytes(device: torch.device | None) -> int | None:
    """Bytes that this process can hold on a GPU, CUDA's own included; None where the device is not a GPU."""
    if device is None or device.type != "cuda":
        return None
    free, _ = torch.cuda.mem_get_info(device)  # to ask has brought up CUDA, which a plan counts
    return free + CONTEXT


def _free_on_the_machine(process: Path) -> Iterator[int]:
    found = _table(process / "meminfo").get("MemAvailable:")
    if found is not None:
        yield found * 1024
    elif not process.is_dir():
        with contextlib.suppress(ValueError, OSError, AttributeError):  # no such question, or no answer to it
            yield os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _left_in_groups(groups: Path, process: Path) -> Iterator[int]:
    for folder in _folders(groups, process):
        limit = _number(folder / "memory.max") or _number(folder / "memory.limit_in_bytes")
        used = _number(folder / "memory.current") or _number(folder / "memory.usage_in_bytes")
        if limit is None or used is None or limit >= _UNLIMITED:
            continue
        statistics = _table(folder / "memory.stat")
        files = statistics.get("total_inactive_file", statistics.get("inactive_file", 0))
        yield max(limit - max(used - files, 0), 0)


def _folders(groups: Path, process: Path) -> Iterator[Path]:
    """The folders of the process's groups and of those around them."""
    try:
        lines = (process / "self" / "cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:
        return
    for line in lines:
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if controllers and "memory" not in controllers.split(","):
            continue
        root = groups / "memory" if controllers else groups
        own = root / path.lstrip("/")
        # Inside a container the path is often that of the world outside, and the group itself is at the root.
        for folder in (own, *own.parents):
            if folder.is_relative_to(root):
                yield folder


def _number(path: Path) -> int | None:
    try:
        return int(path.read_text(encoding="ascii"))
    except (OSError, ValueError):  # missing, or "max"
        return None


def _table(path: Path) -> dict[str, int]:
    try:
        rows = [line.split() for line in path.read_text(encoding="ascii").splitlines()]
    except (OSError, ValueError):
        return {}
    return {row[0]: int(row[1]) for row in rows if len(row) > 1 and row[1].isdigit()}
