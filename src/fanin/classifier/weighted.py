"""What the output layers of one weight tensor and one bias have in common: the update's state and the start."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from fanin.classifier.interface import Classifier
from fanin.classifier.optimizer_state import checked_state, named_state
from fanin.classifier.shard import Shard
from fanin.classifier.storage import moved, settle_gradient, takes_gradients, weight_dtype
from fanin.classifier.stored_rows import StoredRows
from fanin.errors import ConfigError
from fanin.kernels.spec import Moments, compute_dtype, moment_count
from fanin.kernels.updates import zero_moments

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Self

    from fanin.kernels.spec import Update

_DRAWN_VALUES = 1 << 20


class WeightedClassifier(Classifier):
    """A classifier whose update works on its own ``weight`` and ``bias``.

    A start within scale / sqrt(F) lets random scores vary as much at any fan-in F. But a step moves a score by the sum
    over F inputs of input times change: at one learning rate a layer of larger F learns faster. With a reference fan-in
    R weights and bias are updated at R / F times the learning rate; then a step moves scores as far at any F, and what
    is a good rate at R stays one. That holds for SGD as for Adam, since the change of an output weight depends on its
    own input alone. It is the rate of output weights in the maximal update parametrisation (Yang et al., "Tensor
    Programs V", 2022), with the density counted into the width (Dey et al., "Sparse maximal update parameterization",
    2024). It supposes dense inputs: of words as inputs, a text has few of those that a label reads, whatever F is.

    Args:
        in_features: D.
        out_features: L.
        reference_fan_in: R; None leaves the learning rate as it is.
        shard: which labels of a larger layer these are; None for a layer of its own.

    Attributes:
        shard: likewise; a layer of its own is all of itself.
        weight: the trained weights, a row a label.
        bias: (L,), or None.
        rounding_seed: of the stochastic rounding of weights that are stored as bfloat16 or float8; with the number of
            the step it determines all of it.
    """

    weight: nn.Parameter
    bias: nn.Parameter | None
    _start: dict[str, Any]  # seed and initial_scale

    def __init__(
        self, in_features: int, out_features: int, reference_fan_in: int | None = None, shard: Shard | None = None
    ) -> None:
        super().__init__(in_features, out_features)
        if reference_fan_in is not None and reference_fan_in < 1:
            raise ConfigError(f"reference_fan_in={reference_fan_in} must be at least 1 input, or None")
        self.reference_fan_in = reference_fan_in
        self.shard = shard or Shard(0, out_features)
        self.rounding_seed = 0
        self._moments: Moments | None = None

    @torch.no_grad()
    def set_bias(self, bias: Tensor) -> None:
        """Set the biases; see :meth:`Classifier.set_bias`."""
        if self.bias is None:
            raise ConfigError("this layer has no bias to set")
        self.bias.copy_(bias)

    @property
    def connections(self) -> int:
        """How many weights tie features to labels."""
        return self.weight.numel()

    def optimizer_state(self) -> dict[str, Tensor]:
        """The update's state by name; see :meth:`Classifier.optimizer_state`."""
        return {} if self._moments is None else named_state(self._moments._asdict())

    def load_optimizer_state(self, state: Mapping[str, Tensor], steps: int) -> None:
        """Take up a state of :meth:`optimizer_state`; see :meth:`Classifier.load_optimizer_state`."""
        parameters = self.updated_parameters()
        count = sum(name.startswith("weight.") for name in state)
        moments = checked_state(state, parameters, count, self)
        self._take_up(moments if steps else dict.fromkeys(parameters))
        self.steps = steps

    def updated_parameters(self) -> dict[str, Tensor]:
        """The parameters that the update keeps a state of, by name."""
        return {"weight": self.weight} if self.bias is None else {"weight": self.weight, "bias": self.bias}

    def _take_up(self, moments: Mapping[str, tuple[Tensor, ...] | None]) -> None:
        """Make these the state of every parameter that the update keeps one of; None before its first step."""
        weight = moments["weight"]
        self._moments = None if weight is None else Moments(weight, moments.get("bias") or ())

    def _make_parameters(
        self,
        shape: tuple[int, int],
        *,
        bias: bool,
        device: torch.device | str | None,
        dtype: torch.dtype | str,
        rounding_seed: int,
    ) -> None:
        """Weights of a shape and dtype, not filled; the bias has the dtype that is computed in."""
        dtype = weight_dtype(dtype)
        self._check_storage(dtype)
        self.weight = nn.Parameter(torch.empty(shape, device=device, dtype=dtype), takes_gradients(dtype))
        self.bias = nn.Parameter(torch.empty(shape[0], device=device, dtype=compute_dtype(dtype))) if bias else None
        self.rounding_seed = rounding_seed

    def _stored_dtype(self) -> torch.dtype:
        return self.weight.dtype

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Let the update's state follow the parameters to another device or dtype; only weights go into fewer bits."""
        bias, before = None if self.bias is None else self.bias.detach(), self.weight.dtype
        super()._apply(fn, recurse)
        if bias is not None and self.bias is not None and self.bias.dtype != self.dtype:
            self.bias.data = bias.to(self.bias.device, self.dtype)
        settle_gradient(self.weight, before)
        if self._moments is not None:
            self._moments = Moments(*(tuple(moved(fn, t, self.dtype) for t in tensors) for tensors in self._moments))
        return self

    def _begin_step(self, rows: int, update: Update) -> tuple[Moments, Update]:
        """The update's state (made on first use) of a step, which is counted, and the rule for weights and bias."""
        if not rows:
            raise ConfigError("train_step got a batch of no rows; leave such a batch out")
        if self._moments is None:
            self._moments = zero_moments(
                update, self.weight.detach(), None if self.bias is None else self.bias.detach()
            )
        if len(self._moments.weight) != moment_count(update):
            raise ConfigError(
                f"this layer was trained with an update of {len(self._moments.weight)} state tensors and "
                f"{type(update).__name__} needs {moment_count(update)}; keep one kind of update for a whole training"
            )
        self.steps += 1
        reference, fan_in = self.reference_fan_in, self.weight.shape[1]
        return self._moments, update if reference is None else update.scaled(reference / fan_in)

    def _options_of_part(self, start: int) -> dict[str, Any]:
        """What a layer of some labels of this one, from a place on, is made with to be as it would be in the whole."""
        return {
            "bias": self.bias is not None,
            "reference_fan_in": self.reference_fan_in,
            "dtype": self.weight.dtype,
            "rounding_seed": self.rounding_seed,
            "shard": Shard(start, self.out_features),
            **self._start,
        }

    @torch.no_grad()
    def _draw_weights(self, scale: float, fan_in: int, seed: int) -> None:
        """Weights and bias uniform within scale / sqrt(fan_in), in place and without large temporaries.

        Weights in fewer bits are those of float32, rounded.
        """
        bound = scale / fan_in**0.5
        generator = torch.Generator(self.weight.device).manual_seed(seed)
        (labels, width), (first, of) = self.weight.shape, self.shard
        size = max(1, _DRAWN_VALUES // width)
        rows = StoredRows(self.weight, size, self.rounding_seed, first_row=first)
        _pass_over(generator, first * width)
        for start in range(0, labels, size):
            part = slice(start, start + size)
            rows.read(part).uniform_(-bound, bound, generator=generator)
            rows.write(part, step=0)
        if self.bias is not None:
            _pass_over(generator, (of - first - labels) * width + first)
            self.bias.uniform_(-bound, bound, generator=generator)


def _pass_over(generator: torch.Generator, count: int) -> None:
    """Leave a generator where it is after so many uniform values: they are those of other processes' labels."""
    values = torch.empty(min(count, _DRAWN_VALUES), device=generator.device)
    for start in range(0, count, _DRAWN_VALUES):
        values[: count - start].uniform_(generator=generator)
