"""Every kernel compiles for GPUs that are not there: ahead of time, to machine code, for sm_80 and sm_90."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from triton_under_test import require_triton

SCRIPT = Path(__file__).with_name("compile_without_gpu.py")


def _compiled(arch, how, cache):
    """The compiled kernels' names."""
    require_triton()
    environment = os.environ | {"TRITON_INTERPRET": "0", "TRITON_CACHE_DIR": str(cache)}
    done = subprocess.run(
        [sys.executable, SCRIPT, str(arch), how], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line)["kernel"] for line in done.stdout.splitlines() if line.startswith("{")]


def _all_kernels():
    """The names of the functions that a launcher runs, from the sources: those that no other kernel calls."""
    import fanin.kernels.triton as package

    sources = "\n".join(path.read_text() for path in Path(package.__path__[0]).glob("*.py"))
    return set(re.findall(r"^def (_\w+_kernel)\(", sources, re.MULTILINE))


@pytest.mark.parametrize("arch", [80, 90])
def test_each_kernel_compiles(arch, tmp_path):
    kernels = _all_kernels()
    assert len(kernels) > 8
    assert set(_compiled(arch, "each", tmp_path)) == kernels


@pytest.mark.long
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("arch", [80, 90])
def test_all_tunings_and_formats_compile(arch, tmp_path):
    assert set(_compiled(arch, "all", tmp_path)) <= _all_kernels()
