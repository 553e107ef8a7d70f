"""The model that a run keeps: the best one so far by validation, in its run folder all the time."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fanin.errors import CheckpointError
from fanin.model_description import model_digest
from fanin.model_files import load_model
from fanin.training.shared_model import keep_model, take_kept_model

if TYPE_CHECKING:
    import torch

    from fanin.evaluation.metrics import Metrics
    from fanin.model import TextModel
    from fanin.processes.group import Processes
    from fanin.runs.position import Position
    from fanin.runs.run_folder import RunFolder
    from fanin.training.progress import ProgressDisplay


class KeptModel:
    """The kept model of a run; which one it is, ``best`` and ``kept`` of the run's position say.

    Args:
        run: its folder.
        select_by: the validation metric that chooses it.
        display: told what is kept.
        processes: that train together; each has an object of its own and calls it at the same places.
    """

    def __init__(self, run: RunFolder, select_by: str, display: ProgressDisplay, processes: Processes) -> None:
        self._run, self._select_by, self._display, self._processes = run, select_by, display, processes

    def keep(self, model: TextModel) -> str:
        """Put a model in the place of the kept one; gives its digest.

        Raises:
            CheckpointError: it cannot be written; what stood there is kept.
        """
        return keep_model(model, self._run.model, self._processes)

    def keep_if_best(self, model: TextModel, metrics: Metrics, position: Position) -> None:
        """Keep a model that is better than the best one so far, and note it in the position.

        Args:
            model: the trained one.
            metrics: of its validation.
            position: of the run.

        Raises:
            CheckpointError: it cannot be written; what stood there is kept.
        """
        value = metrics[self._select_by]
        # Without a single validation row that has labels there is nothing to choose by: the newest is kept.
        best = position.best is None or value > position.best or not metrics.points
        self._display.say(f"  validation {self._select_by} {value:.2%}" + (" (best, kept)" if best else ""))
        if best:
            position.kept = self.keep(model)
            position.best = value

    def count_on(self, position: Position) -> None:
        """Let another model be kept whatever its score, where the best one of a checkpoint is not there any more.

        One that is damaged is put aside.

        Args:
            position: of the checkpoint; changed in place.
        """
        if position.best is None:
            return
        fault = self._processes.told_by_first(lambda: self._fault(position.kept))
        if fault is not None:
            self._display.say(f"{fault}: the next one takes its place")
            position.best = position.kept = None

    def load(self, device: torch.device, shared: TextModel | None) -> TextModel:
        """The kept model.

        Args:
            device: where it shall lie.
            shared: the trained one, where several processes share it: it becomes the kept one, in the memory that it
                has there.

        Raises:
            CheckpointError: it is missing or damaged.
        """
        if shared is None:
            return load_model(self._run.model).to(device)
        take_kept_model(shared, self._run.model, self._processes)
        return shared

    def _fault(self, kept: str | None) -> str | None:
        """Why the model is not the one that a checkpoint counts on, as the beginning of a sentence; None where it is.

        Args:
            kept: digest of the model that was kept when the checkpoint was saved, None where it was not noted.
        """
        try:
            found = model_digest(self._run.model)
        except CheckpointError as error:
            aside = self._run.put_model_aside()
            return f"{error}; the kept model is put aside" if aside else "the kept model is gone"
        # It was kept after the checkpoint: of a past that the run may not come to again.
        return None if kept in (None, found) else "the kept model is not that of the checkpoint"
