"""Every choice of a backend with its reason, and every refusal. The compiled core is played by a stand-in."""

import sys
import types
import warnings

import pytest
import torch

from fanin.errors import BackendError
from fanin.kernels import dispatch

CPU, META = torch.device("cpu"), torch.device("meta")


class _StandIn:
    name = "cpu"


class _Uncompiled:
    def __init__(self):
        raise BackendError("the compiled core is missing")


@pytest.fixture
def core(monkeypatch):
    """Sets whether the compiled core can be loaded; the choices of other tests are forgotten before and after."""

    def forget():
        for memory in (dispatch._cpu, dispatch.compiled_core_obstacle, dispatch._say_once):
            memory.cache_clear()

    def install(backend):
        forget()
        module = types.ModuleType("fanin.kernels.cpu")
        module.CpuBackend = backend
        monkeypatch.setitem(sys.modules, "fanin.kernels.cpu", module)

    monkeypatch.delenv(dispatch.VARIABLE, raising=False)
    monkeypatch.delenv(dispatch.INSTRUCTION_SET_VARIABLE, raising=False)
    install(_StandIn)
    yield install
    forget()


@pytest.mark.parametrize("name", ["float32", "bfloat16", "float8_e4m3fn"])
def test_float32_and_fewer_bits_on_the_cpu_take_the_compiled_core(core, name):
    backend, reason = dispatch.choose(CPU, getattr(torch, name))
    assert backend.name == "cpu"
    assert reason == f"compiled core, {name} on the CPU"
    assert dispatch.compiled_core_obstacle() is None


@pytest.mark.parametrize(
    ("device", "dtype", "words"),
    [(CPU, torch.float64, "float64"), (CPU, torch.float16, "float16"), (META, torch.float32, "meta")],
)
def test_what_the_compiled_core_cannot_do_goes_to_the_reference(core, device, dtype, words):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        backend, reason = dispatch.choose(device, dtype)
    assert backend.name == "reference"
    assert words in reason
    with pytest.raises(BackendError, match=words):
        dispatch.choose(device, dtype, "cpu")


@pytest.mark.parametrize("name", dispatch.BACKENDS)
def test_a_backend_can_be_forced(core, monkeypatch, name):
    backend, reason = dispatch.choose(CPU, torch.float32, name)
    assert backend.name == name
    assert "argument backend" in reason
    other = next(other for other in dispatch.BACKENDS if other != name)
    monkeypatch.setenv(dispatch.VARIABLE, name)
    assert "environment variable FANIN_BACKEND" in dispatch.choose(CPU, torch.float32).reason
    assert dispatch.choose(CPU, torch.float32).backend.name == name
    assert dispatch.choose(CPU, torch.float32, other).backend.name == other


def test_an_empty_variable_is_no_wish(core, monkeypatch):
    monkeypatch.setenv(dispatch.VARIABLE, "")
    assert dispatch.choose(CPU, torch.float32).backend.name == "cpu"


def test_unknown_names_are_refused_with_the_known_ones(core, monkeypatch):
    with pytest.raises(
        BackendError, match=r"argument backend names an unknown backend 'gpu'; use one of reference, cpu"
    ):
        dispatch.choose(CPU, torch.float32, "gpu")
    monkeypatch.setenv(dispatch.VARIABLE, "Reference")
    with pytest.raises(BackendError, match="FANIN_BACKEND names an unknown backend 'Reference'"):
        dispatch.choose(CPU, torch.float32)


def test_without_the_compiled_core_the_reference_serves_and_says_so_once(core):
    core(_Uncompiled)
    assert dispatch.compiled_core_obstacle() == "the compiled core is missing"
    with pytest.warns(RuntimeWarning, match=r"slow reference backend: the compiled core is missing.*compiler"):
        backend, reason = dispatch.choose(CPU, torch.float32)
    assert backend.name == "reference"
    assert reason == "the compiled core is missing"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert dispatch.choose(CPU, torch.float32).backend.name == "reference"


def test_without_the_compiled_core_asking_for_it_raises(core, monkeypatch):
    core(_Uncompiled)
    monkeypatch.setenv(dispatch.VARIABLE, "cpu")
    with pytest.raises(BackendError, match=r"FANIN_BACKEND asks for the cpu backend, but the compiled core is missing"):
        dispatch.choose(CPU, torch.float32)


def test_an_instruction_set_that_cannot_be_had_raises(core, monkeypatch):
    core(_Uncompiled)
    monkeypatch.setenv(dispatch.INSTRUCTION_SET_VARIABLE, "avx512")
    with pytest.raises(BackendError, match="the compiled core is missing"):
        dispatch.choose(CPU, torch.float32)
    assert dispatch.choose(CPU, torch.float32, "reference").backend.name == "reference"


def test_asking_for_the_reference_needs_no_core_and_no_warning(core):
    core(_Uncompiled)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert dispatch.choose(CPU, torch.float32, "reference").backend.name == "reference"
