"""Everything that a GPU is asked about the Triton backend, in one run of under nine minutes.

    python -m benchmarks.gpu --out gpu.json

Prints a line for every measurement and writes JSON after each, so that a run that is cut off leaves what it has; at the
end a table of what was to be reached. Sizes
come from the GPU's free memory; weights are random and labels drawn from a long tail, so nothing is read or fetched.
Without a GPU, TRITON_INTERPRET=1 runs all of it at toy size on the CPU, to try the script.
"""

from __future__ import annotations

import argparse
import math
import sys
from pathlib import Path

import torch
from benchmarks.gpu.classifier import Ceilings, dense_steps, other_operations, sparse_steps
from benchmarks.gpu.errors import errors
from benchmarks.gpu.goals import goals
from benchmarks.gpu.machine import ceilings, facts
from benchmarks.gpu.recorder import Recorder
from benchmarks.gpu.sizes import sizes_for
from benchmarks.gpu.whole_step import other_whole_steps, whole_steps

from fanin.errors import BackendError
from fanin.kernels import dispatch


def main() -> int:
    """Measure; the exit status is the number of sections that failed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--out", type=Path, required=True, help="JSON file to write")
    parser.add_argument("--seconds", type=float, default=500.0, help="begin nothing later than this (default 500)")
    arguments = parser.parse_args()
    device = torch.device("cuda", 0) if torch.cuda.is_available() else torch.device("cpu")
    try:
        backend = dispatch.choose(device, torch.float32, "triton").backend
    except BackendError as error:
        parser.error(str(error))
    torch.manual_seed(0)
    recorder, sizes = Recorder(arguments.out, arguments.seconds), sizes_for(device)
    recorder.run("machine", lambda: facts(device))
    recorder.run("sizes", lambda: [sizes._asdict()])
    measured = {row["ceiling"]: row for row in recorder.run("ceilings", lambda: ceilings(device, sizes))}
    top = Ceilings(
        bytes=measured.get("copy", {}).get("bytes_per_second", math.nan),
        bfloat16=measured.get("bfloat16", {}).get("operations_per_second", math.nan),
        float32=measured.get("float32", {}).get("operations_per_second", math.nan),
    )
    recorder.run("errors", lambda: errors(backend, device, sizes))
    dense = [row["ms"] for row in recorder.run("dense_steps", lambda: dense_steps(device, sizes)) if "ms" in row]
    dense_ms = min(dense, default=None)
    recorder.run("whole_steps", lambda: whole_steps(backend, device, sizes))
    recorder.run("sparse_steps", lambda: sparse_steps(backend, device, sizes, top, dense_ms))
    recorder.run("other_operations", lambda: other_operations(backend, device, sizes, top))
    recorder.run("other_whole_steps", lambda: other_whole_steps(backend, device, sizes))
    recorder.conclude("goals", goals(recorder.sections, sizes))
    failed = recorder.failed()
    print(f"\n{arguments.out}: {len(recorder.sections)} sections, failed: {', '.join(failed) or 'none'}")
    return len(failed)


if __name__ == "__main__":
    sys.exit(main())
