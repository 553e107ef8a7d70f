"""The encoder's update: its own learning rates, no decay of biases and norms, one clip of the whole gradient."""

import pytest
import torch

from fanin.encoders.features import FeatureEncoder
from fanin.recipes.recipe import ScheduleSection
from fanin.training.encoder_update import EncoderUpdate


class TwoGroups(FeatureEncoder):
    """A projection in two groups: its weight as "layers", its bias as "projection"."""

    def parameter_groups(self):
        return {"layers": [self.project.weight], "projection": [self.project.bias]}


def updated(rates, *, weight_decay=0.0, clip_norm=1e9, dx=None, steps=1):
    """How far (weight, bias) moved."""
    encoder = TwoGroups(4, 3, layer_norm=False, dropout=0.0)
    before = [p.detach().clone() for p in encoder.parameters()]
    constant = {name: ScheduleSection(learning_rate=rate, final_share=1.0) for name, rate in rates.items()}
    update = EncoderUpdate(encoder, constant, weight_decay=weight_decay, clip_norm=clip_norm, total_steps=1000)
    for _ in range(steps):
        x = encoder(torch.ones(2, 4))
        update.backward(x, torch.zeros(2, 3) if dx is None else dx)
        update.step(1000)  # behind any warm-up
    return [(p.detach() - old) for p, old in zip(encoder.parameters(), before, strict=True)], before


def test_each_group_has_its_own_learning_rate():
    (weight, bias), _ = updated({"layers": 0.5, "projection": 0.125}, dx=torch.ones(2, 3))
    # Adam's first step is the learning rate in the direction of the gradient.
    torch.testing.assert_close(weight, torch.full((3, 4), -0.5))
    torch.testing.assert_close(bias, torch.full((3,), -0.125))


def test_biases_are_not_decayed():
    (weight, bias), (old, _) = updated({"layers": 0.5, "projection": 0.5}, weight_decay=0.1)
    torch.testing.assert_close(weight, -0.05 * old)
    assert torch.equal(bias, torch.zeros(3))


def test_nothing_to_train_is_no_error():
    encoder = FeatureEncoder(4)
    schedules = {"projection": ScheduleSection(learning_rate=1.0)}
    update = EncoderUpdate(encoder, schedules, weight_decay=0.0, clip_norm=1.0, total_steps=1)
    update.backward(encoder(torch.ones(2, 4)), torch.ones(2, 4))
    update.step(1)
    assert encoder.dense_parameters() == []


@pytest.mark.parametrize("clip_norm", [0.5, 1e9])
def test_the_gradient_is_clipped_as_a_whole(clip_norm):
    encoder = TwoGroups(4, 3, layer_norm=False, dropout=0.0)
    schedules = {name: ScheduleSection(learning_rate=1e-9) for name in ("layers", "projection")}
    update = EncoderUpdate(encoder, schedules, weight_decay=0.0, clip_norm=clip_norm, total_steps=1)
    dx = torch.randn(2, 3)
    update.backward(encoder(torch.ones(2, 4)), dx)
    gradients = [p.grad for p in encoder.parameters()]
    norm = torch.nn.utils.get_total_norm(gradients)
    update.step(1)
    clipped = torch.nn.utils.get_total_norm(gradients)
    torch.testing.assert_close(clipped, norm.clamp_max(clip_norm))
