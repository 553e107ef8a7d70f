"""What every output layer offers to the training loop and to prediction."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from fanin.errors import CheckpointError, ConfigError
from fanin.kernels.active_inputs import ActiveInputs
from fanin.kernels.spec import Moments, Positives, moment_count
from fanin.kernels.updates import zero_moments

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Self

    from fanin.kernels.spec import Loss, Update


class Classifier(nn.Module, ABC):
    """An output layer x (B, D) -> one score a label, trained by its own fused step.

    A fused step computes loss, input gradient and update chunk by chunk of labels and applies the update at once, so
    neither a (B, L) array nor a gradient of the weights ever exists. It excludes accumulating gradients over several
    batches: make the batch larger instead.

    Attributes:
        weight: the trained weights.
        bias: (L,), or None.
        steps: how many fused steps were made; Adam's bias correction counts them.
    """

    weight: nn.Parameter
    bias: nn.Parameter | None

    def __init__(self, in_features: int, out_features: int) -> None:
        super().__init__()
        if in_features < 1 or out_features < 1:
            raise ConfigError(
                f"a classifier needs at least one input and one label, got in_features={in_features}, "
                f"out_features={out_features}"
            )
        self.in_features = in_features
        self.out_features = out_features
        self.steps = 0
        self._moments: Moments | None = None

    @abstractmethod
    def train_step(
        self, x: Tensor | ActiveInputs, positives: Positives, loss: Loss, update: Update, *, weight: float = 1.0
    ) -> tuple[float, Tensor]:
        """One fused step; updates the layer in place.

        Args:
            x: (B, D) of the weights' dtype, or its active columns.
            positives: the batch's relevant labels; a duplicate counts once.
            loss: which loss.
            update: the update rule; its kind and momentum stay the same for a layer's whole training.
            weight: factor of the loss and all gradients (an auxiliary objective scales the main loss with it).

        Returns:
            ``weight`` times the loss, summed over labels and averaged over the batch, and its gradient by x, (B, D), or
            by the active columns, (B, A).

        Raises:
            ConfigError: shapes or dtypes do not fit, or a label id is out of range.
        """

    @abstractmethod
    def topk(self, x: Tensor | ActiveInputs, k: int, exclude: Positives | None = None) -> tuple[Tensor, Tensor]:
        """The k best labels a row, streaming over chunks of labels.

        Args:
            x: (B, D), or its active columns.
            k: how many, at least 1; at most L are returned.
            exclude: pairs that must not be returned (reciprocal pairs).

        Returns:
            Scores (B, min(k, L)), descending, and labels of the same shape, int64; places that could not be filled
            hold score -inf and label -1.

        Raises:
            ConfigError: k is below 1, shapes or dtypes do not fit, or a label id is out of range.
        """

    @abstractmethod
    def nbytes(self) -> dict[str, int]:
        """Bytes of what prediction needs, by part."""

    @abstractmethod
    def settings(self) -> dict[str, Any]:
        """The constructor's arguments as plain values; a layer built from them can load this one's state."""

    def optimizer_state(self) -> dict[str, Tensor]:
        """The update's state by name, for checkpoints; the tensors are the live ones."""
        moments = self._moments or Moments()
        named = {f"weight.{i}": tensor for i, tensor in enumerate(moments.weight)}
        return named | {f"bias.{i}": tensor for i, tensor in enumerate(moments.bias)}

    def load_optimizer_state(self, state: Mapping[str, Tensor], steps: int) -> None:
        """Take up a state of :meth:`optimizer_state` after ``steps`` fused steps.

        Raises:
            CheckpointError: a tensor is missing, unknown, or not of this layer's shape.
        """
        parameters = {"weight": self.weight} if self.bias is None else {"weight": self.weight, "bias": self.bias}
        count = len(state) // len(parameters)
        needed = {f"{part}.{i}": parameter for part, parameter in parameters.items() for i in range(count)}
        for name in sorted(state.keys() | needed.keys()):
            if name not in state or name not in needed or state[name].shape != needed[name].shape:
                raise CheckpointError(f"optimizer state {name!r} does not fit this {type(self).__name__}")
        named = {name: state[name].to(parameter).clone() for name, parameter in needed.items()}
        moments = {part: tuple(named[f"{part}.{i}"] for i in range(count)) for part in parameters}
        self._moments = Moments(**moments) if steps else None
        self.steps = steps

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Let the update's state follow the parameters to another device or dtype."""
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        if self._moments is not None:
            self._moments = Moments(*(tuple(map(fn, tensors)) for tensors in self._moments))
        return self

    def _begin_step(self, rows: int, update: Update) -> Moments:
        """The update's state (made on first use) of a step, which is counted."""
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
        return self._moments

    def _checked_positives(self, positives: Positives, rows: int) -> Positives:
        """Positives as the kernels want them, after a check of everything a kernel takes on trust."""
        indptr, indices = positives
        if indptr.dtype != torch.int64 or indices.dtype != torch.int64:
            raise ConfigError(f"positives are {indptr.dtype} and {indices.dtype}; both arrays must be torch.int64")
        if len(indptr) != rows + 1:
            raise ConfigError(f"positives.indptr has {len(indptr)} entries for {rows} rows; it needs {rows + 1}")
        if int(indptr[0]) != 0 or int(indptr[-1]) != len(indices) or bool((indptr.diff() < 0).any()):
            raise ConfigError("positives.indptr must start at 0, never fall, and end at len(positives.indices)")
        if len(indices) and not 0 <= int(indices.min()) <= int(indices.max()) < self.out_features:
            raise ConfigError(
                f"positives.indices hold labels from {int(indices.min())} to {int(indices.max())}; this layer has "
                f"labels 0 to {self.out_features - 1}"
            )
        return Positives(indptr.contiguous(), indices.contiguous())

    def _checked_input(self, x: Tensor) -> Tensor:
        if x.ndim != 2:
            raise ConfigError(f"x has shape {tuple(x.shape)}; this needs (B, {self.in_features})")
        self._check_features(x)
        return x.detach().contiguous()

    def _checked_active(self, x: ActiveInputs) -> ActiveInputs:
        """Active columns as the kernels want them."""
        values, columns = x.values, x.columns
        if values.dtype != self.weight.dtype:
            raise ConfigError(f"x is {values.dtype} and the weights are {self.weight.dtype}; convert one of them")
        if x.in_features != self.in_features or values.ndim != 2 or columns.shape != values.shape[1:]:
            raise ConfigError(
                f"active inputs of shape {tuple(values.shape)} with {len(columns)} columns of {x.in_features}; this "
                f"layer needs a value for each column, of {self.in_features}"
            )
        if columns.dtype != torch.int64 or bool((columns.diff() <= 0).any()):
            raise ConfigError("the active columns must be ascending int64, each once")
        if len(columns) and not 0 <= int(columns[0]) <= int(columns[-1]) < self.in_features:
            raise ConfigError(f"the active columns must lie in [0, {self.in_features})")
        return ActiveInputs(values.detach().contiguous(), columns, x.in_features)

    def _check_features(self, x: Tensor) -> None:
        if x.ndim < 1 or x.shape[-1] != self.in_features:
            raise ConfigError(f"x has shape {tuple(x.shape)}; this layer needs {self.in_features} features in the last")
        if x.dtype != self.weight.dtype:
            raise ConfigError(f"x is {x.dtype} and the weights are {self.weight.dtype}; convert one of them")

    def _checked_k(self, k: int) -> int:
        if k < 1:
            raise ConfigError(f"k={k}: ask for at least one label a row")
        return min(k, self.out_features)

    @torch.no_grad()
    def _draw_weights(self, scale: float, fan_in: int, seed: int) -> None:
        """Weights and bias uniform within scale / sqrt(fan_in), in place and without temporaries."""
        bound = scale / fan_in**0.5
        generator = torch.Generator(self.weight.device).manual_seed(seed)
        self.weight.uniform_(-bound, bound, generator=generator)
        if self.bias is not None:
            self.bias.uniform_(-bound, bound, generator=generator)
