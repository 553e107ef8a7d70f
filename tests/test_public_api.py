"""The names that fanin offers, and that asking for none of them costs nothing."""

import subprocess
import sys

import pytest

import fanin

PUBLIC = [
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
    "load_recipe",
]


def test_public_names():
    assert set(fanin.__all__) == {*PUBLIC, "__version__"}
    assert set(PUBLIC) <= set(dir(fanin))


@pytest.mark.parametrize("name", PUBLIC)
def test_every_public_name_loads_and_is_documented(name):
    value = getattr(fanin, name)
    assert value.__name__ == name
    assert value.__doc__


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'fanin' has no attribute 'Sparse'"):
        _ = fanin.Sparse


@pytest.mark.parametrize("name", ["BackendError", "CheckpointError", "ConfigError", "DataError", "MemoryPlanError"])
def test_every_error_is_a_fanin_error(name):
    assert issubclass(getattr(fanin, name), fanin.FaninError)
    assert issubclass(getattr(fanin, name), ValueError)


@pytest.mark.parametrize("statement", ["import fanin", "from fanin import ConfigError, FaninError"])
def test_importing_fanin_loads_no_large_library(statement):
    code = f"import sys; {statement}; print([m for m in ('torch', 'numpy', 'scipy', 'pydantic') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
