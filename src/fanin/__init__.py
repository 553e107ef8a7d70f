"""Text classifiers with huge output spaces and a truly sparse output layer.

The public names are loaded when they are first used, so that ``import fanin`` costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from fanin.version import __version__

if TYPE_CHECKING:
    from fanin.classifier.dense import DenseLinear
    from fanin.classifier.sparse import SparseLinear
    from fanin.errors import BackendError, CheckpointError, ConfigError, DataError, FaninError, MemoryPlanError
    from fanin.estimator import TextClassifier
    from fanin.kernels.spec import SGD, AdamW, Loss, Positives
    from fanin.recipes.recipe import Recipe
    from fanin.recipes.recipe_files import load_recipe

_HOMES = {
    "AdamW": "fanin.kernels.spec",
    "BackendError": "fanin.errors",
    "CheckpointError": "fanin.errors",
    "ConfigError": "fanin.errors",
    "DataError": "fanin.errors",
    "DenseLinear": "fanin.classifier.dense",
    "FaninError": "fanin.errors",
    "Loss": "fanin.kernels.spec",
    "MemoryPlanError": "fanin.errors",
    "Positives": "fanin.kernels.spec",
    "Recipe": "fanin.recipes.recipe",
    "SGD": "fanin.kernels.spec",
    "SparseLinear": "fanin.classifier.sparse",
    "TextClassifier": "fanin.estimator",
    "load_recipe": "fanin.recipes.recipe_files",
}

__all__ = [
    "SGD",
    "AdamW",
    "BackendError",
    "CheckpointError",
    "ConfigError",
    "DataError",
    "DenseLinear",
    "FaninError",
    "Loss",
    "MemoryPlanError",
    "Positives",
    "Recipe",
    "SparseLinear",
    "TextClassifier",
    "__version__",
    "load_recipe",
]


def __getattr__(name: str) -> object:
    """Load a public name from its home."""
    if name not in _HOMES:
        raise AttributeError(f"module 'fanin' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
