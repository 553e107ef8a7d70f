"""A router for a beam: a dense layer that is taught by a model which clusters hold a text's best labels."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch.nn.functional import pad

from fanin.classifier.dense import DenseLinear
from fanin.classifier.router import Router
from fanin.kernels.spec import AdamW, Loss, Positives

if TYPE_CHECKING:
    from torch import Tensor

    from fanin.training.progress import ProgressDisplay

_ROWS, _LEAST_STEPS, _EPOCHS, _RATE = 512, 200, 8, 5e-3
_LEAST_SHARE = 1e-5


def train_router(inputs: Tensor, targets: Tensor, clusters: int, seed: int, display: ProgressDisplay) -> Router:
    """A dense layer trained to tell which clusters hold the best labels of each text.

    Args:
        inputs: (N, Q) float32, what it reads of the texts.
        targets: (N, k) int64, the clusters of each text's best labels, below ``clusters``; -1 for none.
        clusters: R, may be 0.
        seed: of the order of the texts.
        display: told of the progress.
    """
    if not clusters:
        return Router(inputs.new_zeros(0, inputs.shape[1], dtype=torch.bfloat16), inputs.new_zeros(0))
    mean, scale = inputs.mean(0), inputs.std(0, correction=0).clamp_min(1e-6)
    scale = torch.maximum(scale, scale.mean())  # rare inputs must not become large ones
    layer = DenseLinear(inputs.shape[1], clusters, initial_scale=0.0)
    held = targets >= 0  # (N, k)
    share = torch.bincount(targets[held], minlength=clusters) / len(targets)
    layer.set_bias(torch.logit(share.clamp(_LEAST_SHARE, 1 - _LEAST_SHARE)).float())
    rows = min(_ROWS, len(inputs))
    steps = max(_LEAST_STEPS, _EPOCHS * math.ceil(len(inputs) / rows))
    generator = torch.Generator().manual_seed(seed % 2**63)
    display.start("router", steps * rows)
    for step in range(steps):
        part = torch.randint(len(inputs), (rows,), generator=generator)
        indptr = pad(held[part].sum(1).cumsum(0), (1, 0))
        positives = Positives(indptr, targets[part][held[part]])
        rate = _RATE * (1 - step / steps)
        layer.train_step((inputs[part] - mean) / scale, positives, Loss.BCE, AdamW(rate))
        display.advance(rows)
    weight = (layer.weight.detach() / scale).bfloat16()
    assert layer.bias is not None
    return Router(weight, layer.bias.detach() - weight.float() @ mean)
