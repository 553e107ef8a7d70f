"""The Triton backend as the suites see it: on a GPU where there is one, else in Triton's interpreter."""

import dataclasses

import numpy as np
import pytest
import torch

from fanin.kernels.dispatch import triton_obstacle

# In the interpreter these would take many minutes: it makes millions of tiles, or thousands of steps.
_NATIVE_ONLY = {
    "test_every_batch_size_up_to_300",
    "test_mistake_02_no_duplicates_at_the_start_and_after_1000_rewirings",
    "test_mistake_10_labels_beyond_the_reach_of_float32",
    "test_shared_scores_beyond_the_reach_of_float32",
    "test_small_steps_are_not_lost",
}


def triton_parameter(test):
    """The parameter "triton" for a test: on a GPU in the run for GPUs, in the interpreter among the long ones."""
    if torch.cuda.is_available():
        return pytest.param("triton", marks=pytest.mark.gpu)
    slow = pytest.mark.skipif(test in _NATIVE_ONLY, reason="takes a GPU")
    return pytest.param("triton", marks=[pytest.mark.long, slow])


def require_triton():
    """Skip a test where Triton is not installed."""
    obstacle = triton_obstacle()
    if obstacle is not None:
        pytest.skip(obstacle)


def triton_backend():
    """The backend; on a GPU it takes and gives tensors on the CPU, as all others do."""
    require_triton()
    from fanin.kernels.triton.backend import TritonBackend

    return _OnGpu(TritonBackend()) if torch.cuda.is_available() else _Interpreted(TritonBackend())


class _Interpreted:
    """Runs operations without numpy's warnings, which the interpreter computes with: infinities and NaN are tested."""

    def __init__(self, backend):
        self._backend, self.name = backend, backend.name

    def __getattr__(self, name):
        operation = getattr(self._backend, name)

        def call(*args, **options):
            with np.errstate(all="ignore"):
                return operation(*args, **options)

        return call


class _OnGpu:
    """Moves what an operation is given to the GPU, and what it gives and changes back."""

    def __init__(self, backend):
        self._backend, self.name = backend, backend.name

    def __getattr__(self, name):
        operation = getattr(self._backend, name)

        def call(*args, **options):
            moved = {}
            args, options = _mapped(args, lambda tensor: _to_gpu(tensor, moved)), dict(options)
            options = {key: _mapped(value, lambda tensor: _to_gpu(tensor, moved)) for key, value in options.items()}
            result = operation(*args, **options)
            for original, copy in moved.values():
                original.detach().copy_(copy)
            return _mapped(result, torch.Tensor.cpu)

        return call


def _to_gpu(tensor, moved):
    if id(tensor) not in moved:
        moved[id(tensor)] = tensor, tensor.detach().cuda()
    return moved[id(tensor)][1]


def _mapped(value, function):
    """A value with a function applied to all tensors in it."""
    if isinstance(value, torch.Tensor):
        return function(value)
    if isinstance(value, tuple):
        parts = [_mapped(part, function) for part in value]
        return type(value)(*parts) if hasattr(value, "_fields") else tuple(parts)
    if dataclasses.is_dataclass(value):
        return dataclasses.replace(
            value, **{field.name: _mapped(getattr(value, field.name), function) for field in dataclasses.fields(value)}
        )
    return value
