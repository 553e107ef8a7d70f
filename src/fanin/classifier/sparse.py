"""The fixed fan-in layer: every label reads F of the D inputs; which ones is learned by rewiring."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from fanin.classifier.interface import Classifier
from fanin.classifier.topology import check_index, check_shape, set_count
from fanin.kernels import dispatch
from fanin.kernels.drawing import mix_seed
from fanin.kernels.spec import Moments, SparseWeights, index_dtype

if TYPE_CHECKING:
    from fanin.kernels.spec import Backend, Loss, Positives, Prune, Update


class SparseLinear(Classifier):
    """A linear layer whose outputs each read ``fan_in`` inputs, with real sparse storage.

    A drop-in for :class:`torch.nn.Linear` in any model (``forward`` is differentiable), and an output layer for huge
    label counts through :meth:`train_step` and :meth:`topk`, which never hold a (B, L) or (L, D) array.

    Method: fixed fan-in sparsity with SET rewiring (Schultheis and Babbar, ECML 2023; Ullah et al., NeurIPS 2024).

    Args:
        in_features: D.
        out_features: L.
        fan_in: F, inputs a label reads.
        group_size: G, consecutive labels that share one index set; 1 gives every label its own, L or more one to all.
        bias: whether each label has a bias.
        seed: of the index sets and weights.
        initial_scale: weights and bias start uniform within initial_scale / sqrt(F); 0 starts at zero.
        device: where the tensors lie.
        dtype: of weights and bias, float32 by default.
        backend: "reference" or "cpu" to force one; None takes FANIN_BACKEND, else the fastest.

    Attributes:
        weight: (L, F).
        index: (ceil(L / G), F), uint16 up to 65,536 inputs, int32 beyond.
        bias: (L,) or None.

    Raises:
        ConfigError: fan_in or group_size cannot be.
        BackendError: the backend asked for cannot serve.

    >>> layer = SparseLinear(16, 1000, fan_in=4)
    >>> layer(torch.ones(2, 16)).shape
    torch.Size([2, 1000])
    >>> layer.nbytes()
    {'weight': 16000, 'index': 8000, 'bias': 4000}
    """

    index: Tensor

    def __init__(
        self,
        in_features: int,
        out_features: int,
        fan_in: int,
        group_size: int = 1,
        *,
        bias: bool = True,
        seed: int = 0,
        initial_scale: float = 1.0,
        device: torch.device | str | None = None,
        dtype: torch.dtype = torch.float32,
        backend: str | None = None,
    ) -> None:
        super().__init__(in_features, out_features)
        check_shape(in_features, fan_in, group_size)
        self.fan_in = fan_in
        self.group_size = min(group_size, out_features)
        self.backend = backend
        self.weight = nn.Parameter(torch.empty(out_features, fan_in, device=device, dtype=dtype))
        self.bias = nn.Parameter(torch.empty(out_features, device=device, dtype=dtype)) if bias else None
        sets = set_count(out_features, group_size)
        if self.weight.is_meta:
            index = torch.empty(sets, fan_in, dtype=index_dtype(in_features), device="meta")
        else:
            # Index sets are drawn on the CPU on every device, so that a seed means the same sets everywhere.
            drawer = dispatch.choose(torch.device("cpu"), torch.float32, backend).backend
            index = drawer.draw_index(sets, fan_in, in_features, mix_seed(seed, 0))
            self._draw_weights(initial_scale, fan_in, seed)
        self.register_buffer("index", index.to(self.weight.device))

    def forward(self, x: Tensor) -> Tensor:
        """Logits (..., L) of x (..., D); differentiable once by x, weight and bias."""
        self._check_features(x)
        rows = x.reshape(-1, self.in_features).contiguous()
        logits: Tensor = _SparseLinearFunction.apply(rows, self.weight, self.bias, self)  # type: ignore[no-untyped-call]
        return logits.reshape(*x.shape[:-1], self.out_features)

    def train_step(
        self, x: Tensor, positives: Positives, loss: Loss, update: Update, *, weight: float = 1.0
    ) -> tuple[float, Tensor]:
        """One fused step; see :meth:`Classifier.train_step`."""
        x, positives, moments, scale = self._begin_step(x, positives, update, weight)
        result = self._backend().train_step(
            self._weights(), moments, x, positives, loss=loss, update=update, step=self.steps, scale=scale
        )
        return result.loss, result.dx

    def topk(self, x: Tensor, k: int, exclude: Positives | None = None) -> tuple[Tensor, Tensor]:
        """The k best labels a row; see :meth:`Classifier.topk`."""
        x = self._checked_input(x)
        exclude = None if exclude is None else self._checked_positives(exclude, len(x))
        return self._backend().topk(self._weights(), x, self._checked_k(k), exclude)

    def rewire(self, prune: Prune, seed: int) -> Tensor:
        """Prune the weakest connections and regrow as many at random (SET); weights and state there become zero.

        Args:
            prune: how many and which.
            seed: a fresh one for every rewiring.

        Returns:
            How many connections each index set replaced, (ceil(L / G),) int32.
        """
        return self._backend().rewire(self._weights(), self._moments or Moments(), prune, seed)

    def nbytes(self) -> dict[str, int]:
        """Bytes of weights, index sets and bias."""
        parts = {"weight": self.weight.nbytes, "index": self.index.nbytes}
        return parts if self.bias is None else parts | {"bias": self.bias.nbytes}

    def settings(self) -> dict[str, Any]:
        """Constructor arguments that fix the shapes."""
        return {
            "in_features": self.in_features,
            "out_features": self.out_features,
            "fan_in": self.fan_in,
            "group_size": self.group_size,
            "bias": self.bias is not None,
        }

    def extra_repr(self) -> str:
        """The settings, for print(module)."""
        return ", ".join(f"{name}={value}" for name, value in self.settings().items())

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        index = state_dict.get(f"{prefix}index")
        if index is not None and not index.is_meta:
            check_index(index, tuple(self.index.shape), self.in_features)
        super()._load_from_state_dict(state_dict, prefix, *args)

    def _backend(self) -> Backend:
        return dispatch.choose(self.weight.device, self.weight.dtype, self.backend).backend

    def _weights(self) -> SparseWeights:
        bias = None if self.bias is None else self.bias.detach()
        return SparseWeights(self.weight.detach(), self.index, bias, self.group_size, self.in_features)


class _SparseLinearFunction(torch.autograd.Function):
    """The layer for autograd; the gradients come from the backend."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, layer: SparseLinear) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.index, ctx.layer = layer.index, layer
        tensors = SparseWeights(weight, layer.index, bias, layer.group_size, layer.in_features)
        return layer._backend().forward(tensors, x)  # noqa: SLF001 - one subject, two classes

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None, None]:
        x, weight = ctx.saved_tensors
        layer, grad = ctx.layer, grad.contiguous()
        backend = layer._backend()  # noqa: SLF001
        tensors = SparseWeights(weight, ctx.index, None, layer.group_size, layer.in_features)
        need_x, need_weight, need_bias, _ = ctx.needs_input_grad
        return (
            backend.grad_input(tensors, grad) if need_x else None,
            backend.grad_weight(tensors, grad, x) if need_weight else None,
            grad.sum(0) if need_bias else None,
            None,
        )
