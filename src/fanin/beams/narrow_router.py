"""A trained router in fewer dimensions: as few as change little in what it chooses."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from fanin.classifier.router import Router

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from torch import Tensor

_LEAST_VARIANCE = 1e-10  # of the inputs along an axis, as a share of the largest one
_TINY = 1e-30  # where none varies


def narrow_routers(router: Router, inputs: Tensor, ranks: Iterable[int]) -> Iterator[Router]:
    """The router with a projection of its inputs to some numbers of dimensions.

    Of all layers of that rank the one whose scores of these texts differ least from the router's, in the mean of their
    squares: principal components of the scores (reduced-rank regression: Izenman, J. Multivariate Analysis 1975).

    Args:
        router: without a projection.
        inputs: (N, Q) float32, what it reads of some texts.
        ranks: each at most Q.
    """
    mean = inputs.mean(0)
    centred = (inputs - mean).double()
    variance, axes = torch.linalg.eigh(centred.T @ centred / len(inputs))
    deviation = variance.clamp_min(max(float(variance[-1]) * _LEAST_VARIANCE, _TINY)).sqrt()
    root, inverse = (axes * deviation) @ axes.T, (axes / deviation) @ axes.T  # (Q, Q), of the covariance
    weight = router.weight.float()
    products = (weight.T @ weight).double()  # (Q, Q)
    components = torch.linalg.eigh(root @ products @ root)[1].flip(1)  # those that scores depend on most come first
    for rank in ranks:
        first = components[:, :rank]
        projection = (first.T @ inverse).float()  # (rank, Q)
        narrow = (weight @ (root @ first).float()).bfloat16()  # (R, rank)
        bias = router.bias + weight @ mean - narrow.float() @ (projection @ mean)
        yield Router(narrow, bias, projection)
