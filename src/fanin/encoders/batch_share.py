"""Dropout for an encoder that reads a part of a batch, which other processes read the rest of."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn

from fanin.kernels.drawing import mix_seed

if TYPE_CHECKING:
    from collections.abc import Iterator


class BatchShare(NamedTuple):
    """Which part of a batch an encoder is given.

    Random numbers are drawn for the whole batch, by every process the same, and the part's are taken: so a batch gives
    the same vectors whoever encodes its rows, and the random state stays the same in all processes.

    Attributes:
        first_row: the first row.
        rows: of the whole batch.
        first_token: the first token.
        tokens: of the whole batch.
    """

    first_row: int
    rows: int
    first_token: int
    tokens: int


class RowDropout(nn.Dropout):
    """Dropout of a batch's rows, or of a share of them: then the mask is theirs of the whole batch.

    Attributes:
        share: of the batch that comes next, None for all of it; see :func:`shared_batch`.

    >>> dropout = RowDropout(0.5)
    >>> _ = torch.manual_seed(0)
    >>> whole = dropout(torch.ones(4, 8))
    >>> _ = torch.manual_seed(0)
    >>> with shared_batch(dropout, BatchShare(first_row=1, rows=4, first_token=0, tokens=0)):
    ...     part = dropout(torch.ones(2, 8))
    >>> torch.equal(part, whole[1:3])
    True
    """

    share: BatchShare | None = None

    def forward(self, x: Tensor) -> Tensor:
        """(B, ...) -> (B, ...)."""
        if self.share is None or not self.training or not self.p:
            return super().forward(x)
        ones = x.detach().new_ones(self.share.rows, *x.shape[1:])
        return x * super().forward(ones)[self.share.first_row : self.share.first_row + len(x)]


class TokenDropout(nn.Module):
    """Which tokens of a batch, or of a share of one, are kept.

    Attributes:
        p: share of the tokens that are left out in training.
        share: as of :class:`RowDropout`.

    >>> bool(TokenDropout(0.1).eval()(torch.arange(100)).all())
    True
    """

    share: BatchShare | None = None

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, tokens: Tensor) -> Tensor:
        """Whether each of the tokens (N,) is kept, (N,) bool."""
        if not self.training or not self.p:
            return torch.ones_like(tokens, dtype=torch.bool)
        first, count = (0, len(tokens)) if self.share is None else (self.share.first_token, self.share.tokens)
        return torch.rand(count, device=tokens.device)[first : first + len(tokens)] >= self.p


class OwnNoise(nn.Module):
    """The randomness of a network that draws by itself: of a share of a batch it is of its own, drawn from the common.

    Attributes:
        share: as of :class:`RowDropout`.
    """

    share: BatchShare | None = None

    @contextlib.contextmanager
    def drawn(self, network: nn.Module, device: torch.device) -> Iterator[None]:
        """Inside it torch's random state is another in every process; afterwards the same one in all of them again.

        Args:
            network: what is run inside; without any dropout nothing is drawn.
            device: that it is on.
        """
        noisy = any(module.p for module in network.modules() if isinstance(module, nn.Dropout))
        if self.share is None or not noisy:
            yield
            return
        seed = int(torch.randint(2**62, ()))
        # Seeding reaches GPUs, too: the state of the one that the network is on has to come back as well.
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            torch.manual_seed(mix_seed(seed, self.share.first_row))
            yield


@contextlib.contextmanager
def shared_batch(encoder: nn.Module, share: BatchShare | None) -> Iterator[None]:
    """Tell the parts of an encoder that draw random numbers which share of a batch comes next; None for all of it."""
    parts = [module for module in encoder.modules() if isinstance(module, RowDropout | TokenDropout | OwnNoise)]
    for part in parts:
        part.share = share
    try:
        yield
    finally:
        for part in parts:
            part.share = None
