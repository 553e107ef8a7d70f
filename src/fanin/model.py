"""A trained text classifier: tokenizer, encoder, output layer and label names; predict, save, load."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from fanin.kernels.spec import Loss

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from fanin.classifier.interface import Classifier
    from fanin.encoders.interface import Encoder
    from fanin.encoders.tokenization import Tokenizer
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


def encode(encoder: Encoder, inputs: Iterable[NDArray[Any]]) -> Tensor | ActiveInputs:
    """X (B, D), or its active columns, of a batch's arrays, such as ``Batch.inputs``."""
    return encoder(*map(torch.from_numpy, inputs))


@dataclass
class TextModel:
    """Everything a prediction needs.

    Attributes:
        tokenizer: text to tokens.
        encoder: tokens to x (B, D).
        classifier: x to scores of L labels.
        labels: the names of the labels.
        train_counts: (L,) training points of each label, for propensities and the head/middle/tail split.
        train_points: N, the number of training points.
        loss: the loss it was trained with; it decides what a score means.
    """

    tokenizer: Tokenizer
    encoder: Encoder
    classifier: Classifier
    labels: LabelVocabulary
    train_counts: NDArray[np.int64]
    train_points: int
    loss: Loss

    @torch.no_grad()
    def rank(self, inputs: Iterable[NDArray[Any]], k: int, exclude: Positives | None = None) -> tuple[Tensor, Tensor]:
        """The k best labels of a batch, by raw score.

        Args:
            inputs: what the encoder reads: of texts their flat tokens (N,) and offsets (B + 1,).
            k: how many labels a text.
            exclude: pairs that must not be returned.

        Returns:
            Scores (B, min(k, L)) and label ids (B, min(k, L)).
        """
        was_training = self.encoder.training
        self.encoder.eval()
        try:
            return self.classifier.topk(encode(self.encoder, inputs), k, exclude)
        finally:
            self.encoder.train(was_training)

    def predict(self, texts: Sequence[str], k: int = 5) -> list[list[Prediction]]:
        """The k best labels of every text, best first.

        Args:
            texts: any number of texts.
            k: how many labels a text; at most L are returned.

        Returns:
            A list of predictions for each text.
        """
        return list(self.predict_stream(texts, k))

    def predict_stream(self, texts: Sequence[str], k: int = 5) -> Iterator[list[Prediction]]:
        """As :meth:`predict`, text by text, computed in batches of 1,024."""
        for start in range(0, len(texts), PREDICTION_BATCH):
            inputs = self.tokenizer.encode_flat(list(texts[start : start + PREDICTION_BATCH]))
            scores, labels = self.rank(inputs, k)
            if self.loss is Loss.BCE:
                scores = scores.sigmoid()
            for row_scores, row_labels in zip(scores.tolist(), labels.tolist(), strict=True):
                pairs = zip(row_labels, row_scores, strict=True)
                yield [Prediction(self.labels[label], score) for label, score in pairs if label >= 0]
