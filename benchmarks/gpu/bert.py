"""A transformer of BERT's shape with random weights: what takes its memory, and no more."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

_HEAD = 64  # features of an attention head


class _Layer(nn.Module):
    """Attention and a wide layer, each added to what came in and normed."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.heads = max(1, width // _HEAD)
        self.query_key_value, self.output = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.norms = nn.ModuleList([nn.LayerNorm(width), nn.LayerNorm(width)])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        B, T, H = x.shape
        parts = self.query_key_value(x).view(B, T, 3, self.heads, H // self.heads).permute(2, 0, 3, 1, 4)
        found = functional.scaled_dot_product_attention(*parts).transpose(1, 2).reshape(B, T, H)
        x = self.norms[0](x + self.output(found))
        return self.norms[1](x + self.down(functional.gelu(self.up(x))))


class Bert(nn.Module):
    """Tokens (B, T) to the mean of the last states (B, width). Activations are computed again in the backward pass.

    Args:
        layers: how many; BERT-base has 12.
        width: of the states; 768.
        vocabulary: rows of the embedding; 30,522.
        places: most tokens of a text.
    """

    def __init__(self, layers: int, width: int, vocabulary: int, places: int = 512) -> None:
        super().__init__()
        self.tokens, self.places = nn.Embedding(vocabulary, width), nn.Embedding(places, width)
        self.norm = nn.LayerNorm(width)
        self.layers = nn.ModuleList(_Layer(width) for _ in range(layers))

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """The vectors x, (B, width) float32."""
        x = self.norm(self.tokens(tokens) + self.places.weight[: tokens.shape[1]])
        for layer in self.layers:
            x = checkpoint(layer, x, use_reentrant=False)
        return x.float().mean(1)
