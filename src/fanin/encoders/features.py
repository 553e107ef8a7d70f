"""Encoders for features that are there already: dense vectors, or sparse bags of words."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn.functional import layer_norm

from fanin.encoders.bag import BagEncoder
from fanin.encoders.batch_share import RowDropout
from fanin.encoders.dense_only import DenseOnly
from fanin.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fanin.encoders.interface import Setting


class FeatureEncoder(DenseOnly):
    """Dense features (B, D0) to x (B, D): layer norm without parameters, projection, dropout.

    Args:
        in_features: D0.
        out_features: D; the features are projected where it differs from D0, and D is D0 where it is None.
        layer_norm: bring each vector to mean 0 and variance 1.
        dropout: share of x set to zero in training.
        seed: of the projection's weights.

    Raises:
        ConfigError: a size is not positive, or dropout not in [0, 1).

    Example:
        >>> FeatureEncoder(4, layer_norm=False).eval()(torch.ones(2, 4)).tolist()
        [[1.0, 1.0, 1.0, 1.0], [1.0, 1.0, 1.0, 1.0]]
    """

    def __init__(
        self,
        in_features: int,
        out_features: int | None = None,
        *,
        layer_norm: bool = True,
        dropout: float = 0.1,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.in_features = in_features
        self.out_features = in_features if out_features is None else out_features
        if in_features < 1 or self.out_features < 1:
            raise ConfigError(f"encoder.out_features is {out_features} for {in_features} features; both are at least 1")
        if not 0 <= dropout < 1:
            raise ConfigError(f"encoder.dropout is {dropout}; it must be in [0, 1)")
        self._settings: dict[str, Setting] = {
            "in_features": in_features,
            "out_features": self.out_features,
            "layer_norm": layer_norm,
            "dropout": dropout,
            "seed": seed,
        }
        self._layer_norm = layer_norm
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            same = self.out_features == in_features
            self.project: nn.Module = nn.Identity() if same else nn.Linear(in_features, self.out_features)
        self.dropout = RowDropout(dropout)

    @property
    def settings(self) -> Mapping[str, Setting]:
        """The keyword arguments that build this encoder again, without its weights."""
        return dict(self._settings)

    def forward(self, features: Tensor) -> Tensor:
        """Vectors x (B, D) float32 of features (B, D0) float32."""
        if self._layer_norm:
            features = layer_norm(features, (self.in_features,))
        if isinstance(self.project, nn.Linear):
            features = self.project(features.to(self.project.weight.dtype)).float()
        x: Tensor = self.dropout(features)
        return x

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """The projection's parameters, if there is one."""
        return {"projection": self.dense_parameters()}


class SparseFeatureEncoder(BagEncoder):
    """Sparse features to x (B, D): a projection whose rows are updated only where a batch has that feature.

    Each text's values are scaled to Euclidean length 1, as a bag's weights are; see :class:`BagEncoder`.

    Args:
        in_features: D0, columns of the features.
        out_features: D.
        dropout: share of x set to zero in training.
        seed: of the initial weights.

    Raises:
        ConfigError: a size is not positive, or dropout not in [0, 1).

    Example:
        >>> encoder = SparseFeatureEncoder(100, 8).eval()
        >>> encoder(torch.tensor([3, 99]), torch.tensor([0, 2, 2]), torch.tensor([1.0, 0.5])).shape
        torch.Size([2, 8])
    """

    def __init__(self, in_features: int, out_features: int, *, dropout: float = 0.1, seed: int = 0) -> None:
        super().__init__(
            in_features,
            out_features,
            embedding_dim=out_features,
            blocks=0,
            dropout=dropout,
            token_dropout=0.0,
            seed=seed,
        )
        self.in_features = in_features
        self._settings = {"in_features": in_features, "out_features": out_features, "dropout": dropout, "seed": seed}

    def forward(self, features: Tensor, offsets: Tensor, values: Tensor) -> Tensor:  # type: ignore[override]
        """Vectors of a batch of texts.

        Args:
            features: (N,) int32 or int64 in [0, D0), all texts one after the other.
            offsets: (B + 1,) int64, text b has ``features[offsets[b]:offsets[b + 1]]``.
            values: (N,) float32.

        Returns:
            x (B, D) float32.
        """
        return self._encode(features.long(), torch.repeat_interleave(offsets.diff()), offsets, values)
