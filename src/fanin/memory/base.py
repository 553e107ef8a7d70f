"""Memory of Python with everything that a run imports, measured by a run of a few numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from fanin.classifier.sparse import SparseLinear
from fanin.encoders.bag import BagEncoder
from fanin.kernels.spec import SGD, Loss, Positives
from fanin.recipes.optimizer_recipe import ScheduleSection
from fanin.recipes.recipe import TransformerSection
from fanin.training.encoder_update import EncoderUpdate
from fanin.training.process_memory import resident_bytes

if TYPE_CHECKING:
    from fanin.recipes.recipe import EncoderSection

COMPILER = 36 << 20
"""Of torch's compiler, which ``torch.optim`` imports, but few runs."""


def base_bytes(encoder: EncoderSection) -> int:
    """Resident memory of this process once every library that a run needs has come to life.

    A step of training is made with a few numbers: libraries load much of their code, and start their threads, only
    when they are first used.

    Args:
        encoder: the recipe's; a transformer's library and the code of its model take some 100 MiB.

    Raises:
        ConfigError: the transformer's configuration cannot be read.
    """
    import fanin.training.trainer  # noqa: F401 - it brings what a run needs

    if isinstance(encoder, TransformerSection):
        from fanin.encoders.transformer import lay_out_pretrained

        lay_out_pretrained(encoder.model, encoder.max_length)
    with torch.random.fork_rng(devices=[]), torch.enable_grad():
        small = BagEncoder(8, 4, embedding_dim=2, block_width=4)
        schedule = ScheduleSection(learning_rate=1e-3)
        update = EncoderUpdate(
            small, {"layers": schedule, "table": schedule}, weight_decay=0.0, clip_norm=1.0, total_steps=1
        )
        x = small(torch.tensor([1, 2, 3]), torch.tensor([0, 2, 3]))
        assert isinstance(x, torch.Tensor)
        positives = Positives(torch.tensor([0, 1, 2]), torch.tensor([0, 1]))
        _, dx = SparseLinear(4, 3, 2).train_step(x, positives, Loss.BCE, SGD(0.1))
        update.backward(x, dx)
        update.step(1)
    return resident_bytes()
