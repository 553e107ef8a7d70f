"""The bag-of-embeddings encoder: a weighted sum of token embeddings and a residual MLP."""

from __future__ import annotations

import math
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import embedding_bag

from fanin.encoders.batch_share import RowDropout, TokenDropout
from fanin.encoders.table_update import RowGradient, RowwiseAdam, row_gradient
from fanin.errors import ConfigError
from fanin.kernels.active_inputs import ActiveInputs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from fanin.encoders.interface import Setting


class _Bags(NamedTuple):
    """What the gradient of the table needs from the last forward pass."""

    tokens: Tensor  # (N,) int64
    bags: Tensor  # (N,) int64
    weights: Tensor  # (N,) float32
    output: Tensor  # (B, E), a leaf that receives its gradient


class ResidualBlock(nn.Module):
    """``x + dropout(W2 relu(W1 layer_norm(x)))``; W2 starts at zero, so the block starts as the identity."""

    def __init__(self, features: int, width: int, dropout: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(features)
        self.expand = nn.Linear(features, width)
        self.contract = nn.Linear(width, features)
        self.dropout = RowDropout(dropout)
        nn.init.zeros_(self.contract.weight)
        nn.init.zeros_(self.contract.bias)

    def forward(self, x: Tensor) -> Tensor:
        """(B, D) -> (B, D)."""
        update: Tensor = self.dropout(self.contract(torch.relu(self.expand(self.norm(x)))))
        return x + update


class BagEncoder(nn.Module):
    """Flat tokens to x (B, D): weighted bag of embeddings, layer norm, projection, residual MLP, dropout.

    The table (V, E) is a buffer, not a parameter: its gradient exists only for the rows of the last batch
    (:meth:`table_step`), so a step costs the same for any vocabulary. A bag's scale is removed by the layer norm; an
    empty bag gives the same defined vector in every batch.

    With lexical features, tokens are also inputs of the classifier, each by itself: behind the learned features x has a
    column a token, that holds the token's weight in the text. So wide an x is only given by its active columns, and
    only a classifier whose labels read few inputs can afford it.

    Args:
        vocabulary_size: V, rows of the table.
        out_features: learned features; D without lexical ones.
        embedding_dim: E; the bag is projected to D where it differs.
        blocks: residual blocks of the MLP.
        block_width: hidden units of a block.
        dropout: share of x set to zero in training, and of each block's output.
        token_dropout: share of the tokens left out of their bags in training.
        lexical_features: so many of the first tokens are inputs of their own, at most V; the most frequent words are
            the first tokens.
        lexical_scale: Euclidean norm of a text's lexical features (where no token stands twice).
        seed: of the initial weights.

    Attributes:
        learned_features: how many features are learned; they are the first ones of x.
        lexical_features: how many lexical features follow.

    Raises:
        ConfigError: if a size is not positive or a share not in [0, 1).

    Example:
        >>> encoder = BagEncoder(vocabulary_size=100, out_features=8, embedding_dim=4).eval()
        >>> encoder(torch.tensor([3, 5, 7]), torch.tensor([0, 2, 2, 3])).shape
        torch.Size([3, 8])
    """

    table: Tensor
    token_weights: Tensor

    def __init__(
        self,
        vocabulary_size: int,
        out_features: int,
        *,
        embedding_dim: int = 256,
        blocks: int = 1,
        block_width: int = 1024,
        dropout: float = 0.3,
        token_dropout: float = 0.1,
        lexical_features: int = 0,
        lexical_scale: float = 4.0,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self._settings: dict[str, Setting] = {
            "vocabulary_size": vocabulary_size,
            "out_features": out_features,
            "embedding_dim": embedding_dim,
            "blocks": blocks,
            "block_width": block_width,
            "dropout": dropout,
            "token_dropout": token_dropout,
            "lexical_features": lexical_features,
            "lexical_scale": lexical_scale,
            "seed": seed,
        }
        _check(self._settings)
        self.learned_features = out_features
        self.lexical_features = min(lexical_features, vocabulary_size)
        self.lexical_scale = lexical_scale
        self.token_dropout = TokenDropout(token_dropout)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.register_buffer("table", torch.randn(vocabulary_size, embedding_dim).mul_(embedding_dim**-0.5))
            self.register_buffer("token_weights", torch.ones(vocabulary_size))
            self.norm = nn.LayerNorm(embedding_dim)
            same = embedding_dim == out_features
            self.project: nn.Module = nn.Identity() if same else nn.Linear(embedding_dim, out_features)
            self.mlp = nn.Sequential(*(ResidualBlock(out_features, block_width, dropout) for _ in range(blocks)))
            self.final_norm = nn.LayerNorm(out_features)
            self.dropout = RowDropout(dropout)
        self._table_update = RowwiseAdam(vocabulary_size)
        self._bags: _Bags | None = None
        self._gradient: RowGradient | None = None

    @property
    def out_features(self) -> int:
        """D, learned and lexical features."""
        return self.learned_features + self.lexical_features

    @property
    def settings(self) -> Mapping[str, Setting]:
        """The keyword arguments that build this encoder again, without its weights."""
        return dict(self._settings)

    def forward(self, tokens: Tensor, offsets: Tensor) -> Tensor | ActiveInputs:
        """Vectors of a batch of texts.

        Args:
            tokens: (N,) int32 or int64 in [0, V), all texts one after the other.
            offsets: (B + 1,) int64, text b is ``tokens[offsets[b]:offsets[b + 1]]``.

        Returns:
            x (B, D) float32, with lexical features by its active columns.
        """
        tokens, bags, offsets = self._drop_tokens(tokens.long(), offsets)
        x = self._encode(tokens, bags, offsets, self.token_weights[tokens])
        return self._with_lexical(x, tokens, bags) if self.lexical_features else x

    def _encode(self, tokens: Tensor, bags: Tensor, offsets: Tensor, raw: Tensor) -> Tensor:
        """The learned features (B, D) of tokens (N,), by the bag of each and its weight before scaling."""
        weights = _unit_weights(raw, bags, len(offsets) - 1)
        output = embedding_bag(
            tokens, self.table, offsets, mode="sum", per_sample_weights=weights, include_last_offset=True
        )
        self._bags = self._gradient = None
        if self.training and torch.is_grad_enabled():
            self._bags = _Bags(tokens, bags, weights, output.requires_grad_())
        hidden = output.to(self.norm.weight.dtype)
        x: Tensor = self.dropout(self.final_norm(self.mlp(self.project(self.norm(hidden)))))
        return x.float()

    @torch.no_grad()
    def weigh_by_rarity(self, counts: Tensor, texts: int) -> None:
        """Weigh tokens by inverse document frequency, log(texts / (1 + count)), at least 0.1 (Sparck Jones, 1972).

        Args:
            counts: (V,) how often each token stands in the training texts.
            texts: how many training texts there are.
        """
        assert counts.shape == self.token_weights.shape, "one count a token"
        self.token_weights.copy_(torch.log(texts / (1.0 + counts)).clamp_min(0.1))

    def dense_parameters(self) -> list[nn.Parameter]:
        """All parameters but the table."""
        return list(self.parameters())

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """All parameters but the table, as one group "layers"."""
        return {"layers": self.dense_parameters()}

    def table_gradient(self) -> RowGradient | None:
        """The table's gradient from the last backward pass, None before one and after :meth:`table_step`."""
        if self._gradient is None and self._bags is not None and self._bags.output.grad is not None:
            tokens, bags, weights, output = self._bags
            assert output.grad is not None
            self._gradient = row_gradient(tokens, bags, weights, output.grad)
        return self._gradient

    def spread_table_gradient(self, of_all: Callable[[Tensor], list[Tensor]]) -> None:
        """Make the table's pending gradient that of the whole batch, whose texts several processes have encoded.

        What is exchanged are the texts' tokens and the gradients of their bags, not rows of the table: that is less,
        and the gradient is then made as one process makes it.

        Args:
            of_all: gives the tensors (n,) of all processes, in the order of their texts, for that of this one.
        """
        if self._bags is None:
            return
        found = [_unpacked(packed, self.table.shape[1]) for packed in of_all(_packed(self._bags))]
        tokens, counts, weights, gradients = (torch.cat(tensors) for tensors in zip(*found, strict=True))
        self._gradient = row_gradient(tokens.long(), torch.repeat_interleave(counts.long()), weights, gradients)

    def table_gradient_norm(self) -> float:
        """Euclidean norm of the table's pending gradient, 0.0 if there is none."""
        gradient = self.table_gradient()
        return 0.0 if gradient is None else float(torch.linalg.vector_norm(gradient.values))

    @torch.no_grad()
    def table_step(self, learning_rate: float, scale: float = 1.0) -> None:
        """Updates the touched rows of the table by :class:`RowwiseAdam` and forgets their gradient.

        Args:
            learning_rate: of this step.
            scale: factor of the gradient, for clipping.
        """
        gradient = self.table_gradient()
        if gradient is not None:
            self._table_update.step(self.table, gradient, learning_rate, scale)
        self._bags = self._gradient = None

    def table_state(self) -> dict[str, Tensor]:
        """The table's optimizer state by name, for checkpoints; the tensors are not copies."""
        return self._table_update.state()

    def load_table_state(self, state: Mapping[str, Tensor]) -> None:
        """Takes back what :meth:`table_state` gave.

        Raises:
            CheckpointError: if a tensor is missing or has another shape.
        """
        self._table_update.load_state(state)

    def _with_lexical(self, learned: Tensor, tokens: Tensor, bags: Tensor) -> ActiveInputs:
        """The learned features and behind them the lexical ones that are active in the batch."""
        own = tokens < self.lexical_features
        tokens, bags = tokens[own], bags[own]
        weights = _unit_weights(self.token_weights[tokens], bags, len(learned)) * self.lexical_scale
        active, places = torch.unique(tokens, return_inverse=True)
        lexical = learned.new_zeros(len(learned), len(active)).index_put_((bags, places), weights, accumulate=True)
        columns = torch.cat([torch.arange(self.learned_features, device=tokens.device), active + self.learned_features])
        return ActiveInputs(torch.cat([learned, lexical], dim=1), columns, self.out_features, self.learned_features)

    def _drop_tokens(self, tokens: Tensor, offsets: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Tokens left after token dropout, the bag of each, and the new offsets."""
        bags = torch.repeat_interleave(offsets.diff())  # (N,)
        if not self.training or not self.token_dropout.p:
            return tokens, bags, offsets
        kept = self.token_dropout(tokens)
        ends = torch.cumsum(torch.bincount(bags[kept], minlength=offsets.shape[0] - 1), 0)
        return tokens[kept], bags[kept], torch.cat([ends.new_zeros(1), ends])


def block_count(names: Iterable[str]) -> int:
    """How many residual blocks a bag encoder has whose weights have these names.

    Example:
        >>> block_count(["table", "mlp.0.norm.weight", "mlp.0.norm.bias", "mlp.1.norm.weight"])
        2
    """
    return len({name.split(".")[1] for name in names if name.startswith("mlp.")})


def _unit_weights(raw: Tensor, bags: Tensor, rows: int) -> Tensor:
    """Weights (N,) scaled to Euclidean norm 1 in each bag."""
    squares = raw.new_zeros(rows).index_add_(0, bags, raw * raw)  # (B,)
    return raw * squares.clamp_min(torch.finfo(raw.dtype).tiny).rsqrt()[bags]


def _packed(bags: _Bags) -> Tensor:
    """What the gradient of the table needs, (2 + N + B + N + B E,) int32: floats by their bits."""
    tokens, numbers, weights, output = bags
    grad = torch.zeros_like(output) if output.grad is None else output.grad
    sizes = torch.tensor([len(tokens), len(output)], dtype=torch.int32, device=tokens.device)
    counts = torch.bincount(numbers, minlength=len(output))  # tokens of each text
    return torch.cat([sizes, tokens.int(), counts.int(), weights.view(torch.int32), grad.view(torch.int32).flatten()])


def _unpacked(packed: Tensor, width: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Tokens (N,), tokens of each text (B,), their weights (N,) and the gradients of the texts' bags (B, E)."""
    N, B = packed[:2].tolist()
    ends = accumulate((N, B, N, B * width), initial=2)
    tokens, counts, weights, gradients = (packed[start:stop] for start, stop in pairwise(ends))
    return tokens, counts, weights.view(torch.float32), gradients.view(torch.float32).view(B, width)


def _check(settings: Mapping[str, Any]) -> None:
    for name in ("vocabulary_size", "out_features", "embedding_dim", "block_width"):
        if settings[name] < 1:
            raise ConfigError(f"encoder.{name} is {settings[name]}; it must be at least 1")
    for name in ("blocks", "lexical_features"):
        if settings[name] < 0:
            raise ConfigError(f"encoder.{name} is {settings[name]}; it must be 0 or more")
    if not 0 < settings["lexical_scale"] < math.inf:
        raise ConfigError(f"encoder.lexical_scale is {settings['lexical_scale']}; it must be positive")
    for name in ("dropout", "token_dropout"):
        if not 0 <= settings[name] < 1:
            raise ConfigError(f"encoder.{name} is {settings[name]}; it must be in [0, 1)")
