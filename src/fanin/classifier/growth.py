"""Which inputs pruned connections read next: drawn at random, the best by some measure, or some of each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch

from fanin.classifier.part_names import joined, split_by_part
from fanin.classifier.rewiring_modes import check_shares
from fanin.kernels import drawing

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from fanin.classifier.rewiring_modes import GrowthMode
    from fanin.kernels.active_inputs import ActiveInputs
    from fanin.kernels.spec import Positives

_NO_INPUT = 2**31 - 1


class InputScores(Protocol):
    """A measure of how much each index set would gain from reading an input."""

    def observe(self, x: Tensor | ActiveInputs, positives: Positives, ahead: int) -> None:
        """Take note of a training batch.

        Args:
            x: (B, D), or its active columns; kept, so it must not be changed afterwards.
            positives: the batch's relevant labels, by place; those of a layer follow on those of the layer before,
                and a layer that is a part has them all, as the whole one.
            ahead: steps until the next rewiring, 0 where it comes right after this batch.
        """

    def scores(self, layer: int, sets: Tensor) -> Tensor:
        """Scores (s, inputs) of some sets (s,), ascending, of a layer; 0 where nothing speaks for an input."""

    def forget(self) -> None:
        """Give back the memory of what was observed; no rewiring comes any more."""

    def state(self) -> dict[str, Tensor]:
        """What was observed, by name, for checkpoints; the tensors are the live ones."""

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Take up a state of :meth:`state`.

        Raises:
            CheckpointError: a tensor is missing or of another shape.
        """


class Growth:
    """Chooses new inputs for index sets, by one mode or by several, each for its share of the connections.

    Args:
        inputs: the first so many inputs can be chosen.
        shares: of each mode, adding up to 1. A set's share is rounded up or down by chance, so that over many sets
            shares hold however few connections a set replaces.
        measures: of each mode but "random". Where they score no unused input above 0, one is drawn at random.

    Raises:
        ConfigError: the shares do not add up to 1, or one is not positive.

    >>> growth = Growth(inputs=6)
    >>> sets, used = torch.arange(2), torch.tensor([[0, 1, 2], [3, 4, 5]])
    >>> new, grown = growth.choose(0, sets, used, torch.tensor([1, 2]), seed=0)
    >>> new.shape, grown
    (torch.Size([2, 2]), {'random': 3})
    """

    def __init__(
        self,
        inputs: int,
        shares: Mapping[GrowthMode, float] | None = None,
        measures: Mapping[GrowthMode, InputScores] | None = None,
    ) -> None:
        shares = {"random": 1.0} if shares is None else shares
        check_shares(shares)
        self.inputs = inputs
        self._measures = dict(measures or {})
        assert self._measures.keys() == shares.keys() - {"random"}
        ends = np.cumsum([shares[mode] for mode in self._measures])
        # What random growth does not get is the measures' to the last connection.
        self._ends = ends if "random" in shares else np.append(ends[:-1], 1.0)
        self.modes = tuple(shares)

    @property
    def watches(self) -> bool:
        """Whether a mode learns from the training batches; then :meth:`choose` makes an array (s, inputs)."""
        return bool(self._measures)

    def observe(self, x: Tensor | ActiveInputs, positives: Positives, ahead: int) -> None:
        """Show a training batch to all measures; see :meth:`InputScores.observe`."""
        for measure in self._measures.values():
            measure.observe(x, positives, ahead)

    def forget(self) -> None:
        """Let all measures give back the memory of what they observed."""
        for measure in self._measures.values():
            measure.forget()

    def state(self) -> dict[str, Tensor]:
        """What all measures observed, by name, for checkpoints."""
        return joined({mode: measure.state() for mode, measure in self._measures.items()})

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Take up a state of :meth:`state`.

        Raises:
            CheckpointError: it is that of other modes, or does not fit them.
        """
        parts = split_by_part("growth", state, *self._measures)
        for measure, part in zip(self._measures.values(), parts, strict=True):
            measure.load_state(part)

    def choose(
        self, layer: int, sets: Tensor, used: Tensor, count: Tensor, seed: int, first_set: int = 0
    ) -> tuple[Tensor, dict[str, int]]:
        """New inputs for some index sets.

        Args:
            layer: number of the layer that has them, from 0.
            sets: (s,) numbers of the sets, ascending.
            used: (s, F) int64 inputs in use, the pruned ones included: none of them is chosen.
            count: (s,) how many to choose, at most what is unused of the first ``inputs``.
            seed: a fresh one for every rewiring and layer.
            first_set: number of set 0 in the layer that this one is a part of; so counted, and with the seed, the sets
                key the random draws.

        Returns:
            (s, max(count)) int64, row r filled in its first ``count[r]`` places, none twice; what stands behind has no
            meaning. And how many each mode chose.
        """
        keys = sets.cpu().numpy() + first_set
        offset = drawing.draw(drawing.mix_seed(seed, 1), keys, 0, np.full(len(sets), 2**31)) / 2**31
        quota_end = np.floor(count.cpu().numpy()[:, None] * self._ends + offset[:, None])  # (s, measures)
        quotas = torch.from_numpy(np.diff(quota_end, axis=1, prepend=0)).to(count)
        grown: dict[str, int] = dict.fromkeys(self.modes, 0)
        taken, left = used, count
        for number, (mode, measure) in enumerate(self._measures.items()):
            new = self._best(measure, layer, sets, taken, quotas[:, number])
            found = (new != _NO_INPUT).sum(1)  # (s,)
            grown[mode] += int(found.sum())
            taken, left = torch.cat([taken, new], dim=1), left - found
        if int(left.sum()):
            grown["random"] = grown.get("random", 0) + int(left.sum())
            barred, size = taken.cpu().numpy(), left.cpu().numpy()
            drawn = torch.from_numpy(drawing.regrow(seed, keys, barred, size, self.inputs)).to(taken)
            wanted = torch.arange(drawn.shape[1], device=left.device) < left[:, None]
            taken = torch.cat([taken, torch.where(wanted, drawn, _NO_INPUT)], dim=1)
        new = taken[:, used.shape[1] :]
        chosen_first = (new == _NO_INPUT).to(torch.uint8).argsort(dim=1, stable=True)
        return new.gather(1, chosen_first)[:, : int(count.max())], grown

    def _best(self, measure: InputScores, layer: int, sets: Tensor, taken: Tensor, quota: Tensor) -> Tensor:
        """The unused inputs of highest score, (s, max(quota)), ``_NO_INPUT`` beyond a set's quota or a score of 0."""
        width = min(int(quota.max()), self.inputs)
        if not width:
            return taken[:, :0]
        scores = measure.scores(layer, sets).nan_to_num_(0.0)  # (s, inputs)
        inside = taken < self.inputs
        scores[inside.nonzero(as_tuple=True)[0], taken[inside]] = 0
        best, chosen = scores.topk(width, dim=1)
        wanted = torch.arange(width, device=quota.device) < quota[:, None]
        return torch.where(wanted & (best > 0), chosen, _NO_INPUT)
