"""The state of a run's parts as tensors, taken for a checkpoint and put back from one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from fanin.classifier.part_names import joined, split_by_part
from fanin.errors import CheckpointError
from fanin.kernels.drawing import mix_seed
from fanin.tensor_files import copy_into, distinct_tensors, first_complaint
from fanin.training.checkpoint import RunFacts
from fanin.training.non_finite import require_finite
from fanin.training.parts import LabelStructure, build_parts

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from fanin.classifier.interface import Classifier
    from fanin.training.checkpoint import Checkpoint
    from fanin.training.parts import TrainingParts
    from fanin.training.position import Position
    from fanin.training.preparation import PreparedData
    from fanin.training.progress import ProgressDisplay
    from fanin.training.recipe import Recipe
    from fanin.training.run_log import LogMark

_WEIGHTS = ("encoder", "encoder_update", "classifier", "classifier_update", "auxiliary")


def state_of(parts: TrainingParts) -> dict[str, Mapping[str, Tensor]]:
    """The tensors that a run goes on with, by part and name; they are the live ones.

    Args:
        parts: of the run, between two steps.
    """
    assert isinstance(parts.encoder, torch.nn.Module)
    auxiliary = parts.objectives.auxiliary
    return {
        "encoder": distinct_tensors(parts.encoder),
        "encoder_update": parts.encoder_update.state(),
        "classifier": distinct_tensors(parts.classifier),
        "classifier_update": parts.classifier.optimizer_state(),
        "auxiliary": {} if auxiliary is None else _auxiliary_state(auxiliary.classifier),
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
    return joined({"weights": distinct_tensors(classifier), "update": classifier.optimizer_state()})


def require_finite_state(step: int, state: Mapping[str, Mapping[str, Tensor]]) -> None:
    """Refuse a state that must not take the place of a good one.

    Raises:
        NonFiniteError: a weight or the state of an update is not finite.
    """
    for part in _WEIGHTS:
        require_finite(step, f"values of the {part.replace('_', ' ')}", state[part].values())


def parts_of(
    checkpoint: Checkpoint,
    recipe: Recipe,
    data: PreparedData,
    total_steps: int,
    display: ProgressDisplay,
    device: torch.device,
) -> TrainingParts:
    """The parts of a run as they were at a checkpoint, and the random state with them.

    Args:
        checkpoint: of the same data and, but for learning rates, the same recipe.
        recipe: all settings.
        data: what is trained on.
        total_steps: of the run.
        display: told of the progress.
        device: where the run goes on, which need not be where it was.

    Raises:
        CheckpointError: it does not fit.
        MemoryPlanError: there is too little memory for a part.
        ConfigError: a pretrained model is no longer where the recipe has it.
    """
    structure = LabelStructure(*(_numbers_of_labels(checkpoint, name, data) for name in LabelStructure._fields))
    parts = build_parts(recipe, data, total_steps, display, structure)
    parts.to(device)
    try:
        _restore(parts, checkpoint)
        _restore_random_state(checkpoint, device, mix_seed(recipe.training.seed, 3))
    except (KeyError, IndexError, TypeError, ValueError, RuntimeError) as error:  # ours are ValueErrors too
        told = first_complaint(error)
        raise CheckpointError(f"{checkpoint.folder}: does not fit recipe and data of the run ({told})") from error
    return parts


def _numbers_of_labels(checkpoint: Checkpoint, name: str, data: PreparedData) -> Tensor | None:
    """One of the label structure's tensors, None where there is none."""
    L, found = data.store.n_labels, checkpoint.tensors("labels").get(name)
    if found is None:
        return None
    if found.dtype != torch.int64 or found.shape != (L,) or not 0 <= int(found.min()) <= int(found.max()) < L:
        raise CheckpointError(f"{checkpoint.folder}: {name!r} does not hold {L} numbers below that; train anew")
    return found.clone()


def _restore(parts: TrainingParts, checkpoint: Checkpoint) -> None:
    assert isinstance(parts.encoder, torch.nn.Module)
    copy_into(parts.encoder, checkpoint.tensors("encoder"))
    parts.encoder_update.load_state(checkpoint.tensors("encoder_update"))
    copy_into(parts.classifier, checkpoint.tensors("classifier"))
    parts.classifier.load_optimizer_state(checkpoint.tensors("classifier_update"), checkpoint.facts.classifier_steps)
    auxiliary = parts.objectives.auxiliary
    if auxiliary is not None:
        weights, update = split_by_part("auxiliary objective", checkpoint.tensors("auxiliary"), "weights", "update")
        copy_into(auxiliary.classifier, weights)
        auxiliary.classifier.load_optimizer_state(update, checkpoint.facts.auxiliary_steps or 0)
    if parts.rewiring is not None:
        device = parts.model.device
        parts.rewiring.load_state({name: t.to(device) for name, t in checkpoint.tensors("rewiring").items()})


def _random_state(device: torch.device) -> dict[str, Tensor]:
    found = {"torch": torch.get_rng_state()}
    return found | {"cuda": torch.cuda.get_rng_state(device)} if device.type == "cuda" else found


def _restore_random_state(checkpoint: Checkpoint, device: torch.device, seed: int) -> None:
    """Let random numbers go on; on a GPU that the run was not on, from one that seed and step determine."""
    states = checkpoint.tensors("random")
    torch.set_rng_state(states["torch"])
    if device.type == "cuda" and "cuda" in states:
        torch.cuda.set_rng_state(states["cuda"], device)
    elif device.type == "cuda":
        torch.cuda.manual_seed_all(mix_seed(seed, checkpoint.facts.position.step))
