"""Memory of Python with everything that a run imports, measured by a run of a few numbers."""

from __future__ import annotations

import torch

from fanin.classifier.sparse import SparseLinear
from fanin.encoders.bag import BagEncoder
from fanin.kernels.spec import SGD, Loss, Positives
from fanin.recipes.optimizer_recipe import ScheduleSection
from fanin.training.encoder_update import EncoderUpdate
from fanin.training.process_memory import resident_bytes

COMPILER = 36 << 20
"""Of torch's compiler, which ``torch.optim`` and transformers import, but no other run."""


def base_bytes() -> int:
    """Resident memory of this process once every library has come to life.

    A step of training is made with a few numbers: libraries load much of their code, and start their threads, only
    when they are first used.
    """
    import fanin.training.trainer  # noqa: F401 - it brings what a run needs

    with torch.random.fork_rng(devices=[]), torch.enable_grad():
        encoder = BagEncoder(8, 4, embedding_dim=2, block_width=4)
        schedule = ScheduleSection(learning_rate=1e-3)
        update = EncoderUpdate(
            encoder, {"layers": schedule, "table": schedule}, weight_decay=0.0, clip_norm=1.0, total_steps=1
        )
        x = encoder(torch.tensor([1, 2, 3]), torch.tensor([0, 2, 3]))
        assert isinstance(x, torch.Tensor)
        positives = Positives(torch.tensor([0, 1, 2]), torch.tensor([0, 1]))
        _, dx = SparseLinear(4, 3, 2).train_step(x, positives, Loss.BCE, SGD(0.1))
        update.backward(x, dx)
        update.step(1)
    return resident_bytes()
