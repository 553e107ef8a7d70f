"""What a model is made of, in numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from fanin.classifier.kinds import kind_of
from fanin.classifier.label_bands import LabelBands
from fanin.classifier.masked import MaskedLinear
from fanin.classifier.sparse import SparseLinear
from fanin.encoders.intermediate import IntermediateLayer, base_encoder
from fanin.labels.frequency import GROUP_NAMES, label_groups
from fanin.model_files import load_model

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from fanin.classifier.interface import Classifier


def feature_use(classifier: Classifier) -> NDArray[np.int64]:
    """How many labels read each feature with weights of their own, (D,)."""
    D, L = classifier.in_features, classifier.out_features
    match classifier:
        case SparseLinear():
            return _use_by_sets(classifier)
        case LabelBands():
            readers = np.zeros(D, np.int64)
            for band in classifier.bands:
                readers[: band.in_features] += feature_use(band)
            return readers
        case MaskedLinear():
            return classifier.mask.sum(0).numpy()
        case _:
            return np.full(D, L)


def _use_by_sets(classifier: SparseLinear) -> NDArray[np.int64]:
    D, L = classifier.in_features, classifier.out_features
    index = classifier.index.numpy()  # (S, F)
    readers = np.zeros(D, np.int64)
    for start in range(0, len(index), 65_536):  # bincount makes an int64 copy of what it counts
        readers += np.bincount(index[start : start + 65_536].ravel(), minlength=D)
    readers *= classifier.group_size
    readers[index[-1]] -= len(index) * classifier.group_size - L  # the last group may be short
    return readers


def parameter_count(classifier: Classifier) -> int:
    """How many numbers a classifier has learned."""
    total = sum(parameter.numel() for parameter in classifier.parameters())
    if isinstance(classifier, MaskedLinear):
        total -= classifier.weight.numel() - classifier.connections  # zeros outside the mask
    return total


def model_facts(folder: Path) -> dict[str, Any]:
    """Parameters, density, bytes by part, the use of the features and the labels of a model, as values for JSON.

    ``density`` compares the weights with those of a dense layer on all features, ``share_of_dense`` with those of one
    on the learned features alone: the dense twin of a model with lexical features has none, nor could it have.

    Raises:
        CheckpointError: the model folder is missing, damaged or of another version.
    """
    model = load_model(folder)
    classifier, counts = model.classifier, model.train_counts
    readers, learned = feature_use(classifier), model.encoder.learned_features
    groups = np.bincount(label_groups(counts), minlength=len(GROUP_NAMES))
    return {
        "classifier": {"kind": kind_of(classifier), **classifier.settings()},
        "encoder": dict(base_encoder(model.encoder).settings),
        "intermediate": dict(model.encoder.settings) if isinstance(model.encoder, IntermediateLayer) else None,
        "loss": model.loss.value,
        "learned_features": learned,
        "lexical_features": classifier.in_features - learned,
        "density": classifier.connections / (classifier.in_features * classifier.out_features),
        "share_of_dense": classifier.connections / (learned * classifier.out_features),
        "parameters": {
            "embedding_table": model.encoder.table.numel(),
            "encoder_layers": sum(parameter.numel() for parameter in model.encoder.parameters()),
            "classifier": parameter_count(classifier),
        },
        "classifier_bytes": classifier.nbytes(),
        "file_bytes": {
            path.relative_to(folder).as_posix(): path.stat().st_size
            for path in sorted(folder.rglob("*"))
            if path.is_file()
        },
        "labels_reading_a_feature": _spread(readers[:learned]),
        "labels_reading_a_lexical_feature": _spread(readers[learned:]) if len(readers) > learned else None,
        "labels": {
            "count": len(counts),
            "without_training_points": int((counts == 0).sum()),
            "most_training_points": int(counts.max()),
            "median_training_points": float(np.median(counts)),
            **{name: int(groups[i]) for i, name in enumerate(GROUP_NAMES)},
        },
        "train_points": model.train_points,
    }


def _spread(readers: NDArray[np.int64]) -> dict[str, float]:
    """How evenly features are read, from the number of labels that read each."""
    return {
        "least": int(readers.min()),
        "median": float(np.median(readers)),
        "most": int(readers.max()),
        "unused_features": int((readers == 0).sum()),
    }
