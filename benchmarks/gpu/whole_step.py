"""Memory and time of the whole training step: encoder, classifier, backward pass and both updates."""

from __future__ import annotations

import gc
from contextlib import contextmanager
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
    """A row for every number of labels in layouts that matter most, for a small card, and for the dense layer."""
    F, G = sizes.fan_ins[0], sizes.group
    for L in sizes.memory_labels:
        yield _sparse_row(backend, device, sizes, (L, F, G, "fp8"))
    yield _sparse_row(backend, device, sizes, (sizes.card_labels, F, G, "fp8"), sizes.card_bytes)
    for L in sizes.memory_labels:
        if sizes.dense_labels >= L:
            yield guarded(
                lambda L=L: _peak(lambda: _dense(sizes, L, device), device, sizes, L),
                classifier="dense",
                labels=L,
                weights="bf16",
            )
    for L in sizes.memory_labels:
        for case in _second(sizes):
            yield _sparse_row(backend, device, sizes, (L, *case))


def other_whole_steps(backend: TritonBackend, device: torch.device, sizes: Sizes) -> Iterator[Row]:
    """What :func:`whole_steps` leaves of all layouts: fan-ins, groups and formats."""
    known = {(sizes.fan_ins[0], sizes.group, "fp8"), *_second(sizes)}
    layouts = ((F, G, name) for F in sizes.fan_ins for G in (sizes.group, 1) for name in ("fp8", "bf16"))
    for F, G, name in layouts:
        for L in sizes.memory_labels if (F, G, name) not in known else ():
            yield _sparse_row(backend, device, sizes, (L, F, G, name))


def _second(sizes: Sizes) -> list[tuple[int, int, str]]:
    """Fan-in, group and format; each time one thing is another: labels one by one, more bits, more weights."""
    F, G = sizes.fan_ins[0], sizes.group
    return [(F, 1, "fp8"), (F, G, "bf16"), (sizes.fan_ins[-1], G, "fp8")]


def _sparse_row(
    backend: TritonBackend,
    device: torch.device,
    sizes: Sizes,
    case: tuple[int, int, int, str],
    card_bytes: int | None = None,
) -> Row:
    """Of one number of labels, fan-in, group size and format; on a card of so much memory, by default of this one's."""
    L, F, G, name = case

    def measure() -> Row:
        if card_bytes is None or device.type != "cuda":
            return _peak(lambda: _sparse(backend, sizes, L, F, G, DTYPES[name]), device, sizes, L)
        try:
            with _card(device, card_bytes):
                return {"fits": True, **_peak(lambda: _sparse(backend, sizes, L, F, G, DTYPES[name]), device, sizes, L)}
        except torch.OutOfMemoryError:
            return {"fits": False}

    names: Row = {"classifier": "sparse", "labels": L, "fan_in": F, "group": G, "weights": name}
    return guarded(measure, **names, **({} if card_bytes is None else {"card_gib": card_bytes / 2**30}))


@contextmanager
def _card(device: torch.device, total: int) -> Iterator[None]:
    """Let torch hold no more than a card of ``total`` bytes has besides what CUDA itself takes of it here."""
    gc.collect()
    torch.cuda.empty_cache()
    free, own = torch.cuda.mem_get_info(device)
    context = own - free - torch.cuda.memory_reserved(device)
    torch.cuda.set_per_process_memory_fraction(min(1.0, max(total - context, 1) / own), device)
    try:
        yield
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0, device)


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
