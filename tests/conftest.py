"""What several rooms' tests share: the backends to test, random layers and batches, and the float64 dense truth."""

import os
from typing import NamedTuple

import pytest
import torch

if torch.cuda.is_available():
    os.environ.setdefault(
        "CUBLAS_WORKSPACE_CONFIG", ":4096:8"
    )  # torch asks for it where results must be the same again
else:
    os.environ.setdefault("TRITON_INTERPRET", "1")  # before Triton is imported

from hypothesis import settings
from torch.nn import functional

from fanin.kernels.dispatch import compiled_core_obstacle
from fanin.kernels.reference import ReferenceBackend
from fanin.kernels.spec import SGD, Loss, Positives, SparseWeights, index_dtype
from triton_under_test import triton_backend, triton_parameter

pytest_plugins = [
    "fuzzing",
    "interrupted_runs",
    "planted",
    "planted_encoders",
    "run_processes",
    "tiny_transformer",
]  # files beside this one

settings.register_profile("fanin", deadline=None, derandomize=True, database=None, max_examples=30)
settings.load_profile("fanin")
torch.set_num_threads(1)  # the arrays here are tiny; tests that are about threads ask for more


def pytest_configure(config):
    # Said where the compiled core is absent; the suite runs there too, and test_dispatch.py covers the warning.
    config.addinivalue_line("filterwarnings", "ignore:fanin runs on its slow reference backend:RuntimeWarning")


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory):
    """Stores and vectors of these tests lie in a folder of theirs, not in the user's cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FANIN_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


def pytest_generate_tests(metafunc):
    if "backend" in metafunc.fixturenames:
        backends = ["reference", "cpu-1-thread", "cpu-2-threads", triton_parameter(metafunc.function.__name__)]
        metafunc.parametrize("backend", backends, indirect=True, scope="module")
    if "backend_name" in metafunc.fixturenames:
        metafunc.parametrize("backend_name", ["reference", "cpu"], indirect=True, scope="module")


def require_compiled_core():
    obstacle = compiled_core_obstacle()
    if obstacle is None:
        return
    if os.environ.get("FANIN_REQUIRE_CPU") == "1":
        pytest.fail(f"FANIN_REQUIRE_CPU=1, but {obstacle}")
    pytest.skip(obstacle)


@pytest.fixture
def compiled_core():
    """Skips a test that needs the compiled core where there is none; FANIN_REQUIRE_CPU=1 makes it fail instead."""
    require_compiled_core()


class _Threaded:
    """A backend whose operations, and nothing around them, see a number of threads."""

    def __init__(self, backend, threads):
        self._backend, self._threads = backend, threads

    def __getattr__(self, name):
        value = getattr(self._backend, name)
        if not callable(value):
            return value

        def call(*args, **options):
            torch.set_num_threads(self._threads)
            try:
                return value(*args, **options)
            finally:
                torch.set_num_threads(1)

        return call


@pytest.fixture(scope="module")
def backend(request):
    """Every backend; the compiled one with 1 and with 2 threads."""
    if request.param == "reference":
        return ReferenceBackend()
    if request.param == "triton":
        return triton_backend()
    return _compiled(int(request.param.split("-")[1]))


def _compiled(threads):
    require_compiled_core()
    from fanin.kernels.cpu import CpuBackend

    return _Threaded(CpuBackend(), threads)


@pytest.fixture(scope="session")
def compiled_backend():
    """Gives the compiled backend with a number of threads."""
    return _compiled


@pytest.fixture(scope="module")
def poisoned_memory():
    """Memory that torch hands out uninitialised holds NaN, so that an output place left unwritten shows."""
    torch.set_deterministic_debug_mode("error")
    assert torch.empty(3).isnan().all()
    yield
    torch.set_deterministic_debug_mode("default")


@pytest.fixture(scope="module")
def backend_name(request):
    """The name of every backend, for layers that are told which to use."""
    if request.param == "cpu":
        require_compiled_core()
    return request.param


def _make_layer(L, D, F, G=1, *, seed=0, bias=True):
    """A random float32 layer, its index sets drawn by torch and not by the code under test."""
    generator = torch.Generator().manual_seed(seed)
    sets = -(-L // G)
    index = torch.stack([torch.randperm(D, generator=generator)[:F] for _ in range(sets)])
    weight = torch.randn(L, F, generator=generator) / F**0.5
    return SparseWeights(
        weight=weight,
        index=index.to(index_dtype(D)),
        bias=torch.randn(L, generator=generator) if bias else None,
        group_size=G,
        in_features=D,
    )


def _make_positives(B, L, *, seed=0):
    """Random positives: empty rows (the first, where there are several), duplicates, both ends of the labels."""
    generator = torch.Generator().manual_seed(seed)
    rows = [torch.randint(L, (int(n),), generator=generator) for n in torch.randint(0, 5, (B,), generator=generator)]
    if B > 1:
        rows[0] = rows[0][:0]
    rows[-1] = torch.tensor([L - 1, 0, L - 1, L - 1])
    indptr = torch.tensor([0, *[len(row) for row in rows]]).cumsum(0)
    return Positives(indptr, torch.cat(rows))


def _columns(layer):
    """The input column of every weight, (L, F) int64."""
    return layer.index.to(torch.int64).repeat_interleave(layer.group_size, dim=0)[: len(layer.weight)]


class DenseRun(NamedTuple):
    """What float64 autograd and torch.optim make of some training steps."""

    losses: list
    input_gradients: list
    weight: torch.Tensor
    bias: torch.Tensor | None
    moments: tuple


def _train_densely(weight, columns, bias, in_features, batches, loss, update, factor=1.0):
    """Train by densifying the layer, in float64, with torch's own losses, autograd and optimizers.

    Args:
        weight: (L, F) at the start.
        columns: (L, F) the input of every weight.
        bias: (L,) or None.
        in_features: D.
        batches: (x, positives) a step.
        loss: which loss.
        update: which update.
        factor: the weight of the loss.
    """
    w = weight.detach().double().clone().requires_grad_()
    b = None if bias is None else bias.detach().double().clone().requires_grad_()
    groups = [{"params": [w], "weight_decay": update.weight_decay}]
    groups += [] if b is None else [{"params": [b], "weight_decay": 0.0}]
    if isinstance(update, SGD):
        optimizer = torch.optim.SGD(groups, lr=update.learning_rate, momentum=update.momentum)
        names = ("momentum_buffer",) if update.momentum else ()
    else:
        betas = (update.beta1, update.beta2)
        optimizer = torch.optim.AdamW(groups, lr=update.learning_rate, betas=betas, eps=update.eps)
        names = ("exp_avg", "exp_avg_sq")
    losses, gradients = [], []
    for x32, positives in batches:
        x = x32.double().clone().requires_grad_()
        dense = torch.zeros(len(w), in_features, dtype=torch.float64).scatter(1, columns, w)
        logits = x @ dense.T if b is None else x @ dense.T + b
        target, factors, margins = torch.zeros_like(logits), torch.ones_like(logits), torch.zeros_like(logits)
        bounds = positives.indptr.tolist()
        for row in range(len(x)):
            for pair in range(bounds[row], bounds[row + 1]):
                label = int(positives.indices[pair])
                target[row, label] = 1
                factors[row, label] = 1 if positives.weights is None else positives.weights[pair]
                margins[row, label] = 0 if positives.margins is None else positives.margins[pair]
        shifted = logits - margins
        if loss is Loss.BCE:
            values = functional.binary_cross_entropy_with_logits(shifted, target, reduction="none")
        else:
            values = functional.relu(torch.where(target == 1, 1 - shifted, 1 + shifted)).pow(2)
        value = (factors * values).sum() * factor / len(x)
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        losses.append(value.item())
        gradients.append(x.grad)
    moments = tuple(
        tuple(optimizer.state[parameter][name] for name in names) for parameter in ([w] if b is None else [w, b])
    )
    return DenseRun(losses, gradients, w.detach(), None if b is None else b.detach(), moments)


@pytest.fixture(scope="session")
def make_layer():
    return _make_layer


@pytest.fixture(scope="session")
def make_positives():
    return _make_positives


@pytest.fixture(scope="session")
def columns_of():
    return _columns


@pytest.fixture(scope="session")
def train_densely():
    return _train_densely
