"""What the reference backend alone promises: other dtypes, exact to the last float64 bits."""

import pytest
import torch

from fanin.kernels.reference import ReferenceBackend
from fanin.kernels.spec import SGD, AdamW, Loss, SparseWeights
from fanin.kernels.updates import zero_moments


def _double(layer):
    return SparseWeights(layer.weight.double(), layer.index, layer.bias.double(), layer.group_size, layer.in_features)


@pytest.mark.parametrize("loss", list(Loss))
@pytest.mark.parametrize("update", [SGD(0.3), SGD(0.2, 0.9, 0.1), AdamW(0.05, weight_decay=0.1)], ids=str)
@pytest.mark.parametrize("shape", [(100, 33, 8, 3), (4099, 24, 5, 1), (67, 48, 48, 32)], ids=str)
def test_float64_steps_are_exact(make_layer, make_positives, columns_of, train_densely, shape, update, loss):
    layer, backend = _double(make_layer(*shape)), ReferenceBackend()
    generator = torch.Generator().manual_seed(3)
    batches = [
        (torch.randn(7, shape[1], dtype=torch.float64, generator=generator), make_positives(7, shape[0], seed=i))
        for i in range(3)
    ]
    truth = train_densely(layer.weight, columns_of(layer), layer.bias, shape[1], batches, loss, update)
    moments = zero_moments(update, layer.weight, layer.bias)
    for step, (x, positives) in enumerate(batches):
        value, dx, _ = backend.train_step(
            layer, moments, x, positives, loss=loss, update=update, step=step + 1, scale=1 / 7, chunk_size=50
        )
        assert value == pytest.approx(truth.losses[step], rel=1e-12)
        torch.testing.assert_close(dx, truth.input_gradients[step], rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(layer.weight, truth.weight, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(layer.bias, truth.bias, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16])
def test_results_keep_the_dtype(make_layer, make_positives, dtype):
    single = make_layer(20, 9, 4, 3)
    layer = SparseWeights(single.weight.to(dtype), single.index, single.bias.to(dtype), 3, 9)
    backend, x, update = ReferenceBackend(), torch.ones(2, 9, dtype=dtype), SGD(0.1)
    assert backend.forward(layer, x).dtype == dtype
    assert backend.topk(layer, x, 3, None)[0].dtype == dtype
    _, dx, _ = backend.train_step(
        layer,
        zero_moments(update, layer.weight, layer.bias),
        x,
        make_positives(2, 20),
        loss=Loss.BCE,
        update=update,
        step=1,
        scale=0.5,
    )
    assert dx.dtype == layer.weight.dtype == dtype
