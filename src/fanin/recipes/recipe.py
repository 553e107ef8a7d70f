"""Recipes: everything that decides a training run, as validated, frozen values.

A recipe is a YAML mapping of sections. It may extend a shipped recipe by name; ``--set section.key=value`` changes
single settings. Unknown keys are refused with the nearest known one, and all mistakes are reported at once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag, model_validator

from fanin.evaluation.metrics import SCORES
from fanin.recipes.checkpoint_recipe import CheckpointSection
from fanin.recipes.classifier_recipe import (
    AnyClassifierSection,
    DenseStartSection,
    FixedFanInSection,
    SparseSection,
    inputs_of_a_label,
)
from fanin.recipes.optimizer_recipe import ScheduleSection
from fanin.recipes.recipe_section import Count, CountOrZero, NotNegative, Positive, Section
from fanin.recipes.remedies_recipe import AuxiliarySection, IntermediateSection

if TYPE_CHECKING:
    from fanin.recipes.optimizer_recipe import Master

Cutoff = Annotated[int, Field(ge=1, le=1000)]


class TokenizerSection(Section):
    """Text to tokens; see :class:`fanin.encoders.tokenization.TokenizerSettings` for every setting."""

    unit: Literal["word", "subword"] = "word"
    vocabulary_size: Count = 30_000
    min_count: Count = 2
    unknown_buckets: Count = 1024
    frequent_pairs: CountOrZero = 50_000
    pair_buckets: CountOrZero = 0
    character_buckets: CountOrZero = 0
    max_length: Count = 64

    @model_validator(mode="after")
    def _tokens_are_int32(self) -> TokenizerSection:
        names = ("vocabulary_size", "unknown_buckets", "frequent_pairs", "pair_buckets", "character_buckets")
        total = sum(getattr(self, name) for name in names)
        if total >= 2**31:
            raise ValueError(f"{', '.join(names)} add up to {total} tokens; there can be fewer than 2**31, lower them")
        return self


class EncoderSection(Section):
    """What the encoders have in common.

    Attributes:
        optimizer: schedule of the dense parameters (AdamW).
        weight_decay: of the dense parameters' matrices.
        clip_norm: largest Euclidean norm of the encoder's whole gradient, table included.
        weights: what the dense parameters are stored as: "fp32"; "bf16-kahan", bfloat16 with a compensation of what
            rounding has cut off their updates; or "bf16-fp32", bfloat16 with a float32 copy for the updates
            (:class:`fanin.training.bfloat16_adamw.BFloat16AdamW`). A kept model is float32.
    """

    optimizer: ScheduleSection = ScheduleSection(learning_rate=1e-3)
    weight_decay: NotNegative = 0.01
    clip_norm: Positive = 1.0
    weights: Literal["fp32", "bf16-kahan", "bf16-fp32"] = "fp32"

    @property
    def master(self) -> Master | None:
        """What is kept of each parameter beside its bfloat16; None where they are float32."""
        masters: dict[str, Master] = {"bf16-kahan": "kahan", "bf16-fp32": "fp32"}
        return masters.get(self.weights)


class BagSection(EncoderSection):
    """The bag of embeddings, tokens to x (B, D); see :class:`fanin.encoders.bag.BagEncoder`.

    Attributes:
        out_features: D.
        rarity_weights: weigh tokens by inverse document frequency instead of equally.
        lexical_features: so many of the first tokens are also inputs of the classifier, each by itself.
        lexical_scale: Euclidean norm of a text's lexical features.
        table: schedule of the embedding table.
    """

    kind: Literal["bag"] = "bag"
    out_features: Count = 512
    embedding_dim: Count = 256
    rarity_weights: bool = True
    blocks: CountOrZero = 1
    block_width: Count = 1024
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.3
    token_dropout: Annotated[float, Field(ge=0, lt=1)] = 0.1
    lexical_features: CountOrZero = 0
    lexical_scale: Positive = 4.0
    table: ScheduleSection = ScheduleSection(learning_rate=5e-3)


class TransformerSection(EncoderSection):
    """A transformer, texts to x (B, D); see :class:`fanin.encoders.transformer_encoder.TransformerEncoder`.

    Attributes:
        model: a folder of Hugging Face files, or a name on the hub, "owner/name" or "owner/name@commit".
        max_length: tokens of a text, special ones included; the rest is cut off.
        pooling: "mean" over the tokens, or "cls", the first token.
        last_layers: how many of the last layers' pooled vectors are joined into one.
        out_features: D, by a linear projection; null takes the pooled vectors as they are.
        layer_norm: bring each pooled vector to mean 0 and variance 1.
        dropout: share of the pooled vector's values set to zero in training.
        frozen: train nothing of the transformer; the texts' vectors are then computed once and kept in the cache.
        freeze_embeddings: keep the token and position embeddings as they are.
        freeze_layers: keep so many of the first layers as they are.
        gradient_checkpointing: compute activations again in the backward pass instead of keeping them.
        autocast: "bfloat16" computes in it where that is safe. There is no float16: it needs a scaled loss, which the
            classifier's fused step excludes.
        length_window: batches that are sorted by length together; see :class:`fanin.data.batches.Batches`.
        optimizer: schedule of the transformer's parameters.
        projection: schedule of the projection's parameters.
    """

    kind: Literal["transformer"] = "transformer"
    model: Annotated[str, Field(min_length=1)] = "sentence-transformers/all-MiniLM-L6-v2"
    max_length: Annotated[int, Field(ge=2, lt=2**31)] = 128
    pooling: Literal["mean", "cls"] = "mean"
    last_layers: Count = 1
    out_features: Count | None = None
    layer_norm: bool = True
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.1
    frozen: bool = False
    freeze_embeddings: bool = False
    freeze_layers: CountOrZero = 0
    gradient_checkpointing: bool = False
    autocast: Literal["none", "bfloat16"] = "none"
    length_window: Count = 16
    optimizer: ScheduleSection = ScheduleSection(learning_rate=5e-5)
    projection: ScheduleSection = ScheduleSection(learning_rate=1e-3)

    @model_validator(mode="after")
    def _frozen_trains_nothing(self) -> TransformerSection:
        idle = [
            name for name in ("freeze_embeddings", "freeze_layers", "gradient_checkpointing") if getattr(self, name)
        ]
        if self.frozen and idle:
            raise ValueError(f"{', '.join(idle)} does nothing where frozen is true; leave it out")
        if self.frozen and self.weights != "fp32":
            raise ValueError("a frozen transformer stays as it is; with frozen set weights to fp32")
        return self


class FeaturesSection(EncoderSection):
    """Features that come with the data set, to x (B, D); see :mod:`fanin.encoders.features`.

    Attributes:
        out_features: D, by a linear projection; null takes the features as they are. Sparse features need one.
        layer_norm: bring each vector to mean 0 and variance 1 before the projection (dense features).
        dropout: share of x set to zero in training.
        optimizer: schedule of a dense projection.
        table: schedule of the projection of sparse features, a row a feature.
    """

    kind: Literal["features"] = "features"
    out_features: Count | None = None
    layer_norm: bool = True
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.1
    table: ScheduleSection = ScheduleSection(learning_rate=5e-3)


def _encoder_kind(value: Any) -> Any:
    return value.get("kind", "bag") if isinstance(value, dict) else getattr(value, "kind", None)


AnyEncoderSection = Annotated[
    Annotated[BagSection, Tag("bag")]
    | Annotated[TransformerSection, Tag("transformer")]
    | Annotated[FeaturesSection, Tag("features")],
    Discriminator(_encoder_kind),
]


class TrainingSection(Section):
    """The loop.

    Attributes:
        epochs: passes over the training rows.
        steps: so many steps instead, schedules and rewiring included; null for ``epochs``.
        batch_size: B.
        label_texts: train on the label names too, each a text with its label; they count for nothing else
            (:attr:`fanin.training.preparation.PreparedData.trained_names`).
        label_features: what a label is known by where related labels are found, and where it starts from centroids or
            tokens: its "texts", its "names", or "both", the name as one more text.
        seed: of everything random.
        validation_share: share of the training rows held out where the data has no dev split.
        validation_rows: no larger share is held out, or taken of the dev split, than gives about so many rows.
        evaluate_every: epochs between validations; the last epoch is always validated.
        select_by: the validation metric that chooses the kept model, such as "P@1".
        log_every: steps between lines of the log.
        checkpoint: when the state of the run is saved.
        on_non_finite: what a step does whose values are not finite: "stop" ends the run; "skip" goes back to the last
            checkpoint and on from there without that step's batch.
    """

    epochs: Count = 10
    steps: Count | None = None
    batch_size: Count = 512
    label_texts: bool = False
    label_features: Literal["texts", "names", "both"] = "texts"
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    validation_share: Annotated[float, Field(gt=0, lt=1)] = 0.05
    validation_rows: Count = 4000
    evaluate_every: Count = 1
    select_by: str = "P@1"
    log_every: Count = 20
    checkpoint: CheckpointSection = CheckpointSection()
    on_non_finite: Literal["stop", "skip"] = "stop"


class EvaluationSection(Section):
    """Metrics: up to 20 cut-offs k <= 1000; A and B of the propensity model (.6, 2.6 Amazon; .5, .4 Wikipedia)."""

    ks: Annotated[tuple[Cutoff, ...], Field(min_length=1, max_length=20)] = (1, 3, 5)
    propensity_a: NotNegative = 0.55
    propensity_b: Positive = 1.5


class Recipe(Section):
    """A whole training run.

    >>> Recipe().classifier.kind
    'sparse'
    """

    tokenizer: TokenizerSection = TokenizerSection()
    encoder: AnyEncoderSection = BagSection()
    intermediate: IntermediateSection | None = None
    classifier: AnyClassifierSection = SparseSection()
    auxiliary: AuxiliarySection | None = None
    training: TrainingSection = TrainingSection()
    evaluation: EvaluationSection = EvaluationSection()

    @model_validator(mode="after")
    def _labels_read_what_there_is(self) -> Recipe:
        D, size = self.encoder.out_features, "encoder.out_features"
        if self.intermediate is not None:
            D, size = self.intermediate.width, "intermediate.width"
        for name, read in inputs_of_a_label(self.classifier).items():
            if D is not None and read > D:
                raise ValueError(
                    f"classifier.{name} is {read} and {size} only {D}: a label cannot read more inputs than there are; "
                    "lower the one or raise the other"
                )
        return self

    @model_validator(mode="after")
    def _parts_fit(self) -> Recipe:
        classifier = self.classifier
        lexical = self.encoder.lexical_features if isinstance(self.encoder, BagSection) else 0
        start = classifier.start if isinstance(classifier, FixedFanInSection | DenseStartSection) else "random"
        if start == "tokens" and not isinstance(self.encoder, BagSection):
            raise ValueError(
                "classifier.start tokens reads lexical features, which an encoder of kind "
                f"{self.encoder.kind} has not; set it to random or centroids"
            )
        if start == "tokens" and not lexical:
            raise ValueError(
                "classifier.start tokens reads lexical features; set encoder.lexical_features above 0, or "
                "classifier.start to random or centroids"
            )
        if start == "centroids" and lexical:
            raise ValueError(
                "classifier.start centroids knows learned features only; with encoder.lexical_features set it to tokens"
            )
        if not isinstance(self.encoder, BagSection) and self.tokenizer != TokenizerSection():
            raise ValueError(
                f"the tokenizer section belongs to encoder.kind bag; an encoder of kind {self.encoder.kind} does not "
                "use it: leave it out, and extend no recipe that sets it (a transformer has encoder.max_length)"
            )
        reads_tokens = isinstance(self.encoder, BagSection) or (
            isinstance(self.encoder, TransformerSection) and not self.encoder.frozen
        )
        if self.training.label_texts and not reads_tokens:
            raise ValueError(
                "training.label_texts needs an encoder that reads texts in training; features and a frozen transformer "
                "do not: set it to false"
            )
        if self.training.label_features != "texts" and isinstance(self.encoder, FeaturesSection):
            raise ValueError(
                f"training.label_features {self.training.label_features} reads label names, and an encoder of kind "
                "features reads no texts: set it to texts"
            )
        chosen = {f"{name}@{k}" for name in SCORES for k in self.evaluation.ks}
        if self.training.select_by not in chosen:
            raise ValueError(
                f"training.select_by is {self.training.select_by[:60]!r}; it must be one of {', '.join(sorted(chosen))}"
            )
        return self
