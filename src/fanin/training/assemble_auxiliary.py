"""The recipe's section about the auxiliary objective turned into an object."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from fanin.encoders.intermediate import base_encoder
from fanin.errors import ConfigError
from fanin.labels.prior import log_odds
from fanin.processes.group import ALONE
from fanin.training.auxiliary import AuxiliaryObjective, cluster_points
from fanin.training.enough_memory import enough_memory
from fanin.training.label_order import related_clusters

if TYPE_CHECKING:
    from fanin.encoders.interface import Encoder
    from fanin.processes.group import Processes
    from fanin.recipes.remedies_recipe import AuxiliarySection
    from fanin.training.preparation import PreparedData
    from fanin.training.progress import ProgressDisplay


def build_auxiliary(
    section: AuxiliarySection | None,
    data: PreparedData,
    encoder: Encoder,
    total_steps: int,
    seed: int,
    display: ProgressDisplay,
    cluster_of_label: torch.Tensor | None = None,
    processes: Processes = ALONE,
) -> AuxiliaryObjective | None:
    """The recipe's auxiliary objective, None where it has none.

    Args:
        section: its settings.
        data: the rows trained on, whose labels are clustered.
        encoder: gives its inputs.
        total_steps: of the run.
        seed: of the clusters.
        display: told of the clustering.
        cluster_of_label: (L,) int64, the clusters if they are known already.
        processes: that share them.

    Raises:
        ConfigError: more clusters are asked for than there are labels.
        MemoryPlanError: there is too little memory for it.
    """
    if section is None:
        return None
    L = data.store.n_labels
    count = section.clusters or -(-L // section.labels_per_cluster)
    if count > L:
        raise ConfigError(f"auxiliary.clusters is {count}; the data set has only {L} labels: lower it")
    if cluster_of_label is None:
        display.say("clustering labels for the auxiliary objective")
        cluster_of_label = processes.found_by_first(
            lambda: torch.from_numpy(related_clusters(data, base_encoder(encoder), count, seed))
        )
        assert cluster_of_label is not None
    points = cluster_points(data.store.split("train"), data.train_rows, cluster_of_label.numpy(), count)
    with enough_memory(f"an auxiliary objective of {count:,} clusters", "auxiliary.clusters"):
        return AuxiliaryObjective(
            cluster_of_label,
            encoder.learned_features,
            torch.from_numpy(log_odds(points, len(data.train_rows))),
            scale=section.scale,
            cutoff=max(1, round(section.cutoff_share * total_steps)),
            decay=section.decay,
            processes=processes,
        )
