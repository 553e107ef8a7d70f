"""The losses inside kernels are good to a few units in the last place, also where the value is tiny."""

import pytest
import torch

from fanin.kernels.spec import SGD, Loss, Moments, Positives, SparseWeights

LOGITS = torch.cat([torch.linspace(-30, 30, 401), torch.tensor([-100.0, -88, -1e-30, 0, 1e-30, 88, 100, 1e4, -1e4])])


@pytest.mark.parametrize("positive", [False, True])
def test_gradient_of_the_cross_entropy(triton, positive):
    L = len(LOGITS)
    layer = SparseWeights(torch.zeros(L, 1), torch.zeros(-(-L // 16), 1, dtype=torch.uint16), LOGITS.clone(), 16, 1)
    labels = torch.arange(L if positive else 0)
    positives, update = Positives(torch.tensor([0, len(labels)]), labels), SGD(1.0)
    scale = -1.0 if positive else 1.0
    result = triton.train_step(
        layer, Moments(), torch.ones(1, 1), positives, loss=Loss.BCE, update=update, step=1, scale=scale
    )
    turned = LOGITS.double() * (-1 if positive else 1)
    # The step leaves z - sigmoid(z): what can be seen of the gradient is what one rounding of z leaves.
    expected = LOGITS.double() - turned.sigmoid()
    torch.testing.assert_close(layer.bias.double(), expected, rtol=2e-7, atol=1e-7)
    assert result.loss * scale == pytest.approx(torch.nn.functional.softplus(turned).sum().item(), rel=1e-6)


@pytest.mark.parametrize("logit", [-20.0, -10.0, -1.0, 0.0])
def test_the_loss_of_easy_labels_is_not_rounded_away(triton, logit):
    L = 1000
    layer = SparseWeights(
        torch.zeros(L, 1), torch.zeros(-(-L // 32), 1, dtype=torch.uint16), torch.full((L,), logit), 32, 1
    )
    nothing = Positives(torch.tensor([0, 0]), torch.zeros(0, dtype=torch.int64))
    result = triton.train_step(
        layer, Moments(), torch.ones(1, 1), nothing, loss=Loss.BCE, update=SGD(0.0), step=1, scale=1.0
    )
    expected = L * torch.nn.functional.softplus(torch.tensor(logit, dtype=torch.float64)).item()
    assert result.loss == pytest.approx(expected, rel=1e-6)
