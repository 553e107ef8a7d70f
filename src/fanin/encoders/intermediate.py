"""The intermediate layer: a wide dense layer with a centred ReLU between an encoder and the classifier."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from fanin.encoders.batch_share import RowDropout
from fanin.errors import ConfigError
from fanin.kernels.active_inputs import ActiveInputs

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from fanin.encoders.interface import Encoder, Setting


class IntermediateLayer(nn.Module):
    """An encoder and a dense layer behind it that widens its learned features: ``dropout(centred(relu(W x + b)))``.

    Wide features give a sparse classifier more to choose from, and a dense way for its gradient into the encoder
    (Schultheis and Babbar, ECML 2023). Lexical features go past it.

    ``centred`` takes each row's mean from it, which the paper does not. Features of a ReLU are never negative, so all
    weights of a label that a batch is not about have gradients of one sign; Adam, which gives small gradients full
    steps, then sinks the logits of rare labels in a few steps (docs/results/ablation.md has the measurement).

    Memory in training, D features widened to W: 16 D W bytes for weights, gradient and AdamW's state, and some 16 B W
    for a batch (D 512, W 100,000, B 512: 0.8 GB each).

    Args:
        encoder: what is widened; a part of this module from then on.
        width: W; a single feature less its mean would be nothing.
        dropout: share of the widened features set to zero in training.
        seed: of the layer's weights; they start by He et al. (2015), the bias at zero.

    Attributes:
        encoder: the encoder.
        learned_features: W; they are the first features of x.

    Raises:
        ConfigError: the width is below 2, or dropout not in [0, 1).

    Example:
        >>> from fanin.encoders.features import FeatureEncoder
        >>> IntermediateLayer(FeatureEncoder(4), width=6).eval()(torch.ones(2, 4)).shape
        torch.Size([2, 6])
    """

    def __init__(self, encoder: Encoder, width: int, *, dropout: float = 0.0, seed: int = 0) -> None:
        super().__init__()
        if width < 2:
            raise ConfigError(f"intermediate.width is {width}; it must be at least 2")
        if not 0 <= dropout < 1:
            raise ConfigError(f"intermediate.dropout is {dropout}; it must be in [0, 1)")
        assert isinstance(encoder, nn.Module)
        self.encoder: Encoder = encoder
        self.learned_features = width
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.layer = nn.Linear(encoder.learned_features, width)
            nn.init.kaiming_normal_(self.layer.weight, nonlinearity="relu")
            nn.init.zeros_(self.layer.bias)
        self.dropout = RowDropout(dropout)

    @property
    def out_features(self) -> int:
        """D as the classifier sees it: W, and the lexical features."""
        return self.learned_features + self.encoder.out_features - self.encoder.learned_features

    @property
    def settings(self) -> Mapping[str, Setting]:
        """The keyword arguments that build the layer again behind its encoder, without its weights."""
        return {"width": self.learned_features, "dropout": self.dropout.p}

    @property
    def table(self) -> Tensor:
        """The encoder's embedding table."""
        return self.encoder.table

    def forward(self, *inputs: Tensor) -> Tensor | ActiveInputs:
        """The widened vectors (B, W) of what the encoder reads, lexical features behind them."""
        x = self.encoder(*inputs)
        if not isinstance(x, ActiveInputs):
            return self._widened(x)
        learned, W = self.encoder.learned_features, self.learned_features
        values = torch.cat([self._widened(x.values[:, :learned]), x.values[:, learned:]], dim=1)  # (B, W + A)
        columns = torch.cat([torch.arange(W, device=x.columns.device), x.columns[learned:] + (W - learned)])
        return ActiveInputs(values, columns, self.out_features, self.learned_features)

    def dense_parameters(self) -> list[nn.Parameter]:
        """The encoder's parameters and the layer's."""
        return [*self.encoder.dense_parameters(), *self.layer.parameters()]

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """The encoder's groups, and "intermediate"."""
        return {**self.encoder.parameter_groups(), "intermediate": list(self.layer.parameters())}

    def spread_table_gradient(self, of_all: Callable[[Tensor], list[Tensor]]) -> None:
        """Of the encoder's table."""
        self.encoder.spread_table_gradient(of_all)

    def table_gradient_norm(self) -> float:
        """Of the encoder's table."""
        return self.encoder.table_gradient_norm()

    def table_step(self, learning_rate: float, scale: float = 1.0) -> None:
        """Updates the encoder's table."""
        self.encoder.table_step(learning_rate, scale)

    def table_state(self) -> dict[str, Tensor]:
        """Of the encoder's table."""
        return self.encoder.table_state()

    def load_table_state(self, state: Mapping[str, Tensor]) -> None:
        """Takes back what :meth:`table_state` gave."""
        self.encoder.load_table_state(state)

    def _widened(self, x: Tensor) -> Tensor:
        wide = torch.relu_(self.layer(x.to(self.layer.weight.dtype)).float())  # (B, W)
        centred: Tensor = self.dropout(wide - wide.mean(1, keepdim=True))
        return centred


def base_encoder(encoder: Encoder) -> Encoder:
    """The encoder alone, without the intermediate layer that may be behind it."""
    return encoder.encoder if isinstance(encoder, IntermediateLayer) else encoder
