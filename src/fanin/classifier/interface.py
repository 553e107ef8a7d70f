"""What every output layer offers to the training loop and to prediction."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, nn

from fanin.classifier.storage import in_fewer_bits, takes_gradients
from fanin.errors import ConfigError
from fanin.kernels.spec import Positives, compute_dtype

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Self

    from fanin.classifier.sparse import SparsePart
    from fanin.kernels.active_inputs import ActiveInputs
    from fanin.kernels.chosen_clusters import ChosenClusters
    from fanin.kernels.spec import Loss, Update


class Classifier(nn.Module, ABC):
    """An output layer x (B, D) -> one score a label, trained by its own fused step.

    A fused step computes loss, input gradient and update chunk by chunk of labels and applies the update at once, so
    neither a (B, L) array nor a gradient of the weights ever exists. It excludes accumulating gradients over several
    batches: make the batch larger instead.

    Attributes:
        in_features: D.
        out_features: L.
        steps: how many fused steps were made; Adam's bias correction and the stochastic rounding count them.
        fewer_bits: whether weights of this kind may be stored as bfloat16 or float8.
    """

    fewer_bits: ClassVar[bool] = False

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

    @abstractmethod
    def train_step(
        self, x: Tensor | ActiveInputs, positives: Positives, loss: Loss, update: Update, *, weight: float = 1.0
    ) -> tuple[float, Tensor]:
        """One fused step; updates the layer in place.

        Args:
            x: (B, D) of this layer's dtype, or its active columns.
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
            hold score -inf and label -1. Among equal scores the lower label comes first, but for layers that keep
            related labels together: there it may be the lower place.

        Raises:
            ConfigError: k is below 1, shapes or dtypes do not fit, or a label id is out of range.
        """

    def topk_among(
        self,
        x: Tensor,  # noqa: ARG002 - for the layers that can
        k: int,  # noqa: ARG002
        chosen: Sequence[ChosenClusters],  # noqa: ARG002
        exclude: Positives | None = None,  # noqa: ARG002
    ) -> tuple[Tensor, Tensor]:
        """As :meth:`topk`, among the labels of a few clusters for each row; their scores are exact.

        Args:
            x: (B, D).
            k: how many, at least 1; at most L are returned.
            chosen: for each of :meth:`sparse_parts` the clusters of its places. Labels that no sparse part serves are
                always among them.
            exclude: pairs that must not be returned.

        Raises:
            ConfigError: as :meth:`topk`, or this kind of layer has no sparse parts.
        """
        raise ConfigError(
            f"{type(self).__name__} has no fixed fan-in layer to search among clusters of; a beam is for the sparse, "
            "the head/tail and the banded layer"
        )

    @abstractmethod
    def set_bias(self, bias: Tensor) -> None:
        """Set the biases from values by label id, (L,).

        Raises:
            ConfigError: the layer has no bias.
        """

    def sparse_parts(self) -> tuple[SparsePart, ...]:
        """The fixed fan-in layers that serve all or some of the labels, which starts and rewiring work on, if any."""
        return ()

    @property
    @abstractmethod
    def connections(self) -> int:
        """How many weights tie features to labels; a dense layer has D x L."""

    @abstractmethod
    def nbytes(self) -> dict[str, int]:
        """Bytes of what prediction needs, by part."""

    @abstractmethod
    def settings(self) -> dict[str, Any]:
        """The constructor's arguments as plain values; a layer built from them can load this one's state."""

    @abstractmethod
    def optimizer_state(self) -> dict[str, Tensor]:
        """The update's state by name, for checkpoints; the tensors are the live ones."""

    @abstractmethod
    def load_optimizer_state(self, state: Mapping[str, Tensor], steps: int) -> None:
        """Take up a state of :meth:`optimizer_state` after ``steps`` fused steps.

        Raises:
            CheckpointError: a tensor is missing, unknown, or not of this layer's shape.
        """

    def extra_repr(self) -> str:
        """The settings, for print(module)."""
        return ", ".join(f"{name}={value}" for name, value in self.settings().items())

    @property
    def dtype(self) -> torch.dtype:
        """Of every x, of the biases and all arithmetic: float32 where weights are stored as bfloat16 or float8."""
        return compute_dtype(self._stored_dtype())

    def _stored_dtype(self) -> torch.dtype:
        return next(self.parameters()).dtype

    def _check_storage(self, dtype: torch.dtype) -> None:
        if in_fewer_bits(dtype) and not self.fewer_bits:
            raise ConfigError(
                f"{type(self).__name__} is a baseline of float32 weights; {dtype} is for the sparse, the dense and the "
                "head/tail layer"
            )

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        self._check_storage(fn(torch.empty(0, dtype=self._stored_dtype())).dtype)  # before anything is converted
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        return self

    def _checked_positives(self, positives: Positives, rows: int) -> Positives:
        """Positives as the kernels want them, after a check of everything a kernel takes on trust."""
        indptr, indices, weights, margins = positives
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
        return Positives(
            indptr.contiguous(),
            indices.contiguous(),
            self._checked_values("weights", weights, len(indices)),
            self._checked_values("margins", margins, len(indices)),
        )

    def _checked_values(self, name: str, values: Tensor | None, count: int) -> Tensor | None:
        if values is None:
            return None
        if values.shape != (count,) or not values.is_floating_point() or not bool(values.isfinite().all()):
            raise ConfigError(f"positives.{name} must be {count} finite numbers, one for each of positives.indices")
        if name == "weights" and bool((values < 0).any()):
            raise ConfigError("positives.weights must be at least 0")
        return values.detach().to(self.dtype).contiguous()

    def _forward_input(self, x: Tensor) -> Tensor:
        """What autograd computes with. Models of bfloat16 throughout may give such an x to weights in fewer bits."""
        stored = self._stored_dtype()
        if in_fewer_bits(stored) and x.dtype is torch.bfloat16:
            x = x.to(self.dtype)
        if not takes_gradients(stored) and torch.is_grad_enabled() and next(self.parameters()).requires_grad:
            raise ConfigError(
                f"autograd would round the gradient of {stored} weights to {stored}; train them with train_step, and "
                "leave their requires_grad False"
            )
        self._check_features(x)
        return x

    def _checked_input(self, x: Tensor) -> Tensor:
        if x.ndim != 2:
            raise ConfigError(f"x has shape {tuple(x.shape)}; this needs (B, {self.in_features})")
        self._check_features(x)
        return x.detach().contiguous()

    def _checked_active(self, x: ActiveInputs) -> ActiveInputs:
        """Active columns as the kernels want them."""
        values, columns = x.values, x.columns
        if values.dtype != self.dtype:
            raise ConfigError(f"x is {values.dtype} and this layer computes in {self.dtype}; convert one of them")
        if x.in_features != self.in_features or values.ndim != 2 or columns.shape != values.shape[1:]:
            raise ConfigError(
                f"active inputs have values {tuple(values.shape)} and columns {tuple(columns.shape)} of "
                f"{x.in_features} inputs; this layer needs (B, A) and (A,) of {self.in_features}"
            )
        if columns.dtype != torch.int64 or bool((columns.diff() <= 0).any()):
            raise ConfigError("the active columns must be ascending int64, each once")
        if len(columns) and not 0 <= int(columns[0]) <= int(columns[-1]) < self.in_features:
            raise ConfigError(f"the active columns must lie in [0, {self.in_features})")
        return x._replace(values=values.detach().contiguous())

    def _check_features(self, x: Tensor) -> None:
        if x.ndim < 1 or x.shape[-1] != self.in_features:
            raise ConfigError(f"x has shape {tuple(x.shape)}; this layer needs {self.in_features} features in the last")
        if x.dtype != self.dtype:
            raise ConfigError(f"x is {x.dtype} and this layer computes in {self.dtype}; convert one of them")

    def _checked_k(self, k: int) -> int:
        if k < 1:
            raise ConfigError(f"k={k}: ask for at least one label a row")
        return min(k, self.out_features)
