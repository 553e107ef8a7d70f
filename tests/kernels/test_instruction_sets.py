"""The compiled core's arithmetic on every instruction set of this machine; a process uses one from start to end."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

FILES = ("test_backends.py", "test_backends_shared.py", "test_backends_stored.py")
ARITHMETIC = (
    "forward or gradients or train_step or error_is or easy or extreme or non_finite or nan_weight or of_any "
    "or operations_read or bit_for_bit or widened or not_finite"
)
WIDE = "65536 or 65537 or 70001"  # what these add is indices, the same code on every instruction set
RUN = """
import sys, pytest
from fanin.errors import BackendError
try:
    from fanin.kernels.cpu import CpuBackend
    print("runs on", CpuBackend().instruction_set)
except BackendError as error:
    sys.exit(f"refused: {error}")
sys.exit(pytest.main(sys.argv[1:]))
"""


def _suite(name, *arguments):
    """Run the behavioural suite with an instruction set forced; without arguments, only ask for it."""
    return subprocess.run(
        [sys.executable, "-c", RUN, *arguments],
        env={**os.environ, "FANIN_CPU_ISA": name},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("name", ["avx512", "avx2", "portable"])
def test_arithmetic(compiled_core, name):
    from fanin.kernels.cpu import CpuBackend

    if CpuBackend().instruction_set == name:
        pytest.skip("this process runs on it, so the rest of the suite tests it")
    suites = [str(Path(__file__).with_name(file)) for file in FILES]
    done = _suite(
        name, *suites, "-k", f"cpu-1-thread and ({ARITHMETIC}) and not ({WIDE})", "-p", "no:cacheprovider", "-x"
    )
    if "not supported by this processor" in done.stderr:
        pytest.skip(done.stderr.strip())
    assert f"runs on {name}" in done.stdout, done.stderr
    assert done.returncode == 0, done.stdout
    assert " passed" in done.stdout
    assert "skipped" not in done.stdout


def test_an_unknown_instruction_set_is_refused(compiled_core):
    done = _suite("mmx", "--version")
    assert done.returncode == 1
    assert "refused: the environment variable FANIN_CPU_ISA names the instruction set 'mmx'" in done.stderr
