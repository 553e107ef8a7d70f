"""The device, and the two ceilings of everything on it, measured: bytes copied and products computed a second."""

from __future__ import annotations

import platform
from typing import TYPE_CHECKING

import torch
import triton
from benchmarks.gpu.clock import milliseconds

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.gpu.recorder import Row
    from benchmarks.gpu.sizes import Sizes


def facts(device: torch.device) -> Iterator[Row]:
    """Names and versions."""
    row: Row = {"torch": torch.__version__, "triton": triton.__version__, "python": platform.python_version()}
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        free, total = torch.cuda.mem_get_info(device)
        row |= {
            "device": properties.name,
            "capability": f"{properties.major}.{properties.minor}",
            "multiprocessors": properties.multi_processor_count,
            "total_bytes": total,
            "free_bytes": free,
        }
    else:
        row["device"] = "the CPU, in Triton's interpreter: times mean nothing"
    yield row


def ceilings(device: torch.device, sizes: Sizes) -> Iterator[Row]:
    """Bytes read and written a second by a copy, and operations a second of square products of random values."""
    source = torch.randint(0, 255, (sizes.copy_bytes,), dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    time = milliseconds(lambda source=source, target=target: target.copy_(source), device)
    yield {"ceiling": "copy", "bytes_per_second": 2 * sizes.copy_bytes / time * 1e3}
    del source, target
    for name, dtype in (("bfloat16", torch.bfloat16), ("float32", torch.float32)):
        a, b = (torch.randn(sizes.matrix, sizes.matrix, device=device, dtype=dtype) for _ in range(2))
        out = torch.empty_like(a)
        time = milliseconds(lambda a=a, b=b, out=out: torch.mm(a, b, out=out), device)
        yield {"ceiling": name, "operations_per_second": 2 * sizes.matrix**3 / time * 1e3}
