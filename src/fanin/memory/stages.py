"""The stages of a training run, each with everything that is in memory then."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from fanin.encoders.intermediate import base_encoder
from fanin.memory import classifier_parts, data_parts, encoder_parts, gpu_parts, training_parts
from fanin.memory.base import COMPILER
from fanin.memory.parts import Stage, moved, part
from fanin.memory.shares import gradient_bytes, own_rows, vector_bytes
from fanin.processes.spread import CHUNK_BYTES
from fanin.recipes.classifier_recipe import AutogradDenseSection, DenseStartSection, FixedFanInSection
from fanin.training.assemble_classifier import finds_related_labels
from fanin.training.preparation import SCORING_BATCH
from fanin.training.warm_start import TEXTS_AT_A_TIME

if TYPE_CHECKING:
    from fanin.classifier.interface import Classifier
    from fanin.encoders.interface import Encoder
    from fanin.memory.data_sizes import DataSizes
    from fanin.memory.parts import Part
    from fanin.memory.team import Team
    from fanin.recipes.recipe import Recipe

CUDA, TO_A_FILE, TO_THE_MODEL, TO_THE_FIRST = (
    "CUDA and its libraries",
    "tensors on their way into a file",
    "kept model on its way",
    "tensors on their way to the first process",
)
"""Names of what a run on a GPU, or of several processes, holds besides its parts."""

_FLOAT, _LONG = 4, 8
_CENTROID_CHUNK = 64 << 20


@dataclass(frozen=True)
class LaidOutRun:
    """A run without memory for its weights, as one of its processes sees it.

    Attributes:
        recipe: the run's.
        sizes: of its data.
        encoder: what it trains.
        whole: the classifier.
        classifier: the process's part of it; the same where there is one process.
        gpu: whether it computes on a GPU.
        team: the processes.
    """

    recipe: Recipe
    sizes: DataSizes
    encoder: Encoder
    whole: Classifier
    classifier: Classifier
    gpu: bool
    team: Team


class _Learned(NamedTuple):
    """What is trained, or the state of its updates: what all processes hold alike, and what they share."""

    alike: list[Part]
    shared: list[Part]

    @property
    def all(self) -> list[Part]:
        return self.alike + self.shared

    def saved_bytes(self) -> tuple[int, int]:
        """What of it is one file's: all of what is alike, and of what is shared a chunk at a time."""
        largest = max((own.bytes for own in self.shared), default=0)
        return sum(own.bytes for own in self.alike), min(largest, CHUNK_BYTES)


def training_stages(run: LaidOutRun, base: int) -> list[Stage]:
    """All stages of the training, in order.

    Args:
        run: the run.
        base: as in :func:`fanin.memory.plan.plan_memory`.
    """
    recipe, sizes, encoder, gpu = run.recipe, run.sizes, run.encoder, run.gpu
    compiler = COMPILER if isinstance(recipe.classifier, AutogradDenseSection) else 0
    start = part("Python and libraries", base + compiler)
    context = moved(part(CUDA, gpu_parts.CONTEXT), gpu=True) if gpu else []
    data = data_parts.data_parts(recipe, sizes, encoder_parts.kept_vector_bytes(encoder))
    model = _Learned(encoder_parts.weight_parts(encoder), classifier_parts.weight_parts(run.classifier))
    # The first process of a machine makes the data ready, and the first of all orders the labels.
    reading = part("preparing the data", data_parts.preparation_bytes(recipe, sizes), once=True)
    stages = [Stage("reading the data", (*start, *context, *reading, *moved(_encoding(run), gpu=gpu)))]
    own = [*start, *context, *data]
    order = _clustering_bytes(recipe, sizes, encoder)
    if order:
        clustering = part("clustering", order, once=True)
        stages.append(Stage("ordering labels", (*own, *model.alike, *clustering)))
    beside = training_parts.auxiliary_parts(recipe, sizes, encoder, run.team.size)
    watched = training_parts.watched_parts(recipe, sizes, encoder)
    remembered = training_parts.remembered_parts(recipe, sizes)
    held = [*own, *model.all, *beside, *watched, *remembered]
    stages.append(Stage("making the model", (*held, *_building(run))))
    first = _start_bytes(run)
    if first:
        stages.append(Stage("starting connections", (*held, *part("texts of the labels", first))))
    kept = [*own, *remembered, *moved([*model.all, *beside, *watched], gpu=gpu)]
    state = _update_state(run)
    stages += _loop(run, kept, state)
    stages += _saving(
        run, [*kept, *moved(state.all, gpu=gpu)], _Learned([*model.alike, *beside, *watched], model.shared), state
    )
    return [*stages, *_kept_model(run, own, model)]


def prediction_stage(run: LaidOutRun, training: Stage, rows: int) -> Stage:
    """The whole model at work, in a process of its own.

    Args:
        run: the run that has trained it.
        training: a stage in which its data are there.
        rows: texts at a time.
    """
    needed = ("Python and libraries", CUDA, "tokenizer", "label names", "label counts")
    loaded = [held for held in training.parts if held.name in needed]
    model = [*encoder_parts.weight_parts(run.encoder), *classifier_parts.weight_parts(run.whole)]
    return Stage("prediction", (*loaded, *moved(model, gpu=run.gpu), *_ranking(run, run.whole, rows, rows)))


def _update_state(run: LaidOutRun) -> _Learned:
    recipe, B = run.recipe, run.recipe.training.batch_size
    state = classifier_parts.moment_bytes(run.classifier, recipe.classifier.update)
    return _Learned(
        encoder_parts.update_parts(run.encoder, run.sizes, B, recipe.encoder.master),
        [
            *part("classifier's update state", state),
            *training_parts.auxiliary_state(recipe, run.sizes, run.encoder, run.team.size),
        ],
    )


def _loop(run: LaidOutRun, held: list[Part], state: _Learned) -> list[Stage]:
    """Training steps and what comes between them."""
    recipe, sizes, encoder, gpu, N = run.recipe, run.sizes, run.encoder, run.gpu, run.team.size
    B, update = recipe.training.batch_size, recipe.classifier.update
    kept = [*held, *moved(state.all, gpu=gpu)]
    width = _active_width(run, B)
    encoded = encoder_parts.activation_bytes(encoder, recipe, sizes, own_rows(B, N), training=True, gpu=gpu)
    steps = [
        [
            *part("activations", encoded),
            *part("vectors of all texts", vector_bytes(B, width or encoder.learned_features, N)),
            *part(
                "buffers of the classifier's step",
                classifier_parts.step_bytes(run.classifier, B, width, update, gpu=gpu),
            ),
        ],
        # The encoder is updated when these are gone.
        part("gradients of all processes", gradient_bytes(encoder, B, N, tokens=sizes.read_per_text)),
        part("AdamW's temporary arrays", encoder_parts.update_bytes(encoder, recipe.encoder.master)),
    ]
    step = max(steps, key=lambda parts: sum(own.bytes for own in parts))
    stages = [Stage("training", (*kept, *moved(step, gpu=gpu)))]
    rewiring = getattr(recipe.classifier, "rewiring", None)
    if rewiring is not None:
        work = part("rewiring", classifier_parts.rewiring_bytes(run.classifier))
        stages.append(Stage("rewiring", (*kept, *moved(work, gpu=gpu))))
    return [*stages, _scoring("validation", run, kept, min(SCORING_BATCH, recipe.training.validation_rows))]


def _saving(run: LaidOutRun, kept: list[Part], model: _Learned, state: _Learned) -> list[Stage]:
    """What is on a GPU or with another process goes through the first one's memory into a file, a file at a time."""
    if run.team.size == 1:
        largest = max(sum(own.bytes for own in parts.all) for parts in (model, state)) if run.gpu else 0
        way = part(TO_A_FILE, largest)
    else:
        files = [parts.saved_bytes() for parts in (model, state)]
        chunk = max(chunk for _, chunk in files)
        sent = part(TO_THE_FIRST, chunk if run.gpu else 0)
        way = sent + part(TO_A_FILE, max(alike for alike, _ in files) if run.gpu else chunk, once=True)
    return [Stage("saving", (*kept, *way))] if way else []


def _kept_model(run: LaidOutRun, own: list[Part], model: _Learned) -> list[Stage]:
    """The best model in the place of what was trained, and its scores.

    Several processes go on with what they have trained, and take up its weights in that memory, on the CPU at once.
    """
    name, there = "scoring the kept model", moved(model.all, gpu=run.gpu)
    rows = min(SCORING_BATCH, max(run.recipe.training.validation_rows, run.sizes.other_rows))
    on_its_way = sum(held.bytes for held in model.all)
    if run.team.size == 1:
        held = [*own, *part(TO_THE_MODEL, on_its_way if run.gpu else 0), *there]
        return [_scoring(name, run, held, rows)]
    held, kept = [*own, *there], [*model.alike, *classifier_parts.weight_parts(run.whole)]
    dropped = classifier_parts.dropped_bytes(run.classifier, run.recipe.classifier.update)
    places = sum(read.bytes for read in kept if read.name == classifier_parts.PLACES)
    read = [
        *part("files of the kept model", sum(read.bytes for read in kept) - places, mapped=True, once=True),
        *part("places in the kept model", places, once=True),
        *part(TO_THE_MODEL, on_its_way if run.gpu else 0),
        *moved(part("update state that was dropped", dropped), gpu=run.gpu),
    ]
    return [Stage("taking up the kept model", (*held, *read)), _scoring(name, run, held, rows)]


def _scoring(name: str, run: LaidOutRun, held: list[Part], rows: int) -> Stage:
    metrics = part("metrics", data_parts.evaluation_bytes(run.sizes.labels), once=True)
    ranking = _ranking(run, run.classifier, rows, own_rows(rows, run.team.size))
    width = _active_width(run, rows) or run.encoder.learned_features
    exchanged = part("vectors of all texts", vector_bytes(rows, width, run.team.size))
    return Stage(name, (*held, *metrics, *ranking, *moved(exchanged, gpu=run.gpu)))


def _ranking(run: LaidOutRun, classifier: Classifier, rows: int, encoded: int) -> list[Part]:
    """Best labels of some texts, of which a process encodes its own."""
    recipe, sizes, encoder, gpu = run.recipe, run.sizes, run.encoder, run.gpu
    activations = encoder_parts.activation_bytes(encoder, recipe, sizes, encoded, training=False, gpu=gpu)
    buffers = classifier_parts.ranking_bytes(classifier, rows, _active_width(run, rows), gpu=gpu)
    return moved([*part("activations", activations), *part("buffers of the ranking", buffers)], gpu=gpu)


def _active_width(run: LaidOutRun, rows: int) -> float:
    """Inputs that are active in a batch; 0 where all are."""
    active = encoder_parts.active_lexical(run.encoder, run.sizes, rows)
    return active + run.encoder.learned_features if active else 0


def _encoding(run: LaidOutRun) -> list[Part]:
    """A frozen transformer at work on the texts, when the data are made ready."""
    encoder = run.encoder
    if not encoder_parts.kept_vector_bytes(encoder):
        return []
    weights = sum(held.bytes for held in encoder_parts.weight_parts(encoder))
    work = encoder_parts.activation_bytes(encoder, run.recipe, run.sizes, SCORING_BATCH, training=False, gpu=run.gpu)
    return part("transformer at work", weights + work)


def _building(run: LaidOutRun) -> list[Part]:
    """What is there for a while when the classifier and its loss are made."""
    section = run.recipe.classifier
    biases = classifier_parts.build_bytes(run.classifier, prior=section.prior_bias)
    margins = 0
    if isinstance(section, FixedFanInSection) and section.own_text_margin and section.start == "tokens":
        margins = data_parts.relevant_texts_bytes(run.sizes) + data_parts.joined_sources_bytes(run.recipe, run.sizes)
    name = "margins of the pairs" if margins > biases else "biases by frequency"
    return part(name, max(biases, margins))


def _clustering_bytes(recipe: Recipe, sizes: DataSizes, encoder: Encoder) -> int:
    if not finds_related_labels(recipe.classifier) and recipe.auxiliary is None:
        return 0
    found = data_parts.label_order_bytes(recipe, sizes, base_encoder(encoder).out_features)
    return found + data_parts.joined_sources_bytes(recipe, sizes)


def _summed_bytes(run: LaidOutRun) -> int:
    """Vectors of a batch of texts on their way into their labels' sums: encoded, and again one a relevant label."""
    rows = min(TEXTS_AT_A_TIME, run.sizes.rows)
    encoding = encoder_parts.activation_bytes(run.encoder, run.recipe, run.sizes, rows, training=False)
    return encoding + int(rows * (1 + run.sizes.labels_per_text) * run.encoder.out_features * _FLOAT)


def _start_bytes(run: LaidOutRun) -> int:
    section, sizes = run.recipe.classifier, run.sizes
    if not isinstance(section, FixedFanInSection | DenseStartSection):
        return 0
    joined = data_parts.joined_sources_bytes(run.recipe, sizes)
    if section.start == "tokens":
        return data_parts.relevant_texts_bytes(sizes) + joined
    if section.start == "centroids":
        sums = min(_CENTROID_CHUNK, run.whole.out_features * run.encoder.out_features * _FLOAT)
        return max(6 * sums, sums + _summed_bytes(run)) + 2 * _LONG * sizes.rows + joined
    return 0
