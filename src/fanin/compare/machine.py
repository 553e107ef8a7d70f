"""This machine in a line, for those who read figures measured on it."""

from __future__ import annotations

import os
import platform
from pathlib import Path

import torch

from fanin.version import __version__


def describe_machine() -> str:
    """Processor, cores and threads, memory, system and versions."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    device = f", {torch.cuda.get_device_name()}" if torch.cuda.is_available() else ""
    return (
        f"{_processor()}, {cores} cores, {torch.get_num_threads()} threads, {memory:.0f} GiB{device}, "
        f"{platform.system()}, torch {torch.__version__}, fanin {__version__}"
    )


def _processor() -> str:
    path = Path("/proc/cpuinfo")
    if path.is_file():
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            name, _, value = line.partition(":")
            if name.strip() == "model name" and value.strip():
                return value.strip()
    return platform.processor() or platform.machine()
