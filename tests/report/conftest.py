"""Metrics as a finished run leaves them."""

import pytest


def _metrics(p1=0.4, *, split="test", **changes):
    groups = {"head": {"labels": 3, "P@1": p1 / 2, "P@5": 0.05}, "tail": {"labels": 9, "P@1": p1 / 2, "P@5": 0.15}}
    scores = {"P@1": p1, "P@5": 0.2, "PSP@1": 0.25, "groups": groups, "texts_per_second": 900.0}
    found = {
        "validation": scores,
        split: scores,
        "classifier_bytes": 2_000_000,
        "model_bytes": 7_000_000,
        "peak_bytes": 3 * 2**20,
        "train_texts_per_second": 5000.0,
        "train_seconds": 12.5,
    }
    return found | changes


@pytest.fixture
def make_metrics():
    """``make_metrics(0.4, classifier_bytes=5)``."""
    return _metrics
