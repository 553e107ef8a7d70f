"""Errors of the kernels against float64: largest error over largest value, beside those of plain torch."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from benchmarks.gpu.layers import DTYPES, random_batch, random_layer
from benchmarks.gpu.recorder import guarded

from fanin.kernels.positives import dense_block
from fanin.kernels.spec import SGD, Loss, Moments

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.gpu.recorder import Row
    from benchmarks.gpu.sizes import Sizes

    from fanin.kernels.spec import Positives, SparseWeights
    from fanin.kernels.triton.backend import TritonBackend

_UPDATE = SGD(1.0, momentum=0.5)  # the first momentum is the gradient itself


def errors(backend: TritonBackend, device: torch.device, sizes: Sizes) -> Iterator[Row]:
    """Of logits, dx and the weights' gradient of one step, a row for every format, group size and loss."""
    for name, dtype in DTYPES.items():
        for group in (1, sizes.group):
            for loss in Loss:
                yield guarded(
                    lambda dtype=dtype, group=group, loss=loss: _errors(backend, device, sizes, dtype, group, loss),
                    weights=name,
                    group=group,
                    loss=str(loss),
                )


def _errors(
    backend: TritonBackend, device: torch.device, sizes: Sizes, dtype: torch.dtype, group: int, loss: Loss
) -> Row:
    L, D, B = sizes.error_labels, sizes.features, sizes.batch
    layer = random_layer(backend, L, D, sizes.fan_ins[0], group, dtype)
    x, positives = random_batch(B, D, L, device)
    columns = layer.index.to(torch.int64).repeat_interleave(group, dim=0)[:L]
    exact = _dense(layer, columns, x, positives, loss, torch.float64)
    plain = _dense(layer, columns, x, positives, loss, torch.float32 if dtype is torch.float32 else torch.bfloat16)
    logits = backend.forward(layer, x)
    own = replace(layer, weight=layer.weight.clone(), bias=layer.bias.clone())  # type: ignore[union-attr]
    moments = Moments((torch.zeros(layer.weight.shape, device=device),), (torch.zeros(L, device=device),))
    options = {"loss": loss, "update": _UPDATE, "step": 1, "scale": 1 / B}
    _, dx, _ = backend.launch_train_step(own, moments, x, positives, **options)
    found = {"logits": logits, "dx": dx, "weight_gradient": moments.weight[0]}
    row: Row = {}
    for part, value in found.items():
        row[part] = _error(value, exact[part])
        row[f"{part}_plain_torch"] = _error(plain[part], exact[part])
    return row


def _error(found: torch.Tensor, exact: torch.Tensor) -> float:
    return float((found.double() - exact).abs().max() / exact.abs().max())


def _dense(
    layer: SparseWeights, columns: torch.Tensor, x: torch.Tensor, positives: Positives, loss: Loss, dtype: torch.dtype
) -> dict[str, torch.Tensor]:
    """What dense arithmetic in a dtype makes of the same step."""
    L = len(layer.weight)
    dense = torch.zeros(L, layer.in_features, dtype=dtype, device=x.device)
    dense.scatter_(1, columns, layer.weight.to(dtype))
    x = x.to(dtype)
    assert layer.bias is not None
    logits = x @ dense.T + layer.bias.to(dtype)
    sign = 2 * dense_block(positives, 0, L, dtype) - 1
    slope = torch.sigmoid(-sign * logits) if loss is Loss.BCE else 2 * (1 - sign * logits).clamp_min(0)
    grad = -sign * slope / len(x)
    return {"logits": logits, "dx": grad @ dense, "weight_gradient": (grad.T @ x).gather(1, columns)}
