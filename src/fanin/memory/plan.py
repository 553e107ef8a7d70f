"""How much memory a run will take, part by part, before anything of it is there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fanin.encoders.intermediate import base_encoder
from fanin.kernels.spec import moment_count
from fanin.memory import classifier_parts, data_parts, encoder_parts, gpu_parts
from fanin.memory.base import COMPILER
from fanin.memory.parts import Stage, moved, part
from fanin.model import PREDICTION_BATCH
from fanin.recipes.classifier_recipe import AutogradDenseSection, DenseStartSection, FixedFanInSection
from fanin.recipes.recipe import TransformerSection
from fanin.recipes.rewiring_recipe import RewiringSection
from fanin.training.assemble_classifier import finds_related_labels
from fanin.training.preparation import SCORING_BATCH

if TYPE_CHECKING:
    from fanin.classifier.interface import Classifier
    from fanin.encoders.interface import Encoder
    from fanin.memory.data_sizes import DataSizes
    from fanin.memory.parts import Part
    from fanin.recipes.recipe import Recipe

CUDA, TO_A_FILE, TO_THE_GPU = (
    "CUDA and its libraries",
    "tensors on their way into a file",
    "model on its way to the GPU",
)
"""Names of what a run on a GPU holds besides its tensors there."""

_FLOAT, _LONG = 4, 8
_CENTROID_CHUNK = 64 << 20


@dataclass(frozen=True)
class MemoryPlan:
    """The stages of a training run, in order, and prediction with its model.

    Attributes:
        training: stages of the training, with all that is in memory then.
        prediction: the trained model at work, in another process.
        gpu: whether a budget is about the memory of a GPU, on which the run computes.
    """

    training: tuple[Stage, ...]
    prediction: Stage
    gpu: bool = False

    @property
    def peak(self) -> Stage:
        """The stage of the training that takes the most of this machine's memory."""
        return max(self.training, key=lambda stage: stage.bytes)

    @property
    def gpu_peak(self) -> Stage:
        """The stage of the training that takes the most of the GPU's."""
        return max(self.training, key=lambda stage: stage.gpu_bytes)

    @property
    def needed(self) -> int:
        """The most that must be there in training, content of files apart."""
        return max(stage.needed for stage in self.training)

    @property
    def limited(self) -> int:
        """The most of what a budget is about; see :meth:`fanin.memory.parts.Stage.limited`."""
        return max(stage.limited(gpu=self.gpu) for stage in self.training)

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""

        def plain(stage: Stage) -> dict[str, Any]:
            parts = [part._asdict() for part in stage.parts]
            gpu = {"gpu_bytes": stage.gpu_bytes} if self.gpu else {}
            return {"stage": stage.name, "bytes": stage.bytes, "needed_bytes": stage.needed, **gpu, "parts": parts}

        return {
            "peak_bytes": self.peak.bytes,
            "needed_bytes": self.needed,
            **({"gpu_peak_bytes": self.gpu_peak.gpu_bytes} if self.gpu else {}),
            "training": [plain(stage) for stage in self.training],
            "prediction": plain(self.prediction),
        }


def plan_memory(recipe: Recipe, sizes: DataSizes, base: int, *, gpu: bool = False) -> MemoryPlan:
    """The memory plan of a run on one process.

    Args:
        recipe: the run's.
        sizes: of its data.
        base: bytes of Python with everything that a run imports; see :func:`fanin.memory.base.base_bytes`.
        gpu: whether it computes on a GPU: then model, updates and batches are there from the first step on. What the
            kernels make for a while is counted, the GPU's share of libraries assumed (:mod:`.gpu_parts`).

    Raises:
        ConfigError: a setting does not fit the data.
    """
    encoder = encoder_parts.lay_out_encoder(recipe, sizes)
    classifier = classifier_parts.lay_out(recipe.classifier, encoder, sizes.labels)
    start = part("Python and libraries", base + (COMPILER if _imports_compiler(recipe) else 0))
    model = classifier_parts.weight_parts(classifier)
    context = moved(part(CUDA, gpu_parts.CONTEXT), gpu=True) if gpu else []
    data = data_parts.data_parts(recipe, sizes, encoder_parts.kept_vector_bytes(encoder))
    weights = encoder_parts.weight_parts(encoder)
    reading = part("tokenising", data_parts.preparation_bytes(recipe, sizes))
    encoding = moved(_encoding(recipe, sizes, encoder, gpu=gpu), gpu=gpu)
    stages = [Stage("reading the data", (*start, *context, *reading, *encoding))]
    held = [*start, *context, *data, *weights]
    order = _clustering_bytes(recipe, sizes, encoder)
    if order:
        stages.append(Stage("ordering labels", (*held, *part("clustering", order))))
    beside, watched = _auxiliary_parts(recipe, sizes, encoder), _watched(recipe, sizes, encoder)
    remembered = _remembered(recipe, sizes)
    held += [*model, *beside, *watched, *remembered]
    stages.append(Stage("making the model", (*held, *_building(recipe, sizes, classifier))))
    first = _start_bytes(recipe, sizes, encoder, classifier)
    if first:
        stages.append(Stage("starting connections", (*held, *part("texts of the labels", first))))
    own, learned = [*start, *context, *data], [*weights, *model]
    held = [*own, *remembered, *moved([*learned, *beside, *watched], gpu=gpu)]
    stages += _loop(recipe, sizes, encoder, classifier, held, gpu=gpu)
    on_its_way = part(TO_THE_GPU, sum(held.bytes for held in learned) if gpu else 0)
    loaded = [*own, *on_its_way, *moved(learned, gpu=gpu)]
    stages.append(
        _scoring("scoring the kept model", recipe, sizes, encoder, classifier, loaded, SCORING_BATCH, gpu=gpu)
    )
    needed = ("Python and libraries", "tokenizer", "label names", "label counts")
    loaded = [*(held for held in (*start, *data) if held.name in needed), *context, *moved(learned, gpu=gpu)]
    ranking = _ranking(recipe, sizes, encoder, classifier, PREDICTION_BATCH, gpu=gpu)
    return MemoryPlan(tuple(stages), Stage("prediction", (*loaded, *ranking)), gpu)


def _imports_compiler(recipe: Recipe) -> bool:
    return isinstance(recipe.encoder, TransformerSection) or isinstance(recipe.classifier, AutogradDenseSection)


def _loop(
    recipe: Recipe, sizes: DataSizes, encoder: Encoder, classifier: Classifier, held: list[Part], *, gpu: bool
) -> list[Stage]:
    """Training steps and what comes between them."""
    B, update = recipe.training.batch_size, recipe.classifier.update
    active = encoder_parts.active_lexical(encoder, sizes, B)
    state = [
        *part("classifier's update state", classifier_parts.moment_bytes(classifier, update)),
        *_auxiliary_state(recipe, sizes, encoder),
        *encoder_parts.update_parts(encoder, sizes, B, recipe.encoder.master),
    ]
    kept = [*held, *moved(state, gpu=gpu)]
    width = active + encoder.learned_features if active else 0
    step = [
        *part("activations", encoder_parts.activation_bytes(encoder, recipe, sizes, B, training=True, gpu=gpu)),
        *part("buffers of the classifier's step", classifier_parts.step_bytes(classifier, B, width, update, gpu=gpu)),
    ]
    # The encoder is updated when these are gone.
    after = part("AdamW's temporary arrays", encoder_parts.update_bytes(encoder, recipe.encoder.master))
    step = max(step, after, key=lambda parts: sum(own.bytes for own in parts))
    stages = [Stage("training", (*kept, *moved(step, gpu=gpu)))]
    rewiring = getattr(recipe.classifier, "rewiring", None)
    if rewiring is not None:
        work = part("rewiring", classifier_parts.rewiring_bytes(classifier))
        stages.append(Stage("rewiring", (*kept, *moved(work, gpu=gpu))))
    validated = min(SCORING_BATCH, recipe.training.validation_rows)
    stages.append(_scoring("validation", recipe, sizes, encoder, classifier, kept, validated, gpu=gpu))
    if gpu:
        # What is on the GPU goes through this machine's memory into a file, a file at a time.
        weights = [own for own in held if own.gpu and own.name != CUDA]
        largest = max(sum(own.bytes for own in parts) for parts in (state, weights))
        stages.append(Stage("saving", (*kept, *part(TO_A_FILE, largest))))
    return stages


def _scoring(
    name: str,
    recipe: Recipe,
    sizes: DataSizes,
    encoder: Encoder,
    classifier: Classifier,
    held: list[Part],
    rows: int,
    *,
    gpu: bool,
) -> Stage:
    metrics = part("metrics", data_parts.evaluation_bytes(sizes.labels))
    return Stage(name, (*held, *metrics, *_ranking(recipe, sizes, encoder, classifier, rows, gpu=gpu)))


def _ranking(
    recipe: Recipe, sizes: DataSizes, encoder: Encoder, classifier: Classifier, rows: int, *, gpu: bool
) -> list[Part]:
    active = encoder_parts.active_lexical(encoder, sizes, rows)
    width = active + encoder.learned_features if active else 0
    work = [
        *part("activations", encoder_parts.activation_bytes(encoder, recipe, sizes, rows, training=False, gpu=gpu)),
        *part("buffers of the ranking", classifier_parts.ranking_bytes(classifier, rows, width, gpu=gpu)),
    ]
    return moved(work, gpu=gpu)


def _encoding(recipe: Recipe, sizes: DataSizes, encoder: Encoder, *, gpu: bool) -> list[Part]:
    """A frozen transformer at work on the texts, when the data are made ready."""
    if not encoder_parts.kept_vector_bytes(encoder):
        return []
    weights = sum(held.bytes for held in encoder_parts.weight_parts(encoder))
    work = encoder_parts.activation_bytes(encoder, recipe, sizes, SCORING_BATCH, training=False, gpu=gpu)
    return part("transformer at work", weights + work)


def _building(recipe: Recipe, sizes: DataSizes, classifier: Classifier) -> list[Part]:
    """What is there for a while when the classifier and its loss are made."""
    section = recipe.classifier
    biases = classifier_parts.build_bytes(classifier, prior=section.prior_bias)
    margins = 0
    if isinstance(section, FixedFanInSection) and section.own_text_margin and section.start == "tokens":
        margins = data_parts.relevant_texts_bytes(sizes)
    name = "margins of the pairs" if margins > biases else "biases by frequency"
    return part(name, max(biases, margins))


def _clustering_bytes(recipe: Recipe, sizes: DataSizes, encoder: Encoder) -> int:
    if not finds_related_labels(recipe.classifier) and recipe.auxiliary is None:
        return 0
    return data_parts.label_order_bytes(recipe, sizes, base_encoder(encoder).out_features)


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


def _watched(recipe: Recipe, sizes: DataSizes, encoder: Encoder) -> list[Part]:
    """What rewiring keeps of labels, texts and batches."""
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
    return found


def _remembered(recipe: Recipe, sizes: DataSizes) -> list[Part]:
    """What the loss keeps of labels and texts; a batch's share is looked up where the data are."""
    section, found = recipe.classifier, []
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
        return data_parts.relevant_texts_bytes(sizes)
    if section.start == "centroids":
        sums = min(_CENTROID_CHUNK, classifier.out_features * encoder.out_features * _FLOAT)
        return 6 * sums + 2 * _LONG * sizes.rows
    return 0
