"""The recipe's sections about learning rates and update rules."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from fanin.kernels.spec import SGD, AdamW, Update
from fanin.recipes.recipe_section import CountOrZero, NotNegative, Positive, Section, Share
from fanin.recipes.schedule import learning_rate

Master = Literal["kahan", "fp32"]
"""What an encoder in bfloat16 keeps beside each parameter: what rounding has cut off, or a float32 copy."""


class ScheduleSection(Section):
    """Learning rate of one part: linear warm-up, then a cosine to ``final_share`` of the peak.

    Attributes:
        learning_rate: the peak.
        warmup_share: share of the run's steps until the peak; null where ``warmup_steps`` is set.
        warmup_steps: steps until the peak, in place of a share.
        final_share: share of the peak at the last step.

    >>> ScheduleSection(learning_rate=0.4, warmup_steps=4).rate(step=1, total_steps=100)
    0.1
    """

    learning_rate: Positive
    warmup_share: Share | None = 0.05
    warmup_steps: CountOrZero | None = None
    final_share: Share = 0.0

    @model_validator(mode="before")
    @classmethod
    def _steps_replace_the_default_share(cls, values: Any) -> Any:
        if isinstance(values, dict) and values.get("warmup_steps") is not None:
            return {"warmup_share": None, **values}
        return values

    @model_validator(mode="after")
    def _one_warmup(self) -> ScheduleSection:
        if (self.warmup_share is None) == (self.warmup_steps is None):
            raise ValueError("the warm-up has a share or a number of steps; set one of warmup_share and warmup_steps")
        return self

    def rate(self, step: int, total_steps: int) -> float:
        """The learning rate of ``step`` (from 1) of ``total_steps``."""
        if self.warmup_share is None:
            warmup: float = self.warmup_steps or 0
        else:
            warmup = self.warmup_share * total_steps
        return learning_rate(self.learning_rate, warmup, self.final_share, step, total_steps)


class UpdateSection(Section):
    """How the classifier's weights are updated: "sgd" (momentum if above 0) or "adamw"."""

    kind: Literal["sgd", "adamw"] = "adamw"
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.0
    beta1: Annotated[float, Field(ge=0, lt=1)] = 0.9
    beta2: Annotated[float, Field(ge=0, lt=1)] = 0.999
    eps: Positive = 1e-8
    weight_decay: NotNegative = 0.0

    @model_validator(mode="after")
    def _momentum_is_for_sgd(self) -> UpdateSection:
        if self.momentum and self.kind != "sgd":
            raise ValueError("momentum belongs to kind sgd; for adamw set beta1")
        return self

    def at(self, learning_rate: float) -> Update:
        """The rule at a step's learning rate."""
        if self.kind == "sgd":
            return SGD(learning_rate, self.momentum, self.weight_decay)
        return AdamW(learning_rate, self.beta1, self.beta2, self.eps, self.weight_decay)
