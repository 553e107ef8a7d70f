"""Logits of a fixed fan-in layer for autograd; they and the gradients come from a backend."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from fanin.kernels import dispatch
from fanin.kernels.spec import SparseWeights

if TYPE_CHECKING:
    from collections.abc import Callable


def sparse_logits(
    x: Tensor, weight: Tensor, bias: Tensor | None, index: Tensor, group_size: int, backend: str | None = None
) -> Tensor:
    """Logits of every row and label; differentiable once by x, weight and bias.

    torch.compile cannot look into a backend: it stops before this and goes on behind it.

    Args:
        x: (B, D), contiguous, of the dtype that is computed in.
        weight: (L, F), as :class:`fanin.kernels.spec.SparseWeights` holds it; where it is float8 it gets no gradient.
        bias: (L,), or None.
        index: (ceil(L / G), F), what a group of labels reads; must not change before the gradients are there.
        group_size: G.
        backend: "reference", "cpu" or "triton" to force one; see :func:`fanin.kernels.dispatch.choose`.

    Returns:
        (B, L), of x's dtype.

    Raises:
        BackendError: the backend asked for cannot serve.

    >>> weight, index = torch.tensor([[1.0, 2.0], [3.0, 4.0]]), torch.tensor([[0, 1], [1, 2]], dtype=torch.uint16)
    >>> sparse_logits(torch.tensor([[10.0, 20.0, 30.0]]), weight, None, index, group_size=1)
    tensor([[ 50., 180.]])
    """
    run = _uncompiled_logits if torch.compiler.is_compiling() else _logits
    return run(x, weight, bias, index, group_size, backend)


def _logits(*arguments: Any) -> Tensor:
    logits: Tensor = _SparseLogits.apply(*arguments)  # type: ignore[no-untyped-call]
    return logits


def _uncompiled_logits(*arguments: Any) -> Tensor:
    uncompiled: Callable[..., Tensor] = torch.compiler.disable(_logits)  # type: ignore[no-untyped-call]
    return uncompiled(*arguments)


# The decorator of torch that says this takes seconds to import.
_uncompiled_logits._torchdynamo_disable = True  # type: ignore[attr-defined]  # noqa: SLF001 - as its decorator does


class _SparseLogits(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, index: Tensor, group_size: int, backend: str | None
    ) -> Tensor:
        chosen = dispatch.choose(weight.device, weight.dtype, backend).backend
        ctx.save_for_backward(x, weight)
        ctx.backend, ctx.index, ctx.group_size = chosen, index, group_size
        return chosen.forward(SparseWeights(weight, index, bias, group_size, x.shape[1]), x)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        layer, grad = SparseWeights(weight, ctx.index, None, ctx.group_size, x.shape[1]), grad.contiguous()
        need_x, need_weight, need_bias, *_ = ctx.needs_input_grad
        return (
            ctx.backend.grad_input(layer, grad) if need_x else None,
            ctx.backend.grad_weight(layer, grad, x) if need_weight else None,
            grad.sum(0) if need_bias else None,
            None,
            None,
            None,
        )
