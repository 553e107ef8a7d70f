"""What an encoder without an embedding table answers to questions about one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


class DenseOnly(nn.Module):
    """Base of the encoders that have no embedding table of their own: all they train is dense.

    Attributes:
        out_features: D.
    """

    out_features: int

    @property
    def learned_features(self) -> int:
        """D: there are no lexical features."""
        return self.out_features

    @property
    def table(self) -> Tensor:
        """(0, 0): there is none."""
        return torch.empty(0, 0)

    def dense_parameters(self) -> list[nn.Parameter]:
        """Every parameter that is trained."""
        return [parameter for parameter in self.parameters() if parameter.requires_grad]

    def spread_table_gradient(self, of_all: Callable[[Tensor], list[Tensor]]) -> None:
        """Nothing to spread."""

    def table_gradient_norm(self) -> float:
        """Zero."""
        return 0.0

    def table_step(self, learning_rate: float, scale: float = 1.0) -> None:
        """Nothing to do."""

    def table_state(self) -> dict[str, Tensor]:
        """Nothing to keep."""
        return {}

    def load_table_state(self, state: Mapping[str, Tensor]) -> None:
        """Nothing to take back."""
