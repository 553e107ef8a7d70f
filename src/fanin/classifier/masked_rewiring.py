"""Rewiring a masked layer while it trains."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fanin.classifier.rewiring import RewireReport
from fanin.errors import CheckpointError
from fanin.kernels.drawing import mix_seed

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from fanin.classifier.masked import MaskedLinear
    from fanin.classifier.rewiring_schedule import RewiringSchedule
    from fanin.kernels.active_inputs import ActiveInputs
    from fanin.kernels.spec import Positives


class MaskRewiring:
    """For a masked layer what :class:`fanin.classifier.rewiring.Rewiring` is for index sets.

    Args:
        layer: rewired in place.
        schedule: when and how much.
        seed: of the run; every rewiring draws from its own stream.
        inputs: regrown connections read one of the first so many inputs.

    >>> from fanin.classifier.masked import MaskedLinear
    >>> from fanin.classifier.rewiring_schedule import RewiringSchedule
    >>> schedule = RewiringSchedule(interval=10, fraction=0.25, total_steps=100, decay="none")
    >>> MaskRewiring(MaskedLinear(16, 50, fan_in=4), schedule, seed=0, inputs=16).rewire(10).replaced
    50
    """

    def __init__(self, layer: MaskedLinear, schedule: RewiringSchedule, seed: int, inputs: int) -> None:
        self._layer, self._schedule, self._seed, self._inputs = layer, schedule, seed, inputs

    def observe(self, step: int, x: Tensor | ActiveInputs, positives: Positives) -> None:
        """Show a training batch; random growth does not look at it."""

    def state(self) -> dict[str, Tensor]:
        """Nothing: random growth remembers nothing."""
        return {}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Take up a state of :meth:`state`.

        Raises:
            CheckpointError: there is something in it.
        """
        if state:
            raise CheckpointError("state of rewiring: there is one, but random growth remembers nothing")

    def rewire(self, step: int) -> RewireReport | None:
        """Rewire after ``step`` if the schedule says so.

        Returns:
            What changed, each label in the place of an index set; None where it was not the time.
        """
        prune = self._schedule.prune(step)
        if prune is None:
            return None
        gained = self._layer.rewire(prune, mix_seed(self._seed, step), self._inputs)
        replaced = int(gained.sum())
        return RewireReport(
            step=step,
            fraction=prune.fraction,
            threshold=prune.threshold,
            replaced=replaced,
            sets_changed=int((gained > 0).sum()),
            share=replaced / self._layer.connections,
            grown={"random": replaced},
        )
