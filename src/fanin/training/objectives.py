"""What a batch's vectors are trained for: the classifier's loss, and for a while the auxiliary one."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from fanin.kernels.active_inputs import ActiveInputs

if TYPE_CHECKING:
    from torch import Tensor

    from fanin.classifier.interface import Classifier
    from fanin.kernels.spec import Positives
    from fanin.recipes.classifier_recipe import AnyClassifierSection
    from fanin.recipes.remedies_recipe import AuxiliarySection
    from fanin.training.auxiliary import AuxiliaryObjective


class StepLosses(NamedTuple):
    """The losses of one step, each summed over its outputs, averaged over the batch, and not weighted.

    Attributes:
        loss: the classifier's.
        auxiliary_loss: the auxiliary objective's, 0.0 without one.
        auxiliary_share: s; what is trained is ``(1 - s) * loss + s * auxiliary_loss``.
    """

    loss: float
    auxiliary_loss: float = 0.0
    auxiliary_share: float = 0.0

    @property
    def trained(self) -> float:
        """The loss that the gradients are of."""
        return (1 - self.auxiliary_share) * self.loss + self.auxiliary_share * self.auxiliary_loss

    def as_dict(self) -> dict[str, float]:
        """By name, for the log; the auxiliary ones only where there is such an objective."""
        return self._asdict() if self.auxiliary_share else {"loss": self.loss}


class Objectives:
    """Steps the classifier, and beside it the auxiliary objective until its cut-off, when it is dropped from memory.

    Args:
        classifier: the output layer.
        section: its settings.
        total_steps: of the run.
        auxiliary: the auxiliary objective, if there is one.
        auxiliary_section: its settings.
    """

    def __init__(
        self,
        classifier: Classifier,
        section: AnyClassifierSection,
        total_steps: int,
        auxiliary: AuxiliaryObjective | None = None,
        auxiliary_section: AuxiliarySection | None = None,
    ) -> None:
        self._classifier, self._section, self._total_steps = classifier, section, total_steps
        self._auxiliary, self._auxiliary_section = auxiliary, auxiliary_section

    @property
    def auxiliary(self) -> AuxiliaryObjective | None:
        """The auxiliary objective, None where there is none or it was dropped."""
        return self._auxiliary

    def step(self, step: int, x: Tensor | ActiveInputs, positives: Positives) -> tuple[StepLosses, Tensor]:
        """Update the classifier, and the auxiliary objective while it lasts.

        Args:
            step: number of the step, from 1.
            x: (B, D), or its active columns.
            positives: the batch's labels.

        Returns:
            The losses, and the gradient of what is trained by x, (B, D), or by the active columns, (B, A).
        """
        section = self._section
        share = 0.0 if self._auxiliary is None else self._auxiliary.share(step)
        update = section.update.at(section.schedule.rate(step, self._total_steps))
        loss, dx = self._classifier.train_step(x, positives, section.loss, update, weight=1 - share)
        if self._auxiliary is None or not share:
            self._auxiliary = None
            return StepLosses(loss), dx
        assert self._auxiliary_section is not None
        own = self._auxiliary_section
        update = own.update.at(own.schedule.rate(step, self._total_steps))
        values = x.values if isinstance(x, ActiveInputs) else x
        auxiliary_loss, learned_dx = self._auxiliary.train_step(values, positives, share, update)
        dx[:, : learned_dx.shape[1]] += learned_dx  # lexical features come behind the learned ones
        return StepLosses(loss / (1 - share), auxiliary_loss, share), dx
