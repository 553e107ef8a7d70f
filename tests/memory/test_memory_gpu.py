"""Plans of runs on a GPU: what lies there is what moves there, and a budget is about it."""

import pytest
import torch

from fanin.classifier.sparse import SparseLinear
from fanin.errors import MemoryPlanError
from fanin.kernels.spec import SGD, Loss, Positives
from fanin.memory import gpu_parts
from fanin.memory.check import check_memory, over_budget
from fanin.memory.data_sizes import DataSizes, assumed_sizes
from fanin.memory.plan import plan_memory
from fanin.memory.planned_run import PlannedRun
from fanin.recipes.recipe_files import load_recipe
from live_tensors import LiveTensors
from triton_under_test import require_triton

BASE = 300 << 20
GROUPS = ("classifier.group_size=32", "classifier.weights=fp8")


@pytest.fixture(autouse=True)
def _base_of_a_fresh_process(monkeypatch):
    """This process holds whatever earlier tests left in it, which must not count as the libraries' memory."""
    monkeypatch.setattr("fanin.memory.base.resident_bytes", lambda: BASE)


def test_model_updates_and_batches_are_on_the_gpu_and_data_are_not():
    recipe = load_recipe("plain", [*GROUPS, "classifier.tail=margin", "classifier.rewiring.grow=gradient"])
    sizes = assumed_sizes(100_000, 50_000, recipe)
    beside, there = plan_memory(recipe, sizes, BASE), plan_memory(recipe, sizes, BASE, gpu=True)
    training = next(stage for stage in there.training if stage.name == "training")
    on_gpu = {part.name for part in training.parts if part.gpu}
    assert on_gpu >= {"classifier weights", "encoder's AdamW state", "activations", "rewiring's batches"}
    host = {part.name for part in training.parts if not part.gpu}
    assert {"label names", "label counts", "weights or margins by frequency", "Python and libraries"} <= host
    assert not on_gpu & host
    # The same things as on the CPU, but for what kernels make for a while and what CUDA takes.
    names = {part.name for part in next(s for s in beside.training if s.name == "training").parts}
    assert on_gpu | host == names | {"CUDA and its libraries"}
    assert all(part.gpu == (part.name == "CUDA and its libraries") or not part.gpu for part in there.training[0].parts)
    prediction = {part.name for part in there.prediction.parts if part.gpu}
    assert "classifier weights" in prediction
    assert "encoder's AdamW state" not in prediction
    assert not any(part.gpu for stage in beside.training for part in stage.parts)


def test_saving_brings_the_largest_file_back():
    recipe = load_recipe("plain", GROUPS)
    plan = plan_memory(recipe, assumed_sizes(1_000_000, 50_000, recipe), BASE, gpu=True)
    saving = next(stage for stage in plan.training if stage.name == "saving")
    state = sum(part.bytes for part in saving.parts if part.gpu and "update state" in part.name)
    assert {part.name: part.bytes for part in saving.parts}["tensors on their way into a file"] >= state


def test_a_budget_is_the_gpus():
    recipe = load_recipe("plain", GROUPS)
    sizes = assumed_sizes(3_000_000, 1_000_000, recipe)
    plan = plan_memory(recipe, sizes, BASE, gpu=True)
    assert plan.limited == max(stage.gpu_bytes for stage in plan.training) == plan.gpu_peak.gpu_bytes
    assert plan_memory(recipe, sizes, BASE).limited == plan_memory(recipe, sizes, BASE).needed
    error = over_budget(PlannedRun(recipe, sizes, BASE, gpu=True), plan.limited, 1 << 30, "the budget")
    assert "of memory on the GPU; 1.0 GiB are the budget. Any of these" in str(error)
    assert "classifier.update={kind: sgd}" in str(error)
    plain = plan.as_dict()
    assert plain["gpu_peak_bytes"] == plan.limited
    assert all({"gpu_bytes", "bytes"} <= stage.keys() for stage in plain["training"])


def test_training_that_does_not_fit_on_the_gpu_is_refused(monkeypatch):
    recipe = load_recipe("plain", GROUPS)
    monkeypatch.setattr("fanin.memory.check.sampled_sizes", lambda _data, _recipe: DataSizes(10**6, 1000))
    monkeypatch.setattr("fanin.memory.room.free_bytes", lambda: 1 << 40)
    device = torch.device("cuda", 0)
    for free, refused in ((100 << 20, True), (64 << 30, False)):
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _device, free=free: (free, 80 << 30))
        if not refused:
            check_memory(recipe, None, device)
            continue
        with pytest.raises(MemoryPlanError, match="of memory on the GPU; 700 MiB are free there"):
            check_memory(recipe, None, device)


def test_a_machine_too_small_for_its_gpu_is_told_of_its_own_memory(monkeypatch):
    recipe = load_recipe("plain", [*GROUPS, "classifier.related_labels=true"])
    sizes = DataSizes(3_000_000, 1000, tokens_per_text=10)
    monkeypatch.setattr("fanin.memory.check.sampled_sizes", lambda _data, _recipe: sizes)
    monkeypatch.setattr("fanin.memory.room.free_bytes", lambda: (1 << 30) - BASE)
    monkeypatch.setattr("fanin.memory.room.resident_bytes", lambda: BASE)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _device: (64 << 30, 80 << 30))
    with pytest.raises(MemoryPlanError, match=r"GiB of memory; 1.0 GiB are free, counting") as refused:
        check_memory(recipe, None, torch.device("cuda", 0))
    assert "classifier.related_labels=false instead of true" in str(refused.value)


@pytest.mark.parametrize(("L", "G"), [(1024, 32), (512, 1)])
def test_buffers_of_the_kernels_are_counted(L, G):
    """The tensors that a step makes, freed or not, are no more than the plan has for them."""
    require_triton()
    from fanin.kernels.triton import per_label_plan, tiles

    assert (tiles._COPIES, tiles._COPIES_BYTES) == (gpu_parts._DX_COPIES, gpu_parts._DX_BYTES)
    assert per_label_plan.CHUNK_BYTES == gpu_parts._CHUNK_BYTES
    assert per_label_plan.MOST_CHUNK_LABELS == gpu_parts._CHUNK_LABELS
    layer = SparseLinear(64, L, 4, G, backend="triton", initial_scale=0.1)
    if torch.cuda.is_available():
        layer = layer.to("cuda")
    x = torch.randn(24, 64, device=layer.weight.device)
    labels = torch.randint(L, (24,), generator=torch.Generator().manual_seed(0)).to(x.device)
    positives = Positives(torch.arange(25, device=x.device), labels)
    layer.train_step(x, positives, Loss.BCE, SGD(0.1))  # what is made once
    with LiveTensors(x, *positives[:2], *layer.state_dict().values()) as made:
        layer.train_step(x, positives, Loss.BCE, SGD(0.1))
    few = 1 << 14  # positives, losses of programs
    assert made.most <= gpu_parts.sparse_step_bytes(layer, 24, 0) + few
    assert made.most >= gpu_parts.sparse_step_bytes(layer, 24, 0) / 4
    with LiveTensors(x, *layer.state_dict().values()) as made:
        layer.topk(x, 5)
    assert made.most <= gpu_parts.sparse_ranking_bytes(layer, 24, 0)
