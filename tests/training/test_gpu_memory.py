"""What a run takes of a GPU's memory is kept over its processes and told in its metrics."""

import pytest
import torch

from fanin.runs.position import Position
from fanin.training.gpu_memory import forget_gpu_peaks, gpu_peaks


def test_the_largest_of_all_processes_counts():
    position = Position()
    for peaks in ((5, 7, 8), (9, 3, 10), (4, 6, 6)):
        position.note_peaks(*peaks)
    assert (position.peak_bytes, position.gpu_peak_bytes, position.gpu_reserved_bytes) == (9, 7, 10)


def test_they_are_in_the_metrics_of_a_run_on_a_gpu_alone(planted, tiny_recipe, train, monkeypatch):
    recipe = tiny_recipe("plain", "training.steps=2")
    assert not [name for name in train(planted, recipe)[0].metrics if "gpu" in name]
    monkeypatch.setattr("fanin.training.final_scores.gpu_peaks", lambda _device: (1 << 20, 2 << 20))
    metrics = train(planted, recipe)[0].metrics
    assert (metrics["gpu_peak_bytes"], metrics["gpu_reserved_bytes"]) == (1 << 20, 2 << 20)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
def test_peaks_of_tensors():
    device = torch.device("cuda", 0)
    forget_gpu_peaks(device)
    before, _ = gpu_peaks(device)
    gone = torch.zeros(1 << 20, device=device)
    del gone
    peak, reserved = gpu_peaks(device)
    assert before + (4 << 20) <= peak <= reserved
    forget_gpu_peaks(device)
    assert gpu_peaks(device)[0] == before
