"""The kinds of classifier by name, as recipes and files call them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fanin.classifier.banded import BandedLinear
from fanin.classifier.bottleneck import BottleneckLinear
from fanin.classifier.dense import DenseLinear
from fanin.classifier.dense_autograd import AutogradDenseLinear
from fanin.classifier.head_tail import HeadTailLinear
from fanin.classifier.masked import MaskedLinear
from fanin.classifier.sparse import SparseLinear

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from collections.abc import Set as AbstractSet

    from fanin.classifier.interface import Classifier

CLASSIFIERS: Mapping[str, Callable[..., Classifier]] = {
    "sparse": SparseLinear,
    "banded": BandedLinear,
    "dense": DenseLinear,
    "dense_autograd": AutogradDenseLinear,
    "bottleneck": BottleneckLinear,
    "head_tail": HeadTailLinear,
    "masked": MaskedLinear,
}

_EVERY = {"in_features", "out_features", "bias"}
_BANDED = _EVERY | {"group_size", "cluster_size", "cluster_inputs"}
_FIXED_FAN_IN = _BANDED | {"fan_in"}
SETTINGS: Mapping[str, frozenset[str]] = {
    "sparse": frozenset(_FIXED_FAN_IN | {"ordered"}),
    "banded": frozenset(_BANDED | {"bands"}),
    "dense": frozenset(_EVERY),
    "dense_autograd": frozenset(_EVERY),
    "bottleneck": frozenset(_EVERY | {"width"}),
    "head_tail": frozenset(_FIXED_FAN_IN | {"head_labels", "head_inputs"}),
    "masked": frozenset(_EVERY | {"fan_in"}),
}
"""What a file says of each kind; other arguments of the constructors are not a file's to choose."""

_STORAGE = frozenset({"dtype", "rounding_seed"})


def are_settings(kind: str, names: AbstractSet[str]) -> bool:
    """Whether a file that names these settings says of a kind all that it has to, and nothing else.

    Weights in fewer bits have two more, their dtype and the seed of their rounding.

    >>> are_settings("dense", {"in_features", "out_features", "bias"}), are_settings("dense", {"bias", "seed"})
    (True, False)
    """
    return names - SETTINGS[kind] in (set(), _STORAGE) and names >= SETTINGS[kind]


def kind_of(classifier: Classifier) -> str:
    """The name of a classifier's kind.

    >>> kind_of(DenseLinear(3, 2))
    'dense'
    """
    return next(name for name, build in CLASSIFIERS.items() if type(classifier) is build)
