"""Memory and time of the whole training step: encoder, classifier, backward pass and both updates."""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING

import torch
from benchmarks.gpu.bert import Bert
from benchmarks.gpu.clock import milliseconds
from benchmarks.gpu.dense_step import DenseStep
from benchmarks.gpu.layers import DTYPES, random_batch, random_layer
from benchmarks.gpu.recorder import guarded

from fanin.kernels.spec import SGD, Loss, Moments
from fanin.training.bfloat16_adamw import BFloat16AdamW

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from benchmarks.gpu.recorder import Row
    from benchmarks.gpu.sizes import Sizes

    from fanin.kernels.spec import Positives
    from fanin.kernels.triton.backend import TritonBackend

    Classifier = Callable[[torch.Tensor, Positives], torch.Tensor]  # a step; gives dx

_DENSE_CHUNK = 32_768
_STEPS = 3


def whole_steps(backend: TritonBackend, device: torch.device, sizes: Sizes) -> Iterator[Row]:
    """A row for every number of labels and layout; the largest F = 64, G = 32, fp8 ones first."""
    small, *others = sizes.fan_ins
    cases = [(L, small, sizes.group, "fp8") for L in sizes.memory_labels]
    cases += [(L, small, G, name) for L in sizes.memory_labels for G, name in ((1, "fp8"), (sizes.group, "bf16"))]
    cases += [(L, F, sizes.group, "fp8") for L in sizes.memory_labels for F in others]
    for L, F, G, name in cases:
        yield guarded(
            lambda L=L, F=F, G=G, name=name: _peak(
                lambda: _sparse(backend, sizes, L, F, G, DTYPES[name]), device, sizes, L
            ),
            classifier="sparse",
            labels=L,
            fan_in=F,
            group=G,
            weights=name,
        )
    for L in sizes.memory_labels:
        if sizes.dense_labels >= L:
            yield guarded(
                lambda L=L: _peak(lambda: _dense(sizes, L, device), device, sizes, L),
                classifier="dense",
                labels=L,
                weights="bf16",
            )


def _sparse(backend: TritonBackend, sizes: Sizes, L: int, F: int, G: int, dtype: torch.dtype) -> Classifier:
    layer, steps = random_layer(backend, L, sizes.features, F, G, dtype), [0]

    def step(x: torch.Tensor, positives: Positives) -> torch.Tensor:
        steps[0] += 1
        options = {"loss": Loss.BCE, "update": SGD(1e-4), "step": steps[0], "scale": 1 / len(x)}
        return backend.train_step(layer, Moments(), x, positives, **options).dx

    return step


def _dense(sizes: Sizes, L: int, device: torch.device) -> Classifier:
    layer = DenseStep(L, sizes.features, _DENSE_CHUNK, device)
    return lambda x, positives: layer(x, layer.places(positives), 1e-4)


def _peak(build: Callable[[], Classifier], device: torch.device, sizes: Sizes, L: int) -> Row:
    """Peaks of some steps, everything that they need included and nothing from before."""
    gc.collect()
    before = torch.cuda.memory_allocated() if device.type == "cuda" else 0
    torch.manual_seed(0)
    with torch.device(device):
        encoder = Bert(sizes.layers, sizes.features, sizes.vocabulary).to(torch.bfloat16)
    parameters = [p for p in encoder.parameters() if p.requires_grad]
    optimizer = BFloat16AdamW([{"params": parameters, "lr": 1e-5, "weight_decay": 0.01}], "kahan")
    classifier = build()
    tokens = torch.randint(sizes.vocabulary, (sizes.batch, sizes.tokens), device=device)
    _, positives = random_batch(sizes.batch, 1, L, device)
    if device.type == "cuda":  # what only the making took is none of the step's
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()

    def step() -> None:
        x = encoder(tokens)
        x.backward(classifier(x.detach(), positives))
        optimizer.step()

    for _ in range(_STEPS if device.type == "cuda" else 1):
        step()
    row: Row = {}
    if device.type == "cuda":
        torch.cuda.synchronize()
        free, total = torch.cuda.mem_get_info(device)
        row = {
            "allocated_gib": (torch.cuda.max_memory_allocated() - before) / 2**30,
            "reserved_gib": torch.cuda.max_memory_reserved() / 2**30,
            "device_gib": (total - free) / 2**30,
        }
    return row | {"step_ms": milliseconds(step, device)}
