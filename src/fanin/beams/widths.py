"""How many clusters a beam must choose for a recall, and how few dimensions its router can do with."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from fanin.beams.narrow_router import narrow_routers

if TYPE_CHECKING:
    from torch import Tensor

    from fanin.classifier.beam import Beam
    from fanin.classifier.router import Router

LEAST_CLUSTERS = 8192
"""Fewer are scored so fast that a router in fewer dimensions saves less than a wider beam costs."""

_WIDER = 1.1  # times as wide as with the whole router a beam may become
_RANK_STEP = 32
_MOST_RANK = 0.75  # of the inputs: products with more take as long
_ROWS = 64  # whose scores are held at a time


def narrowest(beam: Beam, taught: Tensor, inputs: Tensor, targets: Tensor, recall: float) -> Beam:
    """This beam with the smallest width that reaches a recall.

    Of :data:`LEAST_CLUSTERS` and more its router becomes one of the fewest dimensions that make it at most a tenth
    wider.

    Args:
        beam: of any width, with the whole router.
        taught: (N, Q) float32, what the router read of the texts that it was taught with.
        inputs: (n, Q) float32, what it reads of others.
        targets: (n, k) int64, the clusters of their best labels; -1 for none.
        recall: share of the best labels, in (0, 1].
    """
    width = _least_width(beam.router, inputs, targets, recall)
    whole = replace(beam, width=width)
    if not LEAST_CLUSTERS <= len(beam.router) >= width:
        return whole
    ranks = range(_RANK_STEP, int(_MOST_RANK * taught.shape[1]) + 1, _RANK_STEP)
    for router in narrow_routers(beam.router, taught, ranks):
        wider = _least_width(router, inputs, targets, recall)
        if wider <= _WIDER * width:
            return replace(beam, width=wider, router=router)
    return whole


def _least_width(router: Router, inputs: Tensor, targets: Tensor, recall: float) -> int:
    """The smallest number of clusters that hold this share of the best labels."""
    ranks = []
    for start in range(0, len(inputs), _ROWS):
        part = slice(start, start + _ROWS)
        for scores, own in zip(router.scores(inputs[part]), targets[part], strict=True):
            routed = own[(own >= 0) & (own < len(scores))]
            ranks.append((scores[:, None] >= scores[routed]).sum(0) - 1)  # behind all that score the same
            ranks.append(own[own >= len(scores)])  # chosen by their numbers
            ranks.append(own[own < 0])  # labels of dense layers are always found
    ordered = torch.cat(ranks).sort().values
    return int(ordered[math.ceil(recall * len(ordered)) - 1].clamp_min(0)) + 1
