"""Times of the classifier's step beside the dense one, and of every other operation with its share of the roofline."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
from benchmarks.gpu.clock import graph_milliseconds, milliseconds
from benchmarks.gpu.dense_step import CHUNKS, DenseStep
from benchmarks.gpu.layers import DTYPES, random_batch, random_layer
from benchmarks.gpu.recorder import guarded

from fanin.kernels.spec import SGD, Loss, Moments, Prune

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from benchmarks.gpu.recorder import Row
    from benchmarks.gpu.sizes import Sizes

    from fanin.kernels.spec import SparseWeights
    from fanin.kernels.triton.backend import TritonBackend

_RATE = 1e-4


class Ceilings(NamedTuple):
    """What the machine can do.

    Attributes:
        bytes: read and written a second.
        bfloat16: operations a second.
        float32: operations a second.
    """

    bytes: float
    bfloat16: float
    float32: float

    def shares(self, layer: SparseWeights, time: float, bytes_moved: float, operations: float) -> Row:
        """How much of the roofline a time in milliseconds reaches, and which side of it is nearer."""
        rate = self.float32 if layer.weight.dtype is torch.float32 else self.bfloat16
        by_bytes, by_operations = bytes_moved / self.bytes * 1e3, operations / rate * 1e3
        nearer = "bytes" if by_bytes > by_operations else "operations"
        return {"roofline_share": max(by_bytes, by_operations) / time, "roofline_limit": nearer}


def dense_steps(device: torch.device, sizes: Sizes) -> Iterator[Row]:
    """The dense layer's step, with every chunk."""
    L = min(sizes.step_labels, sizes.dense_labels)
    x, positives = random_batch(sizes.batch, sizes.features, L, device)
    for chunk in CHUNKS:
        yield guarded(
            lambda chunk=chunk: _dense_row(DenseStep(L, sizes.features, chunk, device), x, positives, device),
            labels=L,
            chunk=chunk,
        )


def _dense_row(step: DenseStep, x: torch.Tensor, positives: object, device: torch.device) -> Row:
    places = step.places(positives)  # type: ignore[arg-type]
    return _times(lambda: step(x, places, _RATE), device)


def sparse_steps(
    backend: TritonBackend, device: torch.device, sizes: Sizes, ceilings: Ceilings, dense_ms: float | None
) -> Iterator[Row]:
    """The sparse layer's step: the wanted shapes first, then the other formats and losses."""
    wanted = [(F, G, "fp8", Loss.BCE) for G in (sizes.group, 1) for F in sizes.fan_ins]
    wanted += [(sizes.fan_ins[0], sizes.group, name, Loss.BCE) for name in ("bf16", "fp32")]
    wanted += [(sizes.fan_ins[0], G, "fp8", Loss.SQUARED_HINGE) for G in (sizes.group, 1)]
    wanted += [(sizes.fan_ins[0], 1, "bf16", Loss.BCE)]
    for F, G, name, loss in wanted:
        yield guarded(
            lambda F=F, G=G, name=name, loss=loss: _sparse_row(
                backend, device, sizes, ceilings, dense_ms, (F, G, DTYPES[name], loss)
            ),
            labels=sizes.step_labels,
            fan_in=F,
            group=G,
            weights=name,
            loss=str(loss),
        )


def _sparse_row(
    backend: TritonBackend,
    device: torch.device,
    sizes: Sizes,
    ceilings: Ceilings,
    dense_ms: float | None,
    case: tuple[int, int, torch.dtype, Loss],
) -> Row:
    F, G, dtype, loss = case
    L, B = sizes.step_labels, sizes.batch
    layer = random_layer(backend, L, sizes.features, F, G, dtype)
    x, positives = random_batch(B, sizes.features, L, device)
    update = SGD(_RATE)

    def step() -> object:
        return backend.launch_train_step(layer, Moments(), x, positives, loss=loss, update=update, step=1, scale=1 / B)

    row = _times(step, device)
    moved = 2 * layer.weight.nbytes + layer.index.nbytes + 2 * 4 * L
    row |= ceilings.shares(layer, row["ms"], moved, 6 * L * F * B)
    if dense_ms is not None:
        row["dense_over_sparse"] = dense_ms / row["ms"]
    return row


def other_operations(backend: TritonBackend, device: torch.device, sizes: Sizes, ceilings: Ceilings) -> Iterator[Row]:
    """Every operation that is no training step, in groups and one by one."""
    F = sizes.fan_ins[0]
    for G in (sizes.group, 1):
        layer = random_layer(backend, sizes.step_labels, sizes.features, F, G, torch.float8_e4m3fn)
        for name, work, moved, operations in _operations(backend, device, sizes, layer):
            yield guarded(
                lambda work=work, moved=moved, operations=operations, layer=layer: _operation_row(
                    work, device, ceilings, layer, moved, operations
                ),
                operation=name,
                labels=sizes.step_labels,
                fan_in=F,
                group=G,
            )


def _operation_row(
    work: Callable[[], object],
    device: torch.device,
    ceilings: Ceilings,
    layer: SparseWeights,
    moved: float,
    operations: float,
) -> Row:
    time = milliseconds(work, device)
    return {"ms": time, **ceilings.shares(layer, time, moved, operations)}


def _operations(
    backend: TritonBackend, device: torch.device, sizes: Sizes, layer: SparseWeights
) -> Iterator[tuple[str, Callable[[], object], float, float]]:
    """Name, work, bytes that must move, operations."""
    L, F = layer.weight.shape
    B, D = sizes.batch, sizes.features
    x, _ = random_batch(B, D, L, device)
    stored = layer.weight.nbytes + layer.index.nbytes
    logits, products = 4 * B * L, 2 * L * F * B
    yield "topk", lambda: backend.topk(layer, x, 5, None), stored, products
    yield "rewire", lambda: backend.rewire(layer, Moments(), Prune(0.25), seed=3), stored, 0
    yield "draw_index", lambda: backend.draw_index(*layer.index.shape, D, 3), layer.index.nbytes, 0
    if device.type == "cuda" and 3 * logits > torch.cuda.mem_get_info(device)[0]:
        return
    grad = backend.forward(layer, x)
    yield "forward", lambda: backend.forward(layer, x), stored + logits, products
    yield "grad_input", lambda: backend.grad_input(layer, grad), stored + logits, products
    yield "grad_weight", lambda: backend.grad_weight(layer, grad, x), stored + logits + 4 * L * F, products


def _times(work: Callable[[], object], device: torch.device) -> Row:
    """Milliseconds of a call as the processor launches it, and as a CUDA graph replays it; the smaller one counts."""
    launched = milliseconds(work, device)
    try:
        replayed = graph_milliseconds(work, device)
    except RuntimeError as error:  # a graph cannot hold it: the launched time stands
        return {"ms": launched, "launched_ms": launched, "graph_error": str(error)}
    return {"ms": min(launched, replayed or launched), "launched_ms": launched, "graph_ms": replayed}
