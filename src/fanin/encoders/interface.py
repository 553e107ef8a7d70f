"""What the trainer and the model ask of an encoder, whatever is inside it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, Self

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    import numpy as np
    import torch
    from numpy.typing import NDArray
    from torch import Tensor, nn

    from fanin.kernels.active_inputs import ActiveInputs

Setting = int | float | str | bool
"""A plain JSON value of an encoder's settings."""


class TextTokenizer(Protocol):
    """Text to the tokens that an encoder reads."""

    @property
    def vocabulary_size(self) -> int:
        """Every token is below it."""

    @property
    def key(self) -> str:
        """Names everything that the tokens depend on: tokenizers of one key give the same tokens."""

    def encode_batch(self, texts: Sequence[str]) -> list[NDArray[np.int32]]:
        """Tokens of each text."""

    def encode_flat(self, texts: Sequence[str]) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        """Tokens of all texts one after the other (N,), and offsets (B + 1,)."""

    def save(self, folder: Path) -> None:
        """Writes its files into a folder, made if missing."""


class Encoder(Protocol):
    """A batch's texts, as tokens or features, to x of shape (B, D).

    A step of training is: ``x = encoder(*inputs)``; the classifier returns dx; ``x.backward(dx)``; the dense
    parameters are stepped by the caller's optimizer and the embedding table, if there is one, by :meth:`table_step`.
    """

    training: bool

    @property
    def table(self) -> Tensor:
        """(V, E) the embedding table, a row a token."""

    @property
    def out_features(self) -> int:
        """D."""

    @property
    def learned_features(self) -> int:
        """How many features of x are learned; they are the first ones, lexical features follow."""

    @property
    def settings(self) -> Mapping[str, Setting]:
        """The keyword arguments that build this encoder again, without its weights."""

    def __call__(self, *inputs: Tensor) -> Tensor | ActiveInputs:
        """Vectors x (B, D) float32, or their active columns.

        Of texts, the inputs are flat tokens (N,) cut by offsets (B + 1,).
        """

    def to(self, device: torch.device) -> Self:
        """Move weights and buffers; the inputs must come from there, too."""

    def dense_parameters(self) -> list[nn.Parameter]:
        """The parameters for the caller's optimizer; never the embedding table."""

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """The dense parameters by the learning rate they want: "layers", and "projection" for what is new to them."""

    def spread_table_gradient(self, of_all: Callable[[Tensor], list[Tensor]]) -> None:
        """Makes the table's pending gradient that of the whole batch, of which several processes have a part each."""

    def table_gradient_norm(self) -> float:
        """Euclidean norm of the table's pending gradient, 0.0 if there is none."""

    def table_step(self, learning_rate: float, scale: float = 1.0) -> None:
        """Updates the touched rows of the table from the last backward pass, its gradient multiplied by ``scale``."""

    def table_state(self) -> dict[str, Tensor]:
        """The table's optimizer state by name, for checkpoints; the tensors are not copies."""

    def load_table_state(self, state: Mapping[str, Tensor]) -> None:
        """Takes back what :meth:`table_state` gave."""

    def state_dict(self) -> dict[str, Any]:
        """All weights by name, the embedding table included."""

    def parameters(self) -> Iterator[nn.Parameter]:
        """The weights that autograd gives a gradient; never the embedding table."""

    def train(self, mode: bool = True) -> Self:
        """Turns training (dropout) on or off; gives itself."""

    def eval(self) -> Self:
        """Turns training off; gives itself."""
