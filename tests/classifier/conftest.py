"""Fixtures of the classifiers' common suite."""

import pytest

from classifier_kinds import KINDS, PLAIN


@pytest.fixture(params=KINDS)
def make(request):
    """Builds one kind of classifier."""
    return KINDS[request.param]


@pytest.fixture(params=PLAIN)
def make_plain(request):
    """Builds one kind of classifier that is a single layer."""
    return PLAIN[request.param]
