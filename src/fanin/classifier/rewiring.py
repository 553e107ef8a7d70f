"""Rewiring a sparse classifier while it trains: prune weak connections, grow others, and report what changed."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import torch

from fanin.classifier.group_scores import BLOCK_VALUES
from fanin.classifier.growth import Growth
from fanin.classifier.pruning import Pruning
from fanin.kernels.drawing import mix_seed
from fanin.kernels.positives import kept_pairs
from fanin.kernels.spec import SparseWeights

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from torch import Tensor

    from fanin.classifier.rewiring_schedule import RewiringSchedule
    from fanin.classifier.sparse import SparsePart
    from fanin.kernels.active_inputs import ActiveInputs
    from fanin.kernels.spec import Positives, Prune


@dataclass(frozen=True)
class RewireReport:
    """What one rewiring did.

    Attributes:
        step: the training step after which it happened.
        fraction: largest share of connections that could be pruned.
        threshold: weights below it were pruned, or None where the smallest share was.
        replaced: connections replaced in all sets.
        sets_changed: index sets with at least one replaced connection.
        share: replaced connections, as a share of all.
        grown: how many of them each mode of growth chose.
    """

    step: int
    fraction: float
    threshold: float | None
    replaced: int
    sets_changed: int
    share: float
    grown: dict[str, int]

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for a log."""
        return asdict(self)


class Rewiring:
    """Rewires one classifier through its training.

    A rewiring prunes the weakest connections and grows as many in their places, of weight zero and with zero state of
    the update. What a set read before a rewiring is not grown in it. With the defaults that is SET (Mocanu et al.,
    2018; Ullah et al., NeurIPS 2024), done by the backend; everything else is done here, block by block of index sets.

    Args:
        parts: what to rewire; the order of their labels must be settled.
        schedule: when and how much.
        seed: of the run; every rewiring draws from its own stream.
        pruning: which connections go.
        growth: what comes in their place; by default any input, at random.
        added_up: counts (n,) of this process to those of all that share the layers; by default there is one process.

    >>> from fanin.classifier.rewiring_schedule import RewiringSchedule
    >>> from fanin.classifier.sparse import SparseLinear
    >>> schedule = RewiringSchedule(interval=10, fraction=0.25, total_steps=100, decay="none")
    >>> rewiring = Rewiring(SparseLinear(16, 50, fan_in=4).sparse_parts(), schedule, seed=0)
    >>> rewiring.rewire(10).grown
    {'random': 50}
    """

    def __init__(
        self,
        parts: Sequence[SparsePart],
        schedule: RewiringSchedule,
        seed: int,
        pruning: Pruning | None = None,
        growth: Growth | None = None,
        added_up: Callable[[Tensor], Tensor] = lambda counts: counts,
    ) -> None:
        self._added_up = added_up
        self._layers = [part.layer for part in parts]
        self._schedule, self._seed = schedule, seed
        self._pruning = pruning or Pruning()
        self._growth = growth or Growth(self._layers[0].in_features)
        labels = torch.cat([part.labels for part in parts])
        places = torch.arange(len(labels), device=labels.device)
        # By label id; -1 where none of the parts serves it.
        self._places = places.new_full((int(labels.max()) + 1,), -1).index_copy(0, labels, places)

    def observe(self, step: int, x: Tensor | ActiveInputs, positives: Positives) -> None:
        """Show a training batch, before the rewiring that may follow its step; after the last one nothing is kept.

        Args:
            step: number of the batch's step, from 1.
            x: (B, D) of the batch, or its active columns; it must not be changed afterwards.
            positives: its relevant labels, by label id.
        """
        ahead = self._schedule.ahead(step)
        if ahead is None:
            self._growth.forget()
        elif self._growth.watches:
            self._growth.observe(x, self._of_parts(positives), ahead)

    @torch.no_grad()
    def rewire(self, step: int) -> RewireReport | None:
        """Rewire after ``step`` if the schedule says so.

        Returns:
            What changed, or None where it was not the time.
        """
        prune = self._schedule.prune(step)
        if prune is None:
            return None
        counts, grown = [], Counter[str](dict.fromkeys(self._growth.modes, 0))
        for number, layer in enumerate(self._layers):
            seed = mix_seed(self._seed, step * len(self._layers) + number)
            if self._pruning == Pruning() and not self._growth.watches:
                counts.append(layer.rewire(prune, seed, self._growth.inputs))
                grown["random"] += int(counts[-1].sum())
            else:
                counts.append(self._rewire_by_blocks(number, prune, seed, grown))
        return self._report(step, prune, torch.cat(counts), grown)

    def _report(self, step: int, prune: Prune, counts: Tensor, grown: Counter[str]) -> RewireReport:
        """The report of connections replaced in each set (S,), and chosen by each mode."""
        # Where no input is worth growing, one is drawn at random, also of modes without it: not in all processes alike.
        modes = dict.fromkeys((*self._growth.modes, "random"))
        found = torch.tensor([int(counts.sum()), int((counts > 0).sum()), *(grown[mode] for mode in modes)])
        replaced, sets_changed, *by_mode = self._added_up(found).tolist()
        whole = sum(-(-layer.shard.of // layer.group_size) * layer.fan_in for layer in self._layers)
        return RewireReport(
            step=step,
            fraction=prune.fraction,
            threshold=prune.threshold,
            replaced=replaced,
            sets_changed=sets_changed,
            share=replaced / whole,
            grown={m: count for m, count in zip(modes, by_mode, strict=True) if count or m in self._growth.modes},
        )

    def state(self) -> dict[str, Tensor]:
        """What the next rewirings depend on besides layer and schedule, by name, for checkpoints."""
        return self._growth.state()

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Take up a state of :meth:`state`.

        Raises:
            CheckpointError: it does not fit the modes of growth.
        """
        self._growth.load_state(state)

    def _rewire_by_blocks(self, number: int, prune: Prune, seed: int, grown: Counter[str]) -> Tensor:
        """Connections replaced in each set of a layer, (S,); those that each mode chose are added to ``grown``."""
        layer, growth = self._layers[number], self._growth
        tensors = SparseWeights(layer.weight.detach(), layer.index, None, layer.group_size, layer.in_features)
        state = [tensor for name, tensor in layer.optimizer_state().items() if name.startswith("weight.")]
        block_sets = max(1, BLOCK_VALUES // (layer.group_size * layer.fan_in))
        if growth.watches:
            block_sets = min(block_sets, max(1, BLOCK_VALUES // growth.inputs))
        counts = []
        for first, pruned in self._pruning.slots(tensors, prune, growth.inputs, block_sets):
            counts.append(pruned.sum(1))
            changed = counts[-1].nonzero().squeeze(1)
            if not len(changed):
                continue
            index = layer.index[first : first + len(pruned)].to(torch.int64)  # (s, F)
            new, by_mode = growth.choose(
                number, changed + first, index[changed], counts[-1][changed], seed, layer.first_set
            )
            rows, slots = pruned.nonzero(as_tuple=True)  # in the order of sets and slots
            index[rows, slots] = new[torch.arange(new.shape[1], device=new.device) < counts[-1][changed, None]]
            layer.index[first : first + len(pruned)] = index.to(layer.index.dtype)
            labels = slice(first * layer.group_size, min((first + len(pruned)) * layer.group_size, layer.out_features))
            gone = pruned.repeat_interleave(layer.group_size, dim=0)[: labels.stop - labels.start]
            pruned_weights = gone.nonzero(as_tuple=True)  # as a mask, torch could not set float8 by it
            for tensor in (tensors.weight, *state):
                tensor[labels][pruned_weights] = 0
            grown.update(by_mode)
        return torch.cat(counts)

    def _of_parts(self, positives: Positives) -> Positives:
        """The positives that the parts serve, by place."""
        self._places = self._places.to(positives.indices.device)  # the layers may have moved since
        inside = positives.indices < len(self._places)
        places = torch.where(inside, self._places[positives.indices.clamp_max(len(self._places) - 1)], -1)
        return kept_pairs(positives._replace(indices=places), places >= 0)
