"""Matrix products of tiles inside kernels: in float32, in TensorFloat-32 where torch is told so, or in bfloat16."""

from __future__ import annotations

import torch
import triton
import triton.language as tl

IEEE = tl.constexpr(0)
TF32 = tl.constexpr(1)
BFLOAT16_OPERANDS = tl.constexpr(2)
ROUNDED_OPERANDS = tl.constexpr(3)
"""Values rounded to bfloat16 and multiplied in float32: what BFLOAT16_OPERANDS computes, for Triton's interpreter,
whose own bfloat16 is not right."""


@triton.jit
def operand(values, DOT: tl.constexpr):
    """Float32 values as a product takes them."""
    if DOT == BFLOAT16_OPERANDS:
        return values.to(tl.bfloat16)
    elif DOT == ROUNDED_OPERANDS:
        bits = values.to(tl.uint32, bitcast=True)
        nearest = (bits + 0x7FFF + ((bits >> 16) & 1)) & 0xFFFF0000
        return tl.where((bits & 0x7FFFFFFF) > 0x7F800000, values, nearest.to(tl.float32, bitcast=True))
    else:
        return values


@triton.jit
def product(a, b, DOT: tl.constexpr):
    """``a @ b`` of two operands, in float32."""
    if DOT == TF32:
        return tl.dot(a, b, input_precision="tf32")
    else:
        return tl.dot(a, b, input_precision="ieee")


INTERPRETED = not isinstance(product, triton.JITFunction)
"""Whether kernels run in Triton's interpreter: TRITON_INTERPRET was set when this module was imported."""


def product_kind(weight_dtype: torch.dtype) -> int:
    """How products with weights of a dtype are computed.

    Float32 weights: in float32, or TensorFloat-32 after ``torch.set_float32_matmul_precision("high")``. Low formats:
    both operands in bfloat16 (the weights are exact in it) and sums in float32.
    """
    if weight_dtype is torch.float32:
        return 0 if torch.get_float32_matmul_precision() == "highest" else 1
    return 3 if INTERPRETED else 2


def rounds_operands(dot: int) -> bool:
    """Whether a product kind takes its operands in bfloat16."""
    return dot in {BFLOAT16_OPERANDS.value, ROUNDED_OPERANDS.value}
