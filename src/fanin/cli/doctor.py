"""``fanin doctor``: what fanin found on this machine."""

from __future__ import annotations

import os
import platform
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fanin.cli.options import Json
from fanin.cli.output import literal, mebibytes, stored_size, write_json, write_table
from fanin.version import __version__

if TYPE_CHECKING:
    from collections.abc import Iterator

_PACKAGES = ("torch", "numpy", "safetensors", "tokenizers", "pydantic", "typer", "rich")
_CGROUP_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


def doctor(json: Json = False) -> None:
    """Show what fanin found on this machine.

    Versions, the compiled core, threads, memory, the cache folder, and which backend is taken and why.
    """
    facts = {
        "versions": _versions(),
        "torch_build": _torch_build(),
        "compiled_core": _compiled_core(),
        "backend": _backend(),
        "processor": _processor(),
        "memory": _memory(),
        "cache": _cache(),
    }
    if json:
        write_json(facts)
    else:
        write_table(None, *(list(_rows(part, values)) for part, values in facts.items()))


def _versions() -> dict[str, str]:
    installed = {"fanin": __version__, "python": platform.python_version()}
    return installed | {name: metadata.version(name) for name in _PACKAGES}


def _torch_build() -> dict[str, Any]:
    import torch

    cuda = torch.version.cuda
    found = f"CUDA {cuda}" if cuda else "CPU"
    return {"build": found, "cuda_device": torch.cuda.get_device_name() if torch.cuda.is_available() else None}


def _compiled_core() -> dict[str, Any]:
    from fanin.kernels.dispatch import compiled_core_obstacle

    obstacle = compiled_core_obstacle()
    if obstacle is not None:
        return {"present": False, "obstacle": obstacle, "instruction_set": None}
    from fanin.kernels.cpu import CpuBackend

    return {"present": True, "obstacle": None, "instruction_set": CpuBackend().instruction_set}


def _backend() -> dict[str, Any]:
    import warnings

    import torch

    from fanin.errors import BackendError
    from fanin.kernels.dispatch import VARIABLE, choose

    asked = os.environ.get(VARIABLE) or None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # the reason is shown below
            choice = choose(torch.device("cpu"), torch.float32)
    except BackendError as error:
        return {"name": None, "reason": str(error), VARIABLE: asked}
    return {"name": choice.backend.name, "reason": choice.reason, VARIABLE: asked}


def _processor() -> dict[str, Any]:
    import torch

    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {"machine": platform.machine(), "cores": usable, "threads": torch.get_num_threads()}


def _memory() -> dict[str, int | None]:
    page = os.sysconf("SC_PAGE_SIZE")
    limits = [Path(path).read_text(encoding="ascii").strip() for path in _CGROUP_LIMITS if Path(path).is_file()]
    total = page * os.sysconf("SC_PHYS_PAGES")
    limit = min((int(limit) for limit in limits if limit.isdigit()), default=total)
    available = page * os.sysconf("SC_AVPHYS_PAGES") if "SC_AVPHYS_PAGES" in os.sysconf_names else None
    return {"total_bytes": total, "limit_bytes": limit if limit < total else None, "free_bytes": available}


def _cache() -> dict[str, Any]:
    from fanin.data.content import cache_folder

    folder = cache_folder()
    size = 0
    for path in folder.rglob("*"):
        with suppress(OSError):  # another process may have removed it meanwhile
            size += path.stat().st_size if path.is_file() else 0
    nearest = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    return {"folder": str(folder), "size_bytes": size, "writable": os.access(nearest, os.W_OK)}


def _rows(part: str, values: dict[str, Any]) -> Iterator[tuple[str, str]]:
    for name, value in values.items():
        if value is None:
            continue
        shown = literal(value)
        if name.endswith("_bytes"):
            shown = stored_size(value) if part == "cache" else mebibytes(value)
        elif isinstance(value, bool):
            shown = "yes" if value else "no"
        yield f"{part}: {name.removesuffix('_bytes')}".replace("_", " "), shown
