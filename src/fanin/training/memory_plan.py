"""How much memory a run will take, part by part, before anything of it is there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fanin.encoders.intermediate import base_encoder
from fanin.kernels.spec import moment_count
from fanin.model import PREDICTION_BATCH
from fanin.training import memory_classifier, memory_data, memory_encoder
from fanin.training.assemble_classifier import finds_related_labels
from fanin.training.classifier_recipe import DenseStartSection, FixedFanInSection
from fanin.training.memory_parts import Stage, part
from fanin.training.preparation import SCORING_BATCH
from fanin.training.rewiring_recipe import RewiringSection

if TYPE_CHECKING:
    from fanin.classifier.interface import Classifier
    from fanin.encoders.interface import Encoder
    from fanin.training.data_sizes import DataSizes
    from fanin.training.memory_parts import Part
    from fanin.training.recipe import Recipe

_FLOAT, _LONG = 4, 8
_CENTROID_CHUNK = 64 << 20


@dataclass(frozen=True)
class MemoryPlan:
    """The stages of a training run, in order, and prediction with its model.

    Attributes:
        training: stages of the training, with all that is in memory then.
        prediction: the trained model at work, in another process.
    """

    training: tuple[Stage, ...]
    prediction: Stage

    @property
    def peak(self) -> Stage:
        """The stage of the training that takes the most."""
        return max(self.training, key=lambda stage: stage.bytes)

    @property
    def needed(self) -> int:
        """The most that must be there in training, content of files apart."""
        return max(stage.needed for stage in self.training)

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""

        def plain(stage: Stage) -> dict[str, Any]:
            parts = [part._asdict() for part in stage.parts]
            return {"stage": stage.name, "bytes": stage.bytes, "needed_bytes": stage.needed, "parts": parts}

        return {
            "peak_bytes": self.peak.bytes,
            "needed_bytes": self.needed,
            "training": [plain(stage) for stage in self.training],
            "prediction": plain(self.prediction),
        }


def plan_memory(recipe: Recipe, sizes: DataSizes, base: int) -> MemoryPlan:
    """The memory plan of a run on one process, on the CPU.

    Args:
        recipe: the run's.
        sizes: of its data.
        base: bytes of Python with everything that a run imports; see :func:`fanin.training.memory_base.base_bytes`.

    Raises:
        ConfigError: a setting does not fit the data.
    """
    encoder = memory_encoder.lay_out_encoder(recipe, sizes)
    classifier = memory_classifier.lay_out(recipe.classifier, encoder, sizes.labels)
    start, model = part("Python and libraries", base), memory_classifier.weight_parts(classifier)
    data = memory_data.data_parts(recipe, sizes, memory_encoder.kept_vector_bytes(encoder))
    weights = memory_encoder.weight_parts(encoder)
    reading = memory_data.preparation_bytes(recipe, sizes) + _encoding_bytes(recipe, sizes, encoder)
    stages = [Stage("reading the data", (*start, *part("tokenising", reading)))]
    held = [*start, *data, *weights]
    order = _clustering_bytes(recipe, sizes, encoder)
    if order:
        stages.append(Stage("ordering labels", (*held, *part("clustering", order))))
    held += [*model, *_auxiliary_parts(recipe, sizes, encoder), *_remembered(recipe, sizes, encoder)]
    stages.append(Stage("making the model", (*held, *_building(recipe, sizes, classifier))))
    first = _start_bytes(recipe, sizes, encoder, classifier)
    if first:
        stages.append(Stage("starting connections", (*held, *part("texts of the labels", first))))
    stages += _loop(recipe, sizes, encoder, classifier, held)
    loaded = [*start, *data, *weights, *model]
    stages.append(_scoring("scoring the kept model", recipe, sizes, encoder, classifier, loaded))
    needed = ("Python and libraries", "tokenizer", "label names", "label counts")
    loaded = [*(held for held in (*start, *data) if held.name in needed), *weights, *model]
    prediction = Stage("prediction", (*loaded, *_ranking(recipe, sizes, encoder, classifier, PREDICTION_BATCH)))
    return MemoryPlan(tuple(stages), prediction)


def _loop(recipe: Recipe, sizes: DataSizes, encoder: Encoder, classifier: Classifier, held: list[Part]) -> list[Stage]:
    """Training steps and what comes between them."""
    B, update = recipe.training.batch_size, recipe.classifier.update
    active = memory_encoder.active_lexical(encoder, sizes, B)
    kept = [
        *held,
        *part("classifier's update state", memory_classifier.moment_bytes(classifier, update)),
        *_auxiliary_state(recipe, sizes, encoder),
        *memory_encoder.update_parts(encoder, sizes, B),
    ]
    width = active + encoder.learned_features if active else 0
    step = [
        *part("activations", memory_encoder.activation_bytes(encoder, recipe, sizes, B, training=True)),
        *part("buffers of the classifier's step", memory_classifier.step_bytes(classifier, B, width, update)),
    ]
    stages = [Stage("training", (*kept, *step))]
    rewiring = getattr(recipe.classifier, "rewiring", None)
    if rewiring is not None:
        stages.append(Stage("rewiring", (*kept, *part("rewiring", memory_classifier.rewiring_bytes(classifier)))))
    stages.append(_scoring("validation", recipe, sizes, encoder, classifier, kept))
    return stages


def _scoring(
    name: str, recipe: Recipe, sizes: DataSizes, encoder: Encoder, classifier: Classifier, held: list[Part]
) -> Stage:
    metrics = part("metrics", memory_data.evaluation_bytes(sizes.labels))
    return Stage(name, (*held, *metrics, *_ranking(recipe, sizes, encoder, classifier, SCORING_BATCH)))


def _ranking(recipe: Recipe, sizes: DataSizes, encoder: Encoder, classifier: Classifier, rows: int) -> list[Part]:
    active = memory_encoder.active_lexical(encoder, sizes, rows)
    width = active + encoder.learned_features if active else 0
    return [
        *part("activations", memory_encoder.activation_bytes(encoder, recipe, sizes, rows, training=False)),
        *part("buffers of the ranking", memory_classifier.ranking_bytes(classifier, rows, width)),
    ]


def _encoding_bytes(recipe: Recipe, sizes: DataSizes, encoder: Encoder) -> int:
    """A frozen transformer at work on the texts, when the data are made ready."""
    if not memory_encoder.kept_vector_bytes(encoder):
        return 0
    weights = sum(held.bytes for held in memory_encoder.weight_parts(encoder))
    return weights + memory_encoder.activation_bytes(encoder, recipe, sizes, SCORING_BATCH, training=False)


def _building(recipe: Recipe, sizes: DataSizes, classifier: Classifier) -> list[Part]:
    """What is there for a while when the classifier and its loss are made."""
    section = recipe.classifier
    biases = memory_classifier.build_bytes(classifier, prior=section.prior_bias)
    margins = 0
    if isinstance(section, FixedFanInSection) and section.own_text_margin and section.start == "tokens":
        margins = memory_data.own_text_bytes(sizes)
    name = "margins of the pairs" if margins > biases else "biases by frequency"
    return part(name, max(biases, margins))


def _clustering_bytes(recipe: Recipe, sizes: DataSizes, encoder: Encoder) -> int:
    if not finds_related_labels(recipe.classifier) and recipe.auxiliary is None:
        return 0
    return memory_data.label_order_bytes(recipe, sizes, base_encoder(encoder).out_features)


def _auxiliary_clusters(recipe: Recipe, sizes: DataSizes) -> int:
    section = recipe.auxiliary
    if section is None:
        return 0
    return section.clusters or -(-sizes.labels // section.labels_per_cluster)


def _auxiliary_parts(recipe: Recipe, sizes: DataSizes, encoder: Encoder) -> list[Part]:
    """The auxiliary objective's weights and the clusters of the labels."""
    K = _auxiliary_clusters(recipe, sizes)
    return part("auxiliary objective", K * encoder.learned_features * _FLOAT + _LONG * sizes.labels) if K else []


def _auxiliary_state(recipe: Recipe, sizes: DataSizes, encoder: Encoder) -> list[Part]:
    K, section = _auxiliary_clusters(recipe, sizes), recipe.auxiliary
    if section is None:
        return []
    count = moment_count(section.update.at(1.0))
    return part("auxiliary objective's update state", count * K * encoder.learned_features * _FLOAT)


def _remembered(recipe: Recipe, sizes: DataSizes, encoder: Encoder) -> list[Part]:
    """What rewiring and the loss keep of labels, texts and batches."""
    section, found = recipe.classifier, []
    if isinstance(section, FixedFanInSection) and section.rewiring is not None:
        found += part("rewiring's places of labels", _LONG * sizes.labels)
    rewiring = getattr(section, "rewiring", None)
    if isinstance(rewiring, RewiringSection):
        grow = rewiring.grow if isinstance(rewiring.grow, dict) else {rewiring.grow: 1.0}
        inputs, B = encoder.learned_features, recipe.training.batch_size
        if "separating" in grow:
            found += part("rewiring's texts", 2 * inputs * max(rewiring.history.rows, B))
        if "gradient" in grow:
            found += part("rewiring's batches", _FLOAT * inputs * B * rewiring.history.batches)
    if section.tail != "none":
        found += part("weights or margins by frequency", _FLOAT * sizes.labels)
    if isinstance(section, FixedFanInSection) and section.own_text_margin and section.start == "tokens":
        found += part("margins of all pairs", _FLOAT * sizes.rows * sizes.labels_per_text)
    return found


def _start_bytes(recipe: Recipe, sizes: DataSizes, encoder: Encoder, classifier: Classifier) -> int:
    section = recipe.classifier
    if not isinstance(section, FixedFanInSection | DenseStartSection):
        return 0
    if section.start == "tokens":
        return memory_data.token_start_bytes(sizes)
    if section.start == "centroids":
        sums = min(_CENTROID_CHUNK, classifier.out_features * encoder.out_features * _FLOAT)
        return 6 * sums + 2 * _LONG * int(sizes.rows * sizes.labels_per_text)
    return 0
