"""The state of a run's parts as tensors, taken for a checkpoint and put back from one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from fanin.classifier.part_names import joined, split_by_part
from fanin.classifier.sharded import ShardedClassifier
from fanin.errors import CheckpointError
from fanin.kernels.drawing import mix_seed
from fanin.processes.group import ALONE
from fanin.processes.lost import LostProcessError
from fanin.processes.spread import SpreadTensors, handed_out
from fanin.runs.checkpoint import RunFacts
from fanin.tensor_files import copy_into, distinct_tensors, first_complaint
from fanin.training.non_finite import NonFiniteError, all_finite
from fanin.training.parts import LabelStructure, build_parts

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from fanin.classifier.interface import Classifier
    from fanin.processes.group import Processes
    from fanin.recipes.recipe import Recipe
    from fanin.runs.checkpoint import Checkpoint, Part
    from fanin.runs.position import Position
    from fanin.runs.run_log import LogMark
    from fanin.training.parts import TrainingParts
    from fanin.training.preparation import PreparedData
    from fanin.training.progress import ProgressDisplay

_WEIGHTS = ("encoder", "encoder_update", "classifier", "classifier_update", "auxiliary")


def state_of(parts: TrainingParts) -> dict[str, Part]:
    """The tensors that a run goes on with, by part and name; they are the live ones.

    Called by all processes of the run at the same time: what each has of the labels is spread over them.

    Args:
        parts: of the run, between two steps.
    """
    assert isinstance(parts.encoder, torch.nn.Module)
    auxiliary = parts.objectives.auxiliary
    return {
        "encoder": distinct_tensors(parts.encoder),
        "encoder_update": parts.encoder_update.state(),
        "classifier": _spread(_weights(parts.classifier), parts.processes),
        "classifier_update": _spread(parts.classifier.optimizer_state(), parts.processes),
        "auxiliary": {} if auxiliary is None else _spread(_auxiliary_state(auxiliary.classifier), parts.processes),
        "labels": {name: tensor for name, tensor in parts.labels._asdict().items() if tensor is not None},
        "rewiring": {} if parts.rewiring is None else parts.rewiring.state(),
        "random": _random_state(parts.model.device),
    }


def facts_of(parts: TrainingParts, position: Position, log: LogMark, data: PreparedData, recipe: Recipe) -> RunFacts:
    """What a checkpoint says besides its tensors.

    Args:
        parts: of the run, between two steps.
        position: where it stands.
        log: the end of its log.
        data: what is trained on.
        recipe: all settings.
    """
    auxiliary, tokenizer = parts.objectives.auxiliary, data.tokenizer
    return RunFacts(
        position=position,
        classifier_steps=parts.classifier.steps,
        auxiliary_steps=None if auxiliary is None else auxiliary.classifier.steps,
        log_size=log.size,
        log_seconds=log.seconds,
        data_key=data.key,
        tokenizer_key=None if tokenizer is None else tokenizer.key,
        recipe=recipe.model_dump(mode="json"),
    )


def _auxiliary_state(classifier: Classifier) -> dict[str, Tensor]:
    return joined({"weights": _weights(classifier), "update": classifier.optimizer_state()})


def _weights(classifier: Classifier) -> dict[str, Tensor]:
    if isinstance(classifier, ShardedClassifier):
        return classifier.own_tensors()
    return distinct_tensors(classifier)


def _spread(own: dict[str, Tensor], processes: Processes) -> Part:
    return own if processes.size == 1 else SpreadTensors(own, processes)


def require_finite_state(step: int, state: Mapping[str, Part], processes: Processes = ALONE) -> None:
    """Refuse a state that must not take the place of a good one, in all processes alike.

    Raises:
        NonFiniteError: a weight or the state of an update is not finite.
    """
    for name in _WEIGHTS:
        part = state[name]
        own = part.own if isinstance(part, SpreadTensors) else part
        [faulty] = processes.largest(not all(map(all_finite, own.values())))
        if faulty:
            raise NonFiniteError(step, f"values of the {name.replace('_', ' ')} are not finite")


def parts_of(
    checkpoint: Checkpoint,
    recipe: Recipe,
    data: PreparedData,
    total_steps: int,
    display: ProgressDisplay,
    device: torch.device,
    processes: Processes = ALONE,
) -> TrainingParts:
    """The parts of a run as they were at a checkpoint, and the random state with them.

    Args:
        checkpoint: of the same data and, but for learning rates, the same recipe.
        recipe: all settings.
        data: what is trained on.
        total_steps: of the run.
        display: told of the progress.
        device: where the run goes on, which need not be where it was.
        processes: that go on together, as many as one likes.

    Raises:
        CheckpointError: it does not fit.
        MemoryPlanError: there is too little memory for a part.
        ConfigError: a pretrained model is no longer where the recipe has it.
    """
    labels = handed_out(lambda: checkpoint.tensors("labels"), {}, processes)
    structure = LabelStructure(*(_numbers_of_labels(labels, name, checkpoint, data) for name in LabelStructure._fields))
    parts = build_parts(recipe, data, total_steps, display, structure, processes)
    parts.to(device)
    try:
        _restore(parts, checkpoint)
        _restore_random_state(checkpoint, device, mix_seed(recipe.training.seed, 3), processes)
    except LostProcessError:
        raise
    except (KeyError, IndexError, TypeError, ValueError, RuntimeError) as error:  # ours are ValueErrors too
        told = first_complaint(error)
        raise CheckpointError(f"{checkpoint.folder}: does not fit recipe and data of the run ({told})") from error
    return parts


def _numbers_of_labels(
    labels: Mapping[str, Tensor], name: str, checkpoint: Checkpoint, data: PreparedData
) -> Tensor | None:
    """One of the label structure's tensors, None where there is none."""
    L, found = data.store.n_labels, labels.get(name)
    if found is None:
        return None
    if found.dtype != torch.int64 or found.shape != (L,) or not 0 <= int(found.min()) <= int(found.max()) < L:
        raise CheckpointError(f"{checkpoint.folder}: {name!r} does not hold {L} numbers below that; train anew")
    return found.clone()


def _restore(parts: TrainingParts, checkpoint: Checkpoint) -> None:
    def tensors(part: str, own_rows: Mapping[str, int] | None = None) -> dict[str, Tensor]:
        return handed_out(lambda: checkpoint.tensors(part), own_rows or {}, parts.processes)

    assert isinstance(parts.encoder, torch.nn.Module)
    copy_into(parts.encoder, tensors("encoder"))
    parts.encoder_update.load_state(tensors("encoder_update"))
    own_rows = _own_rows(parts.classifier)
    _take_weights(parts.classifier, tensors("classifier", own_rows))
    parts.classifier.load_optimizer_state(tensors("classifier_update", own_rows), checkpoint.facts.classifier_steps)
    auxiliary = parts.objectives.auxiliary
    if auxiliary is not None:
        own_rows = _own_rows(auxiliary.classifier)
        held = tensors("auxiliary", joined({"weights": own_rows, "update": own_rows}))
        weights, update = split_by_part("auxiliary objective", held, "weights", "update")
        _take_weights(auxiliary.classifier, weights)
        auxiliary.classifier.load_optimizer_state(update, checkpoint.facts.auxiliary_steps or 0)
    if parts.rewiring is not None:
        device = parts.model.device
        parts.rewiring.load_state({name: t.to(device) for name, t in tensors("rewiring").items()})


def _own_rows(classifier: Classifier) -> dict[str, int]:
    """How many rows of the tensors that processes share this one has; none where there is one process."""
    return classifier.own_rows() if isinstance(classifier, ShardedClassifier) else {}


def _take_weights(classifier: Classifier, tensors: Mapping[str, Tensor]) -> None:
    if isinstance(classifier, ShardedClassifier):
        classifier.take_tensors(tensors)
    else:
        copy_into(classifier, tensors)


def _random_state(device: torch.device) -> dict[str, Tensor]:
    found = {"torch": torch.get_rng_state()}
    return found | {"cuda": torch.cuda.get_rng_state(device)} if device.type == "cuda" else found


def _restore_random_state(checkpoint: Checkpoint, device: torch.device, seed: int, processes: Processes) -> None:
    """Let random numbers go on; on a GPU that the run was not on, from one that seed and step determine."""
    states = handed_out(lambda: checkpoint.tensors("random"), {}, processes)
    torch.set_rng_state(states["torch"])
    if device.type == "cuda" and "cuda" in states:
        torch.cuda.set_rng_state(states["cuda"], device)
    elif device.type == "cuda":
        torch.cuda.manual_seed_all(mix_seed(seed, checkpoint.facts.position.step))
