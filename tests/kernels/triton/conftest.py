import pytest

from triton_under_test import triton_backend


@pytest.fixture(scope="session")
def triton():
    """The Triton backend on a GPU, or in the interpreter."""
    return triton_backend()
