"""The training loop: batches in, a trained model and its run folder out."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

import torch

from fanin.data.store import TokenizedSplit
from fanin.encoders.bag import BagEncoder
from fanin.encoders.intermediate import base_encoder
from fanin.errors import FaninError
from fanin.kernels.drawing import mix_seed
from fanin.model import TextModel, encode
from fanin.model_files import folder_bytes, load_model, save_model
from fanin.training.assemble import (
    build_encoder,
    build_encoder_update,
)
from fanin.training.assemble_auxiliary import build_auxiliary
from fanin.training.assemble_classifier import build_classifier, build_label_order
from fanin.training.assemble_rewiring import build_rewiring
from fanin.training.classifier_recipe import FixedFanInSection
from fanin.training.objectives import Objectives
from fanin.training.own_text_margins import build_own_text_margins
from fanin.training.process_memory import peak_bytes
from fanin.training.scoring import score_split
from fanin.training.tail_loss import TailLoss
from fanin.training.token_start import start_from_tokens
from fanin.training.warm_start import start_from_centroids

if TYPE_CHECKING:
    from fanin.data.batches import Batch, Batches
    from fanin.data.label_rows import LabelRows
    from fanin.training.objectives import StepLosses
    from fanin.training.preparation import PreparedData
    from fanin.training.progress import ProgressDisplay
    from fanin.training.recipe import Recipe
    from fanin.training.run_folder import RunFolder


@dataclass(frozen=True)
class TrainingResult:
    """What a finished run gives.

    Attributes:
        model: the kept model, the best one by the recipe's validation metric.
        metrics: what metrics.json holds.
    """

    model: TextModel
    metrics: dict[str, Any]


class Trainer:
    """Trains one model by one recipe.

    Args:
        recipe: all settings.
        data: what :func:`fanin.training.preparation.prepare` gave.
        run: where log, metrics and model are written.
        display: what is told of the progress.
        score_test: whether to score the test split at the end, where there is one; tuning leaves it alone.
    """

    def __init__(
        self,
        recipe: Recipe,
        data: PreparedData,
        run: RunFolder,
        display: ProgressDisplay,
        *,
        score_test: bool = True,
    ) -> None:
        seed = recipe.training.seed
        self._recipe, self._data, self._run, self._display = recipe, data, run, display
        self._batches = data.train_batches(recipe.training.batch_size, seed)
        self._score_test = score_test and "test" in data.store.split_names
        self._total_steps = recipe.training.steps or len(self._batches) * recipe.training.epochs
        self._epochs = math.ceil(self._total_steps / len(self._batches))  # the last may be cut short
        counts, points = data.train_counts(), len(data.train_rows)
        self._encoder = build_encoder(recipe.encoder, data, mix_seed(seed, 1), recipe.intermediate)
        started = time.monotonic()
        order = build_label_order(recipe.classifier, data, base_encoder(self._encoder), mix_seed(seed, 4), display)
        auxiliary = build_auxiliary(
            recipe.auxiliary, data, self._encoder, self._total_steps, mix_seed(seed, 4), display
        )
        self._train_seconds = time.monotonic() - started
        self._classifier = build_classifier(recipe.classifier, self._encoder, counts, points, mix_seed(seed, 2), order)
        self._objectives = Objectives(
            self._classifier, recipe.classifier, self._total_steps, auxiliary, recipe.auxiliary
        )
        own_text = build_own_text_margins(recipe.classifier, data, base_encoder(self._encoder))
        self._tail = TailLoss(recipe.classifier, recipe.evaluation, counts, points, own_text)
        self._rewiring = build_rewiring(
            recipe.classifier, self._classifier, self._total_steps, seed, self._encoder.learned_features
        )
        self._encoder_update = build_encoder_update(
            recipe.encoder, self._encoder, self._total_steps, recipe.intermediate
        )
        self._model = TextModel(
            data.tokenizer,
            self._encoder,
            self._classifier,
            data.store.vocabulary,
            counts,
            points,
            recipe.classifier.loss,
        )
        self._step = self._texts = 0
        self._best = -math.inf

    def train(self) -> TrainingResult:
        """Run all steps, keep the best model, and score it.

        Raises:
            FaninError: the loss is no longer finite, or something could not be written; what was saved is kept.
        """
        training = self._recipe.training
        torch.manual_seed(mix_seed(training.seed, 3))
        try:
            self._start()
            for epoch in range(1, self._epochs + 1):
                self._train_epoch(epoch)
                if epoch % training.evaluate_every == 0 or epoch == self._epochs:
                    self._validate(epoch)
            return self._finish()
        finally:
            self._display.close()

    def _start(self) -> None:
        """Set the classifier's first connections from the labels' texts if the recipe says so; that is training too."""
        section, parts = self._recipe.classifier, self._classifier.sparse_parts()
        if not isinstance(section, FixedFanInSection) or section.start == "random":
            return
        started = time.monotonic()
        train, rows, gain = self._data.store.split("train"), self._data.train_rows, section.start_gain
        if section.start == "centroids":
            start_from_centroids(parts, self._encoder, train, rows, gain, self._display)
        else:
            encoder = base_encoder(self._encoder)
            assert isinstance(encoder, BagEncoder)
            assert isinstance(train, TokenizedSplit)
            seed = mix_seed(self._recipe.training.seed, 5)
            start_from_tokens(parts, encoder, train, rows, gain, seed, self._display)
        self._train_seconds += time.monotonic() - started
        self._run.log("start", peak_bytes=peak_bytes())

    def _train_epoch(self, epoch: int) -> None:
        self._encoder.train()
        steps = self._total_steps - self._step  # of this epoch and all after it
        rows_ahead = min(self._batches.n_rows, steps * self._recipe.training.batch_size)
        self._display.start(f"epoch {epoch}/{self._epochs}", rows_ahead)
        started, total, rows = time.monotonic(), 0.0, 0
        for batch in islice(self._batches.epoch(epoch), steps):
            losses = self._train_batch(batch)
            total, rows = total + losses.loss * len(batch), rows + len(batch)
            self._display.advance(len(batch), f"loss {total / rows:.4f}")
            if self._step % self._recipe.training.log_every == 0:
                self._run.log("step", step=self._step, epoch=epoch, **losses.as_dict())
        elapsed = time.monotonic() - started
        self._train_seconds += elapsed
        self._texts += rows
        self._run.log("epoch", epoch=epoch, loss=total / rows, texts_per_second=rows / elapsed, peak_bytes=peak_bytes())
        self._display.say(f"epoch {epoch}: loss {total / rows:.4f}, {rows / elapsed:,.0f} texts/s")

    def _train_batch(self, batch: Batch) -> StepLosses:
        self._step += 1
        x = encode(self._encoder, batch.inputs)  # (B, D)
        positives = self._tail.positives(batch)
        losses, dx = self._objectives.step(self._step, x, positives)
        if not math.isfinite(losses.trained):
            kept = ". The best model so far is kept" if self._best > -math.inf else ""
            auxiliary = "auxiliary.schedule.learning_rate, " if losses.auxiliary_share else ""
            raise FaninError(
                f"{self._run.path}: the loss of step {self._step} is {losses.trained}; lower {auxiliary}"
                f"classifier.schedule.learning_rate or encoder.optimizer.learning_rate{kept}"
            )
        self._encoder_update.backward(x, dx)
        self._encoder_update.step(self._step)
        if self._rewiring is not None:
            self._rewiring.observe(self._step, x, positives)
            report = self._rewiring.rewire(self._step)
            if report is not None:
                self._run.log("rewire", **report.as_dict())
        return losses

    def _validate(self, epoch: int) -> None:
        self._display.start("validation", len(self._data.validation_rows))
        barred = self._data.store.excluded(self._data.validation)
        scores = score_split(
            self._model, self._data.validation_batches(), self._recipe.evaluation, self._display, barred
        )
        chosen = self._recipe.training.select_by
        value = scores.metrics[chosen]
        self._run.log("validation", epoch=epoch, texts_per_second=scores.texts_per_second, **scores.metrics.as_dict())
        # Without a single validation row that has labels there is nothing to choose by: the newest is kept.
        kept = value > self._best or not scores.metrics.points
        self._display.say(f"  validation {chosen} {value:.2%}" + (" (best, kept)" if kept else ""))
        if kept:
            self._best = value
            save_model(self._model, self._run.model)

    def _finish(self) -> TrainingResult:
        # What was trained goes before the kept model comes: there may be no memory for both.
        del self._model, self._encoder, self._classifier, self._objectives, self._rewiring, self._encoder_update
        model = load_model(self._run.model)
        metrics: dict[str, Any] = {
            "validation": self._score(
                "validation", model, self._data.validation_batches(), self._data.store.excluded(self._data.validation)
            ),
            "validation_source": self._data.validation_source,
            "train_seconds": round(self._train_seconds, 3),
            "train_texts_per_second": round(self._texts / self._train_seconds, 1),
            "classifier_bytes": sum(model.classifier.nbytes().values()),
            "model_bytes": folder_bytes(self._run.model),
        }
        if self._score_test:
            barred = self._data.store.excluded("test")
            metrics["test"] = self._score("test", model, self._data.test_batches(), barred)
        metrics["peak_bytes"] = peak_bytes()
        self._run.write_metrics(metrics)
        self._run.log("end", **metrics)
        return TrainingResult(model, metrics)

    def _score(self, name: str, model: TextModel, batches: Batches, excluded: LabelRows | None) -> dict[str, Any]:
        self._display.start(f"scoring {name}", batches.n_rows)
        return score_split(model, batches, self._recipe.evaluation, self._display, excluded).as_dict()
