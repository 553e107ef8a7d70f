"""Values that are no numbers any more: found in the step in which they appear."""

from __future__ import annotations

import math
import shlex
from typing import TYPE_CHECKING

import torch

from fanin.errors import FaninError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from torch import Tensor

    from fanin.runs.run_folder import RunFolder

_BLOCK_VALUES = 1 << 22


class NonFiniteError(FaninError):
    """A value of a training step is infinite or not a number.

    Attributes:
        step: number of the step.
        fault: what is not finite, in words.
    """

    def __init__(self, step: int, fault: str, advice: str = "lower the learning rates") -> None:
        super().__init__(f"in step {step} {fault}; {advice}")
        self.step, self.fault = step, fault


def all_finite(values: Tensor) -> bool:
    """Whether a tensor holds numbers only; in blocks, without a copy of its size.

    >>> import torch
    >>> all_finite(torch.ones(3)), all_finite(torch.tensor([1.0, torch.nan]))
    (True, False)
    """
    if not values.is_floating_point():
        return True
    return all(_block_finite(block) for block in torch.split(values.detach().reshape(-1), _BLOCK_VALUES))


def require_finite(step: int, what: str, tensors: Iterable[Tensor]) -> None:
    """Refuse values that are not finite.

    Args:
        step: number of the step.
        what: what they are, as the beginning of a sentence that goes on with "are not finite".
        tensors: the values.

    Raises:
        NonFiniteError: one is not finite.
    """
    if not all(map(all_finite, tensors)):
        raise NonFiniteError(step, f"{what} are not finite")


def advice_on_rates(run: RunFolder, checkpoint: int | None, passed_over: int | None, *, auxiliary: bool) -> str:
    """What to do about a run whose values are not finite any more.

    Args:
        run: its folder.
        checkpoint: the step of its newest checkpoint, None without any.
        passed_over: how many batches were left out by ``training.on_non_finite: skip``, None where that is not set.
        auxiliary: whether an auxiliary objective takes part.
    """
    rates = ["classifier.schedule.learning_rate or encoder.optimizer.learning_rate"]
    rates = ["auxiliary.schedule.learning_rate", *rates] if auxiliary else rates
    begin = "from its first step" if checkpoint is None else f"from the checkpoint of step {checkpoint}, which is kept"
    kept = ". The best model so far is kept" if run.has_model else ""
    command = f"fanin resume {shlex.quote(str(run.path))} --set"
    skip = ""
    if passed_over is None:
        skip = f"; or leave such batches out: '{command} training.on_non_finite=skip'"
    elif passed_over:
        skip = f"; {passed_over} batches were passed over before (training.on_non_finite=skip), which has not helped"
    return (
        f"lower {', '.join(rates)} and let the run go on {begin}: "
        f"'{command} classifier.schedule.learning_rate=...'{skip}{kept}"
    )


def _block_finite(block: Tensor) -> bool:
    block = block.float() if block.element_size() == 1 else block  # torch does not add up float8
    # A sum costs a tenth of a test of each value; one that overflows only asks for that test.
    return math.isfinite(float(block.sum())) or bool(block.isfinite().all())
