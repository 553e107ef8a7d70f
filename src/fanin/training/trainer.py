"""The training loop: batches in, a trained model and its run folder out, or a checkpoint to go on from."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

import torch

from fanin.kernels.drawing import mix_seed
from fanin.processes.group import ALONE
from fanin.runs.checkpoint_series import CheckpointSeries, newest_step
from fanin.runs.position import Position
from fanin.runs.run_log import LogMark
from fanin.training.classifier_start import start_classifier
from fanin.training.device import require_one_kind
from fanin.training.final_scores import final_scores
from fanin.training.gpu_memory import forget_gpu_peaks, gpu_peaks
from fanin.training.kept_model import KeptModel
from fanin.training.non_finite import NonFiniteError, advice_on_rates
from fanin.training.parts import build_parts
from fanin.training.process_memory import peak_bytes
from fanin.training.run_state import facts_of, parts_of, require_finite_state, state_of
from fanin.training.scoring import score_split
from fanin.training.shared_model import shared_ranking
from fanin.training.step import rewire_after, train_on
from fanin.training.stop_signals import Stopped, StopSignals

if TYPE_CHECKING:
    from fanin.data.batches import Batch
    from fanin.model import TextModel
    from fanin.processes.group import Processes
    from fanin.recipes.recipe import Recipe
    from fanin.runs.checkpoint import Checkpoint
    from fanin.runs.run_folder import RunFolder
    from fanin.training.parts import TrainingParts
    from fanin.training.preparation import PreparedData
    from fanin.training.progress import ProgressDisplay
    from fanin.training.scoring import Ranking, Scores

_MOST_SKIPPED = 10


@dataclass(frozen=True)
class TrainingResult:
    """What a finished run gives.

    Attributes:
        model: the kept model, the best one by the recipe's validation metric; where several processes train, this one's
            part of it.
        metrics: what metrics.json holds.
    """

    model: TextModel
    metrics: dict[str, Any]


class Trainer:
    """Trains one model by one recipe.

    Args:
        recipe: all settings.
        data: what :func:`fanin.training.preparation.prepare` gave.
        run: where log, metrics, checkpoints and model are written.
        display: what is told of the progress.
        stop: signals to stop; by default they do what they do elsewhere.
        checkpoint: of the run, to go on from; by default it begins. See :func:`fanin.training.resume.resume_run`.
        device: where encoder and classifier train, by default the CPU; their starts are computed on the CPU.
        processes: that train it together; each makes a trainer of its own of the same recipe and data, and where one is
            for a GPU, all are, each for another.
    """

    def __init__(
        self,
        recipe: Recipe,
        data: PreparedData,
        run: RunFolder,
        display: ProgressDisplay,
        *,
        stop: StopSignals | None = None,
        checkpoint: Checkpoint | None = None,
        device: torch.device | None = None,
        processes: Processes = ALONE,
    ) -> None:
        training = recipe.training
        self._recipe, self._data, self._run, self._display = recipe, data, run, display
        self._stop, self._processes = stop or StopSignals(), processes
        self._device = device or torch.device("cpu")
        require_one_kind(self._device, processes)
        processes.compute_on(self._device)
        forget_gpu_peaks(self._device)
        self._batches = data.train_batches(training.batch_size, training.seed, processes.own_rows)
        self._total_steps = training.steps or len(self._batches) * training.epochs
        self._epochs = math.ceil(self._total_steps / len(self._batches))  # the last may be cut short
        self._checkpoints = CheckpointSeries(run.checkpoints, training.checkpoint, processes)
        self._kept = KeptModel(run, training.select_by, display, processes)
        self._sound = False  # whether parts and position are those before or after a step, worth a checkpoint
        self._saved: Position | None = None  # the newest checkpoint of this process
        self._parts: TrainingParts
        self._position: Position
        if checkpoint is None:
            self._parts = build_parts(recipe, data, self._total_steps, display, processes=processes)
            self._position = Position(train_seconds=self._parts.clustering_seconds)
        else:
            self._return_to(checkpoint)

    def train(self) -> TrainingResult:
        """Run all steps that are left, keep the best model, and score it.

        Raises:
            NonFiniteError: values of a step are not finite; what was saved is kept.
            CheckpointError: something could not be written; what was saved is kept.
            Stopped: a signal came; a checkpoint was saved if a step was made.
            LostProcessError: another process is gone.
        """
        self._stop.stop_together(self._processes)
        try:
            while True:
                try:
                    return self._train()
                except NonFiniteError as error:
                    self._pass_over(error)
        except Stopped:
            if self._sound and self._saved != self._position:
                with self._stop.deferred():
                    self._save()
            raise
        finally:
            self._display.close()

    def _train(self) -> TrainingResult:
        if not self._sound:
            self._begin()
        while self._position.epoch <= self._epochs:
            self._train_epoch()
            self._end_epoch()
        with self._stop.deferred():
            if self._saved != self._position:
                self._save()
            self._sound = False
            if self._position.best is None:  # what was kept is lost, and no validation is left
                self._kept.keep(self._parts.model)
            shared = None if self._processes.size == 1 else self._parts.model
            del self._parts  # there may be no memory for what was trained and the best model
            model = self._kept.load(self._device, shared)
        run, recipe, data, position = self._run, self._recipe, self._data, self._position
        ranking = self._ranking(model)
        metrics = final_scores(model, run, recipe, data, position, self._display, self._processes, ranking)
        self._stop.disregard()
        self._run.log.write("end", **metrics)
        self._run.write_metrics(metrics)
        self._checkpoints.remove()
        self._processes.wait()
        return TrainingResult(model, metrics)

    def _begin(self) -> None:
        torch.manual_seed(mix_seed(self._recipe.training.seed, 3))
        started = time.monotonic()
        if start_classifier(self._recipe, self._data, self._parts, self._display, self._device):
            self._position.train_seconds += time.monotonic() - started
            self._run.log.write("start", peak_bytes=peak_bytes())
        self._parts.to(self._device)
        with self._stop.deferred():
            self._sound = True
            if self._recipe.training.on_non_finite == "skip":  # then there must be one to go back to
                self._save()

    def _train_epoch(self) -> None:
        """Make the steps of the epoch that are left."""
        self._parts.encoder.train()
        position, steps = self._position, self._total_steps - self._position.step
        ahead = position.epoch_texts + steps * self._recipe.training.batch_size
        self._display.start(f"epoch {position.epoch}/{self._epochs}", min(self._batches.n_rows, ahead))
        if position.epoch_texts:  # before a checkpoint
            self._display.advance(position.epoch_texts)
        started = time.monotonic() - position.epoch_seconds
        for batch in islice(self._batches.epoch(position.epoch, position.batch), steps):
            with self._stop.deferred():
                self._make_step(batch)
                position.epoch_seconds = time.monotonic() - started
                if self._checkpoints.due(position.step):
                    self._save()

    def _make_step(self, batch: Batch) -> None:
        position, step = self._position, self._position.step + 1
        self._sound = False
        if step in position.skipped:
            position.end_step(0, 0.0)
        else:
            losses = train_on(self._parts, step, batch)
            position.end_step(len(batch), losses.loss)
            self._display.advance(len(batch), f"loss {position.mean_loss:.4f}")
            if step % self._recipe.training.log_every == 0:
                self._run.log.write("step", step=step, epoch=position.epoch, **losses.as_dict())
        report = rewire_after(self._parts, step)
        if report is not None:
            self._run.log.write("rewire", **report.as_dict())
        self._sound = True

    def _end_epoch(self) -> None:
        """Validate if it is time; a signal that ends this leaves the epoch as it was before."""
        position, every = self._position, self._recipe.training.evaluate_every
        rate = position.texts_per_second
        self._display.say(f"epoch {position.epoch}: loss {position.mean_loss:.4f}, {rate:,.0f} texts/s")
        last = position.epoch == self._epochs
        scores = self._validate() if last or position.epoch % every == 0 else None
        with self._stop.deferred():
            loss, peak = position.mean_loss, peak_bytes()
            self._run.log.write("epoch", epoch=position.epoch, loss=loss, texts_per_second=rate, peak_bytes=peak)
            if scores is not None:
                speed, metrics = scores.texts_per_second, scores.metrics
                self._run.log.write("validation", epoch=position.epoch, texts_per_second=speed, **metrics.as_dict())
                self._kept.keep_if_best(self._parts.model, metrics, position)
            position.end_epoch()

    def _validate(self) -> Scores:
        data = self._data
        self._display.start("validation", len(data.validation_rows))
        batches, barred = data.validation_batches(self._processes.own_rows), data.store.excluded(data.validation)
        model, section = self._parts.model, self._recipe.evaluation
        ranking, processes = self._ranking(model), self._processes
        return score_split(model, batches, section, self._display, barred, ranking=ranking, processes=processes)

    def _ranking(self, model: TextModel) -> Ranking | None:
        return None if self._processes.size == 1 else shared_ranking(model, self._processes, self._stop)

    def _save(self) -> None:
        """Save a checkpoint of where the run stands."""
        started, position, state = time.monotonic(), self._position, state_of(self._parts)
        require_finite_state(position.step, state, self._processes)
        position.note_peaks(peak_bytes(), *gpu_peaks(self._device))
        facts = facts_of(self._parts, position, self._run.log.mark(), self._data, self._recipe)
        size = self._checkpoints.save(facts, state)
        seconds = round(time.monotonic() - started, 3)
        self._saved = position.model_copy(deep=True)
        self._run.log.write("checkpoint", step=position.step, bytes=size, save_seconds=seconds)

    def _return_to(self, checkpoint: Checkpoint) -> None:
        """Be where the run stood at a checkpoint; what its log says of later steps is cut off."""
        facts, self._sound = checkpoint.facts, False
        self._parts = parts_of(
            checkpoint,
            self._recipe,
            self._data,
            self._total_steps,
            self._display,
            self._device,
            self._processes,
        )
        self._position = facts.position.model_copy(deep=True)
        self._kept.count_on(self._position)
        self._run.log.return_to(LogMark(facts.log_size, facts.log_seconds))
        self._saved, self._sound = self._position.model_copy(deep=True), True

    def _pass_over(self, error: NonFiniteError) -> None:
        """Go back to the last checkpoint, to go on from there without the batch of the step that failed.

        Raises:
            NonFiniteError: that is not wanted or does not help; with advice.
        """
        skipped, checkpoint = self._position.skipped, None
        wanted = self._recipe.training.on_non_finite == "skip"
        if wanted and error.step not in skipped and len(skipped) < _MOST_SKIPPED:
            checkpoint = self._checkpoints.newest(self._display.say)
        if checkpoint is None:
            auxiliary = self._parts.objectives.auxiliary is not None
            passed_over = len(skipped) if wanted else None
            advice = advice_on_rates(self._run, newest_step(self._run.checkpoints), passed_over, auxiliary=auxiliary)
            raise NonFiniteError(error.step, error.fault, advice) from error
        del self._parts  # there may not be memory for two
        self._return_to(checkpoint)
        self._position.skipped = sorted({*skipped, error.step})
        self._run.log.write("skip", step=error.step, fault=error.fault)
        step = self._position.step
        self._display.say(f"in step {error.step} {error.fault}: back to step {step}, and on without that batch")
