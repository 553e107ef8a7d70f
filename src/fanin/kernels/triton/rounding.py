"""Stochastic rounding of any values to bfloat16 or float8, for layers that compute their updates in torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

import triton
import triton.language as tl

from fanin.kernels.triton.arguments import as_integers, halves_of_key, stored_format
from fanin.kernels.triton.storage import narrowed

if TYPE_CHECKING:
    from torch import Tensor

_BLOCK = 4096


@triton.jit(do_not_specialize=["first_element", "key_low", "key_high"])
def _round_kernel(
    values, out, count, first_element, key_low, key_high, FORMAT: tl.constexpr, BLOCK: tl.constexpr
):  # fmt: skip
    places = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    value = tl.load(values + places, mask=places < count, other=0.0)
    tl.store(out + places, narrowed(value, places + first_element, key_low, key_high, FORMAT), mask=places < count)


def round_into(values: Tensor, out: Tensor, seed: int, step: int, first_element: int) -> None:
    """Round; see :meth:`fanin.kernels.spec.Backend.round_into`."""
    count = values.numel()
    _round_kernel[max(1, triton.cdiv(count, _BLOCK)),](
        values.detach(),
        as_integers(out),
        count,
        first_element,
        *halves_of_key(seed, step),
        FORMAT=stored_format(out.dtype),
        BLOCK=_BLOCK,
    )
