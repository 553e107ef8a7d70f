"""The examples in docstrings run and show what the code does."""

import doctest
import pkgutil
from importlib import import_module

import pytest

import fanin
from fanin.errors import BackendError

MODULES = [module.name for module in pkgutil.walk_packages(fanin.__path__, "fanin.") if "__main__" not in module.name]


@pytest.mark.parametrize("name", MODULES)
def test_examples(name):
    try:
        module = import_module(name)
    except BackendError as error:
        pytest.skip(str(error))  # the compiled core is absent
    except ModuleNotFoundError as error:
        if error.name != "triton":
            raise
        pytest.skip(str(error))
    assert doctest.testmod(module).failed == 0
