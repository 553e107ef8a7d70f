"""How much memory a run will take, part by part, before anything of it is there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fanin.memory import classifier_parts, encoder_parts
from fanin.memory.stages import LaidOutRun, prediction_stage, training_stages
from fanin.memory.team import SINGLE
from fanin.model import PREDICTION_BATCH

if TYPE_CHECKING:
    from fanin.memory.data_sizes import DataSizes
    from fanin.memory.parts import Stage
    from fanin.memory.team import Team
    from fanin.recipes.recipe import Recipe


@dataclass(frozen=True)
class MemoryPlan:
    """The stages of a training run, in order, and prediction with its model.

    Attributes:
        training: stages of the training, with all that is in memory then; of several processes, that of the first one.
        prediction: the trained model at work, in another process.
        gpu: whether a budget is about the memory of a GPU, on which the run computes.
        team: the processes that train; on GPUs each has one of its own, the memory of a machine they share.
    """

    training: tuple[Stage, ...]
    prediction: Stage
    gpu: bool = False
    team: Team = SINGLE

    @property
    def peak(self) -> Stage:
        """The stage of the training that takes the most of this machine's memory."""
        return max(self.training, key=lambda stage: stage.bytes)

    @property
    def gpu_peak(self) -> Stage:
        """The stage of the training that takes the most of the GPU's."""
        return max(self.training, key=lambda stage: stage.gpu_bytes)

    @property
    def needed(self) -> int:
        """The most that must be there in training, content of files apart."""
        return max(stage.needed for stage in self.training)

    @property
    def needed_by_others(self) -> int:
        """The same of a process that is not the first, and has nothing that is there once."""
        return max(stage.needed_by(2) - stage.needed for stage in self.training)

    @property
    def machine_needed(self) -> int:
        """The most that must be there for all processes of a machine."""
        return max(stage.needed_by(self.team.on_machine) for stage in self.training)

    @property
    def limited(self) -> int:
        """The most of what a budget is about; see :meth:`fanin.memory.parts.Stage.limited`."""
        return max(stage.limited(gpu=self.gpu, processes=self.team.on_machine) for stage in self.training)

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""

        def plain(stage: Stage) -> dict[str, Any]:
            parts = [part._asdict() for part in stage.parts]
            gpu = {"gpu_bytes": stage.gpu_bytes} if self.gpu else {}
            return {"stage": stage.name, "bytes": stage.bytes, "needed_bytes": stage.needed, **gpu, "parts": parts}

        together = {"processes": self.team.size, "processes_on_a_machine": self.team.on_machine}
        return {
            "peak_bytes": self.peak.bytes,
            "needed_bytes": self.needed,
            **(together | {"machine_needed_bytes": self.machine_needed} if self.team.size > 1 else {}),
            **({"gpu_peak_bytes": self.gpu_peak.gpu_bytes} if self.gpu else {}),
            "training": [plain(stage) for stage in self.training],
            "prediction": plain(self.prediction),
        }


def plan_memory(recipe: Recipe, sizes: DataSizes, base: int, *, gpu: bool = False, team: Team = SINGLE) -> MemoryPlan:
    """The memory plan of a run; of several processes it is that of the first one, which has the most.

    Args:
        recipe: the run's.
        sizes: of its data.
        base: bytes of Python with everything that a run imports; see :func:`fanin.memory.base.base_bytes`.
        gpu: whether it computes on a GPU: then model, updates and batches are there from the first step on. What the
            kernels make for a while is counted, the GPU's share of libraries assumed (:mod:`.gpu_parts`).
        team: the processes that train it. They share what belongs to single labels and the rows of a batch, and each
            has all else. Prediction stays that of one.

    Raises:
        ConfigError: a setting does not fit the data, or the processes cannot share the classifier.
    """
    encoder = encoder_parts.lay_out_encoder(recipe, sizes)
    whole = classifier_parts.lay_out(recipe.classifier, encoder, sizes.labels)
    own = whole if team.size == 1 else classifier_parts.lay_out(recipe.classifier, encoder, sizes.labels, team.size)
    run = LaidOutRun(recipe, sizes, encoder, whole, own, gpu, team)
    stages = training_stages(run, base)
    return MemoryPlan(tuple(stages), prediction_stage(run, stages[-1], PREDICTION_BATCH), gpu, team)
