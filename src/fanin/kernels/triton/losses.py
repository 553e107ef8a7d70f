"""Value and gradient of the losses on a tile of logits, inside a kernel.

A positive's loss at z is that of an irrelevant label at -z: nothing is a difference of larger numbers. Exponential and
logarithm are good to a few units in the last place on every device; the fast ones of GPUs are not near zero.
"""

from __future__ import annotations

import triton
import triton.language as tl

from fanin.kernels.spec import Loss

BCE = tl.constexpr(0)
SQUARED_HINGE = tl.constexpr(1)
LOSS_NUMBER = {Loss.BCE: 0, Loss.SQUARED_HINGE: 1}

_LOG2E = tl.constexpr(1.4426950408889634)
_LN2 = tl.constexpr(0.6931471805599453)


@triton.jit
def loss_and_gradient(turned, LOSS: tl.constexpr):
    """The loss of irrelevant labels at logits ``turned``, and its gradient by them, element by element."""
    if LOSS == BCE:
        power = _exp_of_negative(-tl.abs(turned))  # in (0, 1]
        positive = turned > 0  # NaN is on the other side, and stays NaN there
        value = tl.where(positive, turned, 0.0) + _log1p(power)
        gradient = tl.where(positive, 1.0, power) / (1.0 + power)
        return value, gradient
    else:
        short = tl.where(turned <= -1.0, 0.0, 1.0 + turned)
        return short * short, 2.0 * short


@triton.jit
def _exp_of_negative(x):
    """e^x for x <= 0. The exponent of 2 is rounded once; what its rounding lost is put back in to first order."""
    x = tl.where(x < -120.0, -120.0, x)
    exponent = x * _LOG2E
    lost = tl.fma(x, _LOG2E, -exponent)
    return tl.exp2(exponent) * (1.0 + lost * _LN2)


@triton.jit
def _log1p(u):
    """log(1 + u) for u in [0, 1] to 2e-7 of the value: the minimax polynomial of degree 8 for log(1 + u) / u."""
    series = u * 0.00523268804 - 0.0295052137
    series = series * u + 0.0782259107
    series = series * u - 0.136632428
    series = series * u + 0.191060051
    series = series * u - 0.24842982
    series = series * u + 0.333190978
    series = series * u - 0.499994934
    series = series * u + 0.99999994
    return series * u
