"""What training keeps beside encoder and classifier: the auxiliary objective, what rewiring and the loss remember."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fanin.kernels.spec import moment_count
from fanin.memory.parts import part
from fanin.recipes.classifier_recipe import FixedFanInSection
from fanin.recipes.rewiring_recipe import RewiringSection

if TYPE_CHECKING:
    from fanin.encoders.interface import Encoder
    from fanin.memory.data_sizes import DataSizes
    from fanin.memory.parts import Part
    from fanin.recipes.recipe import Recipe

_FLOAT, _LONG = 4, 8


def auxiliary_parts(recipe: Recipe, sizes: DataSizes, encoder: Encoder, processes: int) -> list[Part]:
    """The auxiliary objective's weights, of which processes share the clusters, and the clusters of the labels."""
    weights = _auxiliary_weights(recipe, sizes, encoder, processes)
    return part("auxiliary objective", weights + _LONG * sizes.labels) if weights else []


def auxiliary_state(recipe: Recipe, sizes: DataSizes, encoder: Encoder, processes: int) -> list[Part]:
    """The state of the auxiliary objective's update."""
    if recipe.auxiliary is None:
        return []
    count = moment_count(recipe.auxiliary.update.at(1.0))
    return part("auxiliary objective's update state", count * _auxiliary_weights(recipe, sizes, encoder, processes))


def watched_parts(recipe: Recipe, sizes: DataSizes, encoder: Encoder) -> list[Part]:
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


def remembered_parts(recipe: Recipe, sizes: DataSizes) -> list[Part]:
    """What the loss keeps of labels and texts; a batch's share is looked up where the data are."""
    section, found = recipe.classifier, []
    if section.tail != "none":
        found += part("weights or margins by frequency", _FLOAT * sizes.labels)
    if isinstance(section, FixedFanInSection) and section.own_text_margin and section.start == "tokens":
        names = (_FLOAT + _LONG) * sizes.labels if recipe.training.label_features == "both" else 0
        found += part("margins of all pairs", _FLOAT * sizes.rows * sizes.labels_per_text + names)
    return found


def _auxiliary_weights(recipe: Recipe, sizes: DataSizes, encoder: Encoder, processes: int) -> int:
    """Bytes of one process's share of the clusters' weights; 0 without an auxiliary objective."""
    section = recipe.auxiliary
    if section is None:
        return 0
    clusters = section.clusters or -(-sizes.labels // section.labels_per_cluster)
    return -(-clusters // processes) * encoder.learned_features * _FLOAT
