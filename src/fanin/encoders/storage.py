"""Encoders whose parameters are stored as bfloat16 while they train."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from fanin.encoders.interface import Encoder


def in_bfloat16(encoder: Encoder) -> Encoder:
    """Store an encoder's parameters as bfloat16; an embedding table, which is none, stays as it is, and so does x.

    Example:
        >>> from fanin.encoders.features import FeatureEncoder
        >>> encoder = in_bfloat16(FeatureEncoder(4, 2))
        >>> next(iter(encoder.parameters())).dtype, encoder(torch.ones(1, 4)).dtype
        (torch.bfloat16, torch.float32)
    """
    for parameter in encoder.parameters():
        parameter.data = parameter.data.to(torch.bfloat16)
    return encoder


def widened(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors by name, those in bfloat16 as float32: what a model folder holds."""
    return {name: t.float() if t.dtype is torch.bfloat16 else t for name, t in tensors.items()}
