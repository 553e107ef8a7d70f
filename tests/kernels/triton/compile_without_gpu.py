"""Compiles the backend's kernels for a GPU that is not there, with the arguments that the launchers give them.

    python compile_without_gpu.py ARCH all|each

Triton's driver is played by one that says it is a GPU of compute capability ARCH (80 or 90) and launches nothing, so
that what is compiled is what would run, specialised as it would be, down to machine code. "each" compiles every kernel
once, with small tiles; "all" compiles every entry of the tuning tables and every format. Prints one line of JSON a
kernel: its name, and its shared memory in bytes.
"""

import json
import sys
from types import SimpleNamespace

import torch
from triton.backends.compiler import GPUTarget
from triton.runtime import driver

from fanin.kernels.spec import SGD, AdamW, Loss, Moments, Positives, Prune, SharedScores, SparseWeights
from fanin.kernels.triton import grouped, grouped_gradients, per_label, per_label_weights, rounding, sets, topk
from fanin.kernels.updates import zero_moments

SHARED_MEMORY = {80: 166_912, 90: 232_448}  # bytes that a program can have on an A100 and an H100


class _Driver:
    def __init__(self, arch):
        self._arch = arch
        self.utils = SimpleNamespace(
            get_device_properties=lambda device: {"max_shared_mem": SHARED_MEMORY[arch]},
            load_binary=self._load,
        )

    @staticmethod
    def _load(name, kernel, shared, device):
        assert kernel.startswith(b"\x7fELF")
        print(json.dumps({"kernel": name, "shared": shared}), flush=True)
        return 1, 1, 0, 0, 1024  # module, function, registers, spills, threads

    @staticmethod
    def launcher_cls(source, metadata):
        return lambda *args: None

    @staticmethod
    def get_current_device():
        return 0

    @staticmethod
    def get_current_stream(device):
        return 0

    def get_current_target(self):
        return GPUTarget("cuda", self._arch, 32)


def _layer(L, D, F, G, dtype, first_label=0):
    return SparseWeights(
        weight=torch.zeros(L, F).to(dtype),
        index=torch.zeros(-(-L // G), F, dtype=torch.uint16 if D <= 65_536 else torch.int32),
        bias=torch.zeros(L),
        group_size=G,
        in_features=D,
        first_label=first_label,
    )


def _step(layer, B, loss, update, *, extras):
    """A training step; with extras, with shared scores and with weights and margins of positives."""
    L, x = len(layer.weight), torch.zeros(B, layer.in_features)
    positives = Positives(torch.arange(B + 1), torch.arange(B) % L)
    if extras:
        positives = positives._replace(weights=torch.ones(B), margins=torch.zeros(B))
    shared = SharedScores(torch.zeros(-(-L // 16), B), 16) if extras else None
    moments = zero_moments(update, layer.weight, layer.bias)
    family = grouped if grouped.serves(layer) else per_label
    family.train_step(layer, moments, x, positives, loss, update, 1, 1 / B, shared)


def _all_operations(layer, B):
    """Everything but a training step."""
    x, grad, exclude = torch.zeros(B, layer.in_features), torch.zeros(B, len(layer.weight)), None
    topk.topk(layer, x, 3, exclude, None)
    family = grouped_gradients if grouped.serves(layer) else per_label_weights
    family.grad_input(layer, grad)
    family.grad_weight(layer, grad, x)
    sets.rewire(layer, Moments((torch.zeros(layer.weight.shape),)), Prune(0.3), 1, layer.in_features)


def _each():
    _step(_layer(64, 40, 16, 16, torch.float8_e4m3fn), 16, Loss.BCE, SGD(0.1), extras=False)
    _step(_layer(64, 40, 16, 1, torch.float8_e4m3fn), 16, Loss.SQUARED_HINGE, SGD(0.1, 0.9), extras=True)
    _all_operations(_layer(64, 40, 16, 16, torch.float32), 16)
    _all_operations(_layer(64, 40, 16, 1, torch.bfloat16), 16)
    rounding.round_into(torch.zeros(9), torch.zeros(9).bfloat16(), 0, 1, 0)
    sets.draw_index(9, 4, 40, 1, torch.device("cpu"))


def _all():
    formats = (torch.float32, torch.bfloat16, torch.float8_e4m3fn)
    for dtype in formats:
        for F in (16, 32, 64, 128, 256):
            _step(_layer(640, 768, F, 32, dtype), 128, Loss.BCE, SGD(0.1), extras=False)
        for G in (1, 32):
            for update in (SGD(0.1, 0.9), AdamW(0.1)):
                _step(_layer(640, 768, 64, G, dtype), 256, Loss.SQUARED_HINGE, update, extras=True)
            _all_operations(_layer(640, 768, 64, G, dtype), 128)
        _step(_layer(640, 70_000, 32, 1, dtype), 128, Loss.BCE, SGD(0.1), extras=True)
        _step(_layer(640, 768, 33, 24, dtype), 7, Loss.BCE, SGD(0.1), extras=True)
    for G in (1, 32):  # a part of a layer, whose weights and sets have numbers beyond 32 bits
        part = _layer(640, 768, 32, G, torch.bfloat16, first_label=2**37)
        _step(part, 128, Loss.BCE, SGD(0.1), extras=False)
        sets.rewire(part, Moments(), Prune(0.3), 1, 768)
    sets.draw_index(9, 4, 40, 1, torch.device("cpu"), first_set=2**37)
    torch.set_float32_matmul_precision("high")  # TensorFloat-32
    _step(_layer(640, 768, 64, 32, torch.float32), 128, Loss.BCE, SGD(0.1), extras=False)
    torch.use_deterministic_algorithms(True)  # a fixed order
    _step(_layer(640, 768, 64, 32, torch.float32), 128, Loss.BCE, SGD(0.1), extras=True)


if __name__ == "__main__":
    torch.set_num_threads(1)
    matrix_product = torch.mm
    torch.mm = lambda a, b, out_dtype=None: matrix_product(a.float(), b.float())  # the CPU's has no out_dtype
    driver.set_active(_Driver(int(sys.argv[1])))
    {"each": _each, "all": _all}[sys.argv[2]]()
