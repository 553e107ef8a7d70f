"""Flat tokens to padded rows, and the states of a transformer to one vector a text."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple, TypeAlias

import torch

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from torch import Tensor

Pooling: TypeAlias = Literal["mean", "cls"]


class Padded(NamedTuple):
    """Rows of tokens brought to one width."""

    tokens: Tensor  # (B, T) int64
    mask: Tensor  # (B, T) int64, 1 where a row has a token

    def to(self, device: torch.device) -> Padded:
        """The same on another device."""
        return Padded(self.tokens.to(device), self.mask.to(device))


def pad_rows(tokens: Tensor, offsets: Tensor, padding: int) -> Padded:
    """Flat tokens as rows; a row without tokens becomes one of a single padding token.

    Args:
        tokens: (N,) int64.
        offsets: (B + 1,) int64.
        padding: the token that fills rows up.

    Example:
        >>> pad_rows(torch.tensor([5, 6, 7]), torch.tensor([0, 2, 3]), 0).tokens.tolist()
        [[5, 6], [7, 0]]
    """
    lengths = offsets.diff()  # (B,)
    places = torch.arange(max(int(lengths.max()), 1), device=offsets.device)[None]  # (1, T)
    rows = torch.full((len(lengths), places.shape[1]), padding, dtype=torch.int64, device=offsets.device)
    rows[places < lengths[:, None]] = tokens  # row by row, which is the order of the flat tokens
    return Padded(rows, (places < lengths.clamp_min(1)[:, None]).long())


def pool(states: Sequence[Tensor], mask: Tensor, pooling: Pooling) -> Tensor:
    """One float32 vector a text: the states of each layer pooled over the text, the layers one behind the other.

    Args:
        states: n layers' states, each (B, T, H).
        mask: (B, T), 1 at tokens.
        pooling: "mean" over the tokens, or "cls", the first token's state.

    Returns:
        (B, n * H).
    """
    if pooling == "cls":
        return torch.cat([layer[:, 0].float() for layer in states], dim=1)
    weights = mask / mask.sum(1, keepdim=True)  # (B, T)
    return torch.cat([torch.einsum("bth,bt->bh", layer.float(), weights) for layer in states], dim=1)


def length_chunks(offsets: Tensor, padded_tokens: int) -> Iterator[Tensor]:
    """Row numbers in chunks of about one length, each of at most ``padded_tokens`` places or a single row.

    Args:
        offsets: (B + 1,) int64.
        padded_tokens: rows times width of a chunk.

    Example:
        >>> [rows.tolist() for rows in length_chunks(torch.tensor([0, 3, 4, 5, 9]), 4)]
        [[1, 2], [0], [3]]
    """
    ascending, order = torch.sort(offsets.diff(), stable=True)
    lengths, start = ascending.tolist(), 0
    while start < len(order):
        stop = start + 1
        # Ascending, so the last row of a chunk is its width.
        while stop < len(order) and (stop + 1 - start) * lengths[stop] <= padded_tokens:
            stop += 1
        yield order[start:stop]
        start = stop
