"""Every choice of a backend with its reason, and every refusal. Compiled core, Triton and GPU are stand-ins."""

import re
import sys
import types
import warnings

import pytest
import torch

from fanin.errors import BackendError
from fanin.kernels import dispatch

CPU, META, GPU = torch.device("cpu"), torch.device("meta"), torch.device("cuda", 0)


class _StandIn:
    name = "cpu"


class _Uncompiled:
    def __init__(self):
        raise BackendError("the compiled core is missing")


@pytest.fixture
def core(monkeypatch):
    """Sets whether the compiled core can be loaded; the choices of other tests are forgotten before and after."""

    def forget():
        caches = dispatch._cpu, dispatch.compiled_core_obstacle, dispatch._triton, dispatch.triton_obstacle
        for memory in (*caches, dispatch._say_once):
            memory.cache_clear()

    def install(backend):
        forget()
        module = types.ModuleType("fanin.kernels.cpu")
        module.CpuBackend = backend
        monkeypatch.setitem(sys.modules, "fanin.kernels.cpu", module)

    for variable in (dispatch.VARIABLE, dispatch.INSTRUCTION_SET_VARIABLE, "TRITON_INTERPRET"):
        monkeypatch.delenv(variable, raising=False)
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


@pytest.fixture
def gpu(core, monkeypatch):
    """A GPU and Triton, as a function that sets the one's capability and what importing the other gives."""

    class TritonStandIn:
        name = "triton"

    def install(capability=(9, 0), *, present=True, hip=None):
        for memory in (dispatch._triton, dispatch.triton_obstacle, dispatch._say_once):
            memory.cache_clear()
        module = types.ModuleType("fanin.kernels.triton.backend")
        if present:
            module.TritonBackend = TritonStandIn
        monkeypatch.setitem(sys.modules, "fanin.kernels.triton.backend", module)
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
        monkeypatch.setattr(torch.version, "hip", hip)

    install()
    return install


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float8_e4m3fn])
def test_tensors_on_a_gpu_take_triton(gpu, dtype):
    backend, reason = dispatch.choose(GPU, dtype)
    assert backend.name == "triton"
    assert reason == f"Triton kernels, {str(dtype).removeprefix('torch.')} on cuda:0"
    assert dispatch.choose(GPU, dtype, "triton").reason == "asked for by the argument backend"
    assert dispatch.choose(GPU, dtype, "reference").backend.name == "reference"


@pytest.mark.parametrize(
    ("device", "dtype", "options", "words"),
    [
        (GPU, torch.float32, {"present": False}, "Triton is not installed.*fanin\\[gpu\\]"),
        (GPU, torch.float32, {"capability": (7, 5)}, "compute capability 8.0 or newer, and cuda:0 has 7.5"),
        (GPU, torch.float32, {"hip": "6.2"}, "NVIDIA"),
        (GPU, torch.float64, {}, "float64"),
        (CPU, torch.float32, {}, "work on a GPU and the tensors are on cpu"),
    ],
)
def test_what_triton_cannot_do_is_refused_or_goes_to_the_reference(gpu, device, dtype, options, words):
    gpu(**options)
    with pytest.raises(BackendError, match=rf"argument backend asks for the triton backend, but .*{words}"):
        dispatch.choose(device, dtype, "triton")
    if device is GPU:
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            backend, reason = dispatch.choose(GPU, dtype)
        assert backend.name == "reference"
        assert re.search(words, reason)
        assert [str(warning.message) for warning in said] == (
            [] if dtype is torch.float64 else [f"fanin runs on its slow reference backend: {reason}."]
        )


def test_the_interpreter_serves_the_cpu_where_it_is_asked_for(gpu, monkeypatch):
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    assert dispatch.choose(CPU, torch.float32).backend.name == "cpu"
    assert dispatch.choose(CPU, torch.float32, "triton").backend.name == "triton"
    with pytest.raises(BackendError, match=r"work on the CPU where TRITON_INTERPRET=1 and the tensors are on cuda:0"):
        dispatch.choose(GPU, torch.float32, "triton")


def test_the_cpu_backend_is_not_for_a_gpu(gpu):
    with pytest.raises(BackendError, match="cuda:0"):
        dispatch.choose(GPU, torch.float32, "cpu")


@pytest.mark.parametrize("name", ["reference", "cpu"])
def test_a_backend_can_be_forced(core, monkeypatch, name):
    backend, reason = dispatch.choose(CPU, torch.float32, name)
    assert backend.name == name
    assert "argument backend" in reason
    other = {"reference": "cpu", "cpu": "reference"}[name]
    monkeypatch.setenv(dispatch.VARIABLE, name)
    assert "environment variable FANIN_BACKEND" in dispatch.choose(CPU, torch.float32).reason
    assert dispatch.choose(CPU, torch.float32).backend.name == name
    assert dispatch.choose(CPU, torch.float32, other).backend.name == other


def test_an_empty_variable_is_no_wish(core, monkeypatch):
    monkeypatch.setenv(dispatch.VARIABLE, "")
    assert dispatch.choose(CPU, torch.float32).backend.name == "cpu"


def test_unknown_names_are_refused_with_the_known_ones(core, monkeypatch):
    with pytest.raises(
        BackendError, match=r"argument backend names an unknown backend 'gpu'; use one of reference, cpu, triton"
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
