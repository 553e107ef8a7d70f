"""The model of a run whose labels several processes share: kept by the first one, taken up again by all, ranking."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from fanin.classifier.sharded import ShardedClassifier
from fanin.kernels.positives import on_device
from fanin.model import encode
from fanin.model_files import load_networks, save_model
from fanin.processes.spread import SpreadTensors, handed_out
from fanin.tensor_files import copy_into, distinct_tensors
from fanin.training.batch_exchange import brought_together

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

    from fanin.data.batches import Batch
    from fanin.kernels.spec import Positives
    from fanin.model import TextModel
    from fanin.processes.group import Processes
    from fanin.training.scoring import Ranking
    from fanin.training.stop_signals import StopSignals


def keep_model(model: TextModel, folder: Path, processes: Processes) -> str:
    """Write the model folder, which is that of one process, however many have trained it; gives its digest.

    Raises:
        CheckpointError: it cannot be written; what stood there is kept.
    """
    if not isinstance(model.classifier, ShardedClassifier):
        return save_model(model, folder)
    weights = SpreadTensors(model.classifier.own_tensors(), processes)
    digest = ""
    if processes.first:
        digest = save_model(replace(model, classifier=model.classifier.whole), folder, weights)
    else:
        weights.send()
    told: str = processes.told_by_first(lambda: digest)
    return told


def take_kept_model(model: TextModel, folder: Path, processes: Processes) -> None:
    """Give a model that is shared the weights of the kept one, in the memory that it has, an encoder's in float32.

    Its training is over: what the classifier's update has kept is dropped.

    Args:
        model: changed in place.
        folder: of the kept one; the first process reads it.
        processes: all of them.

    Raises:
        CheckpointError: it is missing or damaged.
    """
    classifier = model.classifier
    assert isinstance(classifier, ShardedClassifier)
    classifier.load_optimizer_state({}, 0)
    kept = load_networks(folder) if processes.first else None
    assert isinstance(model.encoder, torch.nn.Module)
    encoder = model.encoder.float()

    def encoder_tensors() -> dict[str, Tensor]:
        assert kept is not None
        assert isinstance(kept.encoder, torch.nn.Module)
        return distinct_tensors(kept.encoder)

    def classifier_tensors() -> dict[str, Tensor]:
        assert kept is not None
        return distinct_tensors(kept.classifier)

    copy_into(encoder, handed_out(encoder_tensors, {}, processes, distinct_tensors(encoder)))
    own_rows, own = classifier.own_rows(), classifier.own_tensors()
    classifier.take_tensors(handed_out(classifier_tensors, own_rows, processes, own))


def shared_ranking(model: TextModel, processes: Processes, stop: StopSignals) -> Ranking:
    """How processes that share a model rank a batch: each encodes some rows and scores its labels for all of them.

    Args:
        model: what they share.
        processes: all of them.
        stop: signals to stop, heeded between two batches.
    """

    @torch.no_grad()
    def rank(batch: Batch, k: int, barred: Positives | None) -> Tensor:
        with stop.deferred():
            was_training = model.encoder.training
            model.encoder.eval()
            own = encode(model.encoder, batch.inputs, model.device)
            x = brought_together(own, len(batch), processes)
            model.encoder.train(was_training)
            there = None if barred is None else on_device(barred, model.device)
            return model.classifier.topk(x, k, there)[1].cpu()

    return rank
