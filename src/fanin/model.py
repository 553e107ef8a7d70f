"""A trained text classifier: tokenizer, encoder, output layer and label names; predict, save, load."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch

from fanin.data.feature_rows import SparseFeatures
from fanin.encoders.features import FeatureEncoder, SparseFeatureEncoder
from fanin.encoders.intermediate import base_encoder
from fanin.errors import ConfigError, DataError
from fanin.kernels.positives import on_device
from fanin.kernels.spec import Loss

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from numpy.typing import NDArray
    from torch import Tensor

    from fanin.classifier.beam import Beam
    from fanin.classifier.interface import Classifier
    from fanin.data.feature_rows import DenseFeatures
    from fanin.encoders.interface import Encoder, TextTokenizer
    from fanin.kernels.active_inputs import ActiveInputs
    from fanin.kernels.spec import Positives
    from fanin.labels.vocabulary import LabelVocabulary

PREDICTION_BATCH = 1024


class Prediction(NamedTuple):
    """One predicted label.

    Attributes:
        label: its name.
        score: a probability in [0, 1] for a model trained with "bce", else the raw score.
    """

    label: str
    score: float


def encode(
    encoder: Encoder, inputs: Iterable[NDArray[Any]], device: torch.device | None = None
) -> Tensor | ActiveInputs:
    """X (B, D), or its active columns, of a batch's arrays, such as ``Batch.inputs``; on the encoder's ``device``."""
    return encoder(*(torch.from_numpy(array).to(device) for array in inputs))


def check_features(encoder: Encoder, columns: int, *, sparse: bool) -> None:
    """Raise DataError unless an encoder reads features of this kind and number."""
    encoder = base_encoder(encoder)
    found = f"{'sparse' if sparse else 'dense'} features, {columns} of them"
    if not isinstance(encoder, FeatureEncoder | SparseFeatureEncoder):
        raise DataError(f"the data holds {found}, but this model reads texts; give it texts")
    reads_sparse = isinstance(encoder, SparseFeatureEncoder)
    if reads_sparse != sparse or encoder.in_features != columns:
        wanted = f"{encoder.in_features} {'sparse' if reads_sparse else 'dense'} ones"
        raise DataError(f"the data holds {found}, but this model was trained on {wanted}; give it the same features")


@dataclass
class TextModel:
    """Everything a prediction needs.

    Attributes:
        tokenizer: text to tokens; None for a model of features, which reads no texts.
        encoder: tokens or features to x (B, D).
        classifier: x to scores of L labels.
        labels: the names of the labels.
        train_counts: (L,) training points of each label, for propensities and the head/middle/tail split.
        train_points: N, the number of training points.
        loss: the loss it was trained with; it decides what a score means.
    """

    tokenizer: TextTokenizer | None
    encoder: Encoder
    classifier: Classifier
    labels: LabelVocabulary
    train_counts: NDArray[np.int64]
    train_points: int
    loss: Loss

    @property
    def device(self) -> torch.device:
        """Where the classifier lies, and the encoder with it."""
        return next(self.classifier.parameters()).device

    def to(self, device: torch.device) -> TextModel:
        """Move encoder and classifier; returns the model."""
        self.encoder.to(device)
        self.classifier.to(device)
        return self

    @torch.no_grad()
    def rank(
        self, inputs: Iterable[NDArray[Any]], k: int, exclude: Positives | None = None, *, beam: Beam | None = None
    ) -> tuple[Tensor, Tensor]:
        """The k best labels of a batch, by raw score.

        Args:
            inputs: what the encoder reads: of texts their flat tokens (N,) and offsets (B + 1,).
            k: how many labels a text.
            exclude: pairs that must not be returned.
            beam: made for this model, to score the labels of a few clusters only; None for the exact ranking.

        Returns:
            Scores (B, min(k, L)) and label ids (B, min(k, L)), on the CPU.

        Raises:
            ConfigError: a beam for a model on a GPU.
        """
        if beam is not None and self.device.type != "cpu":
            raise ConfigError("a beam searches on the CPU, and this model is on a GPU; leave one of them out")
        was_training = self.encoder.training
        self.encoder.eval()
        try:
            barred = None if exclude is None else on_device(exclude, self.device)
            x = encode(self.encoder, inputs, self.device)
            if beam is None:
                scores, labels = self.classifier.topk(x, k, barred)
            else:
                scores, labels = beam.topk(self.classifier, x, k, barred)
            return scores.cpu(), labels.cpu()
        finally:
            self.encoder.train(was_training)

    def predict(self, texts: Sequence[str], k: int = 5, *, beam: Beam | None = None) -> list[list[Prediction]]:
        """The k best labels of every text, best first.

        Args:
            texts: any number of texts.
            k: how many labels a text; at most L are returned.
            beam: as in :meth:`rank`.

        Returns:
            A list of predictions for each text.

        Raises:
            ConfigError: the model reads features, no texts.
        """
        return list(self.predict_stream(texts, k, beam=beam))

    def predict_stream(
        self, texts: Sequence[str], k: int = 5, *, beam: Beam | None = None
    ) -> Iterator[list[Prediction]]:
        """As :meth:`predict`, text by text, computed in batches of 1,024."""
        if self.tokenizer is None:
            raise ConfigError("this model was trained on features and reads no texts; predict from a file of features")
        for start in range(0, len(texts), PREDICTION_BATCH):
            yield from self._named(self.tokenizer.encode_flat(list(texts[start : start + PREDICTION_BATCH])), k, beam)

    def predict_features(
        self, features: DenseFeatures | SparseFeatures, k: int = 5, *, beam: Beam | None = None
    ) -> Iterator[list[Prediction]]:
        """As :meth:`predict_stream` for a model that was trained on features.

        Args:
            features: of any number of texts, of the kind and number that the model was trained on.
            k: how many labels a text.
            beam: as in :meth:`rank`.

        Raises:
            DataError: they are others.
        """
        check_features(self.encoder, features.columns, sparse=isinstance(features, SparseFeatures))
        for start in range(0, len(features), PREDICTION_BATCH):
            rows = np.arange(start, min(start + PREDICTION_BATCH, len(features)))
            yield from self._named(features.inputs(rows), k, beam)

    def _named(self, inputs: Iterable[NDArray[Any]], k: int, beam: Beam | None) -> Iterator[list[Prediction]]:
        scores, labels = self.rank(inputs, k, beam=beam)
        if self.loss is Loss.BCE:
            scores = scores.sigmoid()
        names = iter(self.labels.names(labels[labels >= 0].numpy()))  # a look-up one by one takes ten times as long
        for row_scores, row_labels in zip(scores.tolist(), labels.tolist(), strict=True):
            pairs = zip(row_labels, row_scores, strict=True)
            yield [Prediction(next(names), score) for label, score in pairs if label >= 0]
