"""The dense baseline: the function of torch.nn.Linear, and no influence of the chunk size."""

import pytest
import torch

from fanin.classifier.dense import DenseLinear
from fanin.kernels.spec import SGD, AdamW, Loss


def test_same_function_as_nn_linear():
    layer = DenseLinear(6, 11)
    linear = torch.nn.Linear(6, 11)
    linear.load_state_dict(layer.state_dict())
    x = torch.randn(2, 3, 6)
    assert torch.equal(layer(x), linear(x))


@pytest.mark.parametrize("update", [SGD(0.3, weight_decay=0.1), SGD(0.2, 0.9, 0.1), AdamW(0.02, eps=1e-4)], ids=str)
@pytest.mark.parametrize("loss", list(Loss))
def test_results_do_not_depend_on_the_chunk(make_positives, loss, update):
    results = []
    for chunk_size in (1, 7, 32, 64, 96, 1000):
        layer = DenseLinear(12, 96, chunk_size=chunk_size, dtype=torch.float64)
        generator = torch.Generator().manual_seed(1)
        steps = [
            layer.train_step(
                torch.randn(5, 12, dtype=torch.float64, generator=generator),
                make_positives(5, 96, seed=i),
                loss,
                update,
            )
            for i in range(3)
        ]
        x = torch.randn(5, 12, dtype=torch.float64, generator=generator)
        scores, labels = layer.topk(x, 9, make_positives(5, 96))
        values = torch.tensor([value for value, _ in steps], dtype=torch.float64)
        results.append((values, *(dx for _, dx in steps), layer.weight.detach(), layer.bias.detach(), scores, labels))
    for result in results[1:]:
        for actual, expected in zip(result, results[0], strict=True):
            torch.testing.assert_close(actual, expected, rtol=1e-10, atol=1e-12)


def test_the_step_holds_one_block_of_labels(make_positives, monkeypatch):
    """The largest tensor that a step makes is one block of logits or of weight gradients, never (B, L) or (L, D)."""
    from torch.utils._python_dispatch import TorchDispatchMode

    layer = DenseLinear(16, 5000, chunk_size=50)
    made = []
    own = {layer.weight.untyped_storage().data_ptr(), layer.bias.untyped_storage().data_ptr()}

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, function, kinds, args=(), kwargs=None):
            out = function(*args, **(kwargs or {}))
            for tensor in out if isinstance(out, tuple | list) else [out]:
                if isinstance(tensor, torch.Tensor) and tensor.untyped_storage().data_ptr() not in own:
                    made.append(tensor.untyped_storage().nbytes())
            return out

    x, positives = torch.randn(8, 16), make_positives(8, 5000)
    with Watch():
        layer.train_step(x, positives, Loss.BCE, SGD(0.1))
        layer.topk(x, 5)
    assert max(made) <= 4 * 50 * 16
