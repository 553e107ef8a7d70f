"""A model that holds a sparse layer goes through torch.compile: what is around the layer is compiled."""

import subprocess
import sys

import pytest
import torch

from fanin.classifier.sparse import SparseLinear
from fanin.kernels.spec import SGD, Loss, Positives

# Dynamo's own code warns of itself; what it compiles the graphs with does not matter here.
pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture
def model():
    torch._dynamo.reset()
    torch.manual_seed(0)
    layers = torch.nn.Linear(12, 16), torch.nn.ReLU(), SparseLinear(16, 50, 4, cluster_size=8)
    yield torch.nn.Sequential(*layers)
    torch._dynamo.reset()


def gradients(run, model, x):
    model.zero_grad()
    logits = run(x)
    logits.square().sum().backward()
    return logits.detach(), [parameter.grad.clone() for parameter in model.parameters()]


def test_results_and_gradients_are_the_same(model):
    x = torch.randn(6, 12)
    expected, expected_gradients = gradients(model, model, x)
    logits, found = gradients(torch.compile(model, backend="eager"), model, x)
    torch.testing.assert_close(logits, expected)
    for one, other in zip(found, expected_gradients, strict=True):
        torch.testing.assert_close(one, other)


def test_there_is_one_break_at_the_layer(model):
    found = torch._dynamo.explain(model)(torch.randn(6, 12))
    assert found.graph_break_count == 1
    assert "_uncompiled_logits" in str(found.break_reasons[0])


def test_a_whole_graph_is_refused(model):
    with pytest.raises(torch._dynamo.exc.Unsupported, match=r"torch.compiler.disable"):
        torch.compile(model, backend="eager", fullgraph=True)(torch.randn(6, 12))


def test_the_fused_step_and_top_k_work_beside_a_compiled_encoder(model):
    encoder, layer, x = torch.compile(model[:2], backend="eager"), model[2], torch.randn(6, 12)
    positives = Positives(torch.arange(7), torch.arange(6))
    losses = []
    for _ in range(5):
        features = encoder(x)
        loss, dx = layer.train_step(features, positives, Loss.BCE, SGD(0.5))
        features.backward(dx)
        losses.append(loss)
    assert losses[-1] < losses[0]
    assert all(parameter.grad is not None for parameter in model[:2].parameters())
    assert layer.topk(encoder(x), 3)[1].shape == (6, 3)


def test_the_compiler_is_not_imported_for_a_forward_pass():
    code = (
        "import sys, torch; from fanin import SparseLinear; SparseLinear(8, 20, 4)(torch.ones(2, 8)).sum().backward(); "
        "assert 'torch._dynamo' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
