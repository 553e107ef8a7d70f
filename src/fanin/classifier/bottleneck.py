"""The dense bottleneck: x is projected to few features, and every label reads all of those. A baseline."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from fanin.classifier.dense import DENSE_CHUNK_SIZE, DenseLinear
from fanin.classifier.interface import Classifier
from fanin.classifier.optimizer_state import checked_state, named_state
from fanin.classifier.part_names import joined, split_by_part
from fanin.errors import ConfigError
from fanin.kernels.active_inputs import ActiveInputs
from fanin.kernels.drawing import mix_seed
from fanin.kernels.spec import moment_count
from fanin.kernels.updates import apply_update

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Self

    from fanin.kernels.spec import Loss, Positives, Update


class BottleneckLinear(Classifier):
    """Logits ``output(projection @ x)``: a dense layer whose weight matrix has the rank ``width``.

    It spends as many weights a label as a fixed fan-in layer of ``fan_in = width``, all on the same features: the
    baseline that says what it is worth that each label chooses its own (Schultheis and Babbar, ECML 2023, compare with
    it too). The projection has no bias and no activation function; it is trained by the same fused step.

    Args:
        in_features: D.
        out_features: L.
        width: F, features that the labels read.
        bias: whether each label has a bias.
        seed: of all weights.
        initial_scale: output weights and bias start uniform within initial_scale / sqrt(F); 0 starts at zero. The
            projection starts uniform within sqrt(3 / D) in any case, which keeps the variance of x.
        device: where the tensors lie.
        dtype: of all weights, float32 by default.
        chunk_size: labels worked on at a time; never changes the result.

    Attributes:
        projection: (F, D).
        output: the dense layer F -> L.

    Raises:
        ConfigError: the width cannot be.

    >>> BottleneckLinear(16, 1000, width=4).nbytes()
    {'projection': 256, 'output.weight': 16000, 'output.bias': 4000}
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        width: int,
        *,
        bias: bool = True,
        seed: int = 0,
        initial_scale: float = 1.0,
        device: torch.device | str | None = None,
        dtype: torch.dtype = torch.float32,
        chunk_size: int = DENSE_CHUNK_SIZE,
    ) -> None:
        super().__init__(in_features, out_features)
        if not 1 <= width <= in_features:
            raise ConfigError(
                f"width={width} must lie between 1 and the number of inputs, {in_features}: a bottleneck is narrower "
                "than its input; lower classifier.width or widen the encoder"
            )
        self._check_storage(dtype)
        self.projection = nn.Parameter(torch.empty(width, in_features, device=device, dtype=dtype))
        self._moments: tuple[Tensor, ...] | None = None
        if not self.projection.is_meta:
            bound = (3 / in_features) ** 0.5
            generator = torch.Generator(self.projection.device).manual_seed(mix_seed(seed, 0))
            with torch.no_grad():
                self.projection.uniform_(-bound, bound, generator=generator)
        self.output = DenseLinear(
            width,
            out_features,
            bias=bias,
            seed=seed,
            initial_scale=initial_scale,
            device=device,
            dtype=dtype,
            chunk_size=chunk_size,
        )

    @property
    def width(self) -> int:
        """F."""
        return len(self.projection)

    @property
    def connections(self) -> int:
        """How many weights tie features to labels, the projection's included."""
        return self.projection.numel() + self.output.connections

    def forward(self, x: Tensor) -> Tensor:
        """Logits (..., L) of x (..., D)."""
        self._check_features(x)
        logits: Tensor = self.output(functional.linear(x, self.projection))
        return logits

    @torch.no_grad()
    def train_step(
        self, x: Tensor | ActiveInputs, positives: Positives, loss: Loss, update: Update, *, weight: float = 1.0
    ) -> tuple[float, Tensor]:
        """One fused step; see :meth:`Classifier.train_step`."""
        values, columns = self._inputs(x)  # (B, A)
        projection = self.projection if columns is None else self.projection[:, columns]  # (F, A)
        value, hidden_grad = self.output.train_step(values @ projection.T, positives, loss, update, weight=weight)
        self.steps += 1
        dx = hidden_grad @ projection
        gradient = hidden_grad.T @ values
        if columns is not None:
            gradient = torch.zeros_like(self.projection).index_copy_(1, columns, gradient)
        if self._moments is None:
            self._moments = tuple(torch.zeros_like(self.projection) for _ in range(moment_count(update)))
        apply_update(update, self.projection, gradient, self._moments, self.steps)
        return value, dx

    @torch.no_grad()
    def topk(self, x: Tensor | ActiveInputs, k: int, exclude: Positives | None = None) -> tuple[Tensor, Tensor]:
        """The k best labels a row; see :meth:`Classifier.topk`."""
        values, columns = self._inputs(x)
        projection = self.projection if columns is None else self.projection[:, columns]
        return self.output.topk(values @ projection.T, k, exclude)

    def set_bias(self, bias: Tensor) -> None:
        """Set the biases; see :meth:`Classifier.set_bias`."""
        self.output.set_bias(bias)

    def nbytes(self) -> dict[str, int]:
        """Bytes of projection, output weights and bias."""
        return {"projection": self.projection.nbytes} | joined({"output": self.output.nbytes()})

    def settings(self) -> dict[str, Any]:
        """Constructor arguments that fix the shapes."""
        return {
            "in_features": self.in_features,
            "out_features": self.out_features,
            "width": self.width,
            "bias": self.output.bias is not None,
        }

    def optimizer_state(self) -> dict[str, Tensor]:
        """The update's state by name; see :meth:`Classifier.optimizer_state`."""
        return named_state({"projection": self._moments or ()}) | joined({"output": self.output.optimizer_state()})

    def load_optimizer_state(self, state: Mapping[str, Tensor], steps: int) -> None:
        """Take up a state of :meth:`optimizer_state`; see :meth:`Classifier.load_optimizer_state`."""
        projection, output = split_by_part("optimizer state", state, "projection", "output")
        count = sum(name.startswith("weight.") for name in output)
        moments = checked_state(joined({"projection": projection}), {"projection": self.projection}, count, self)
        self.output.load_optimizer_state(output, steps)
        self._moments = moments["projection"] if steps else None
        self.steps = steps

    def _inputs(self, x: Tensor | ActiveInputs) -> tuple[Tensor, Tensor | None]:
        """What of x is read, and its columns where they are not all."""
        if isinstance(x, ActiveInputs):
            x = self._checked_active(x)
            return x.values, x.columns
        return self._checked_input(x), None

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        super()._apply(fn, recurse)
        if self._moments is not None:
            self._moments = tuple(map(fn, self._moments))
        return self
