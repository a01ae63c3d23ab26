"""What the loop asks of a method's `Model`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from corrbench.errors import Refusal
from corrbench.pretraining.watching import Picture


class Method(nn.Module, ABC):
    """A network with its loss. A method's file has one as `Model`, its figures as `Options`, its samples as `Source`."""

    @abstractmethod
    def forward(self, batch: dict[str, Tensor], generator: torch.Generator) -> dict[str, Tensor]:
        """`loss` (a scalar with gradient) and figures for the log, of a collated batch. All draws come from `generator`."""

    @abstractmethod
    def checkpoint(self) -> dict[str, Any]:
        """The finished network as the reference's code saves it; goes through the same converter as released files."""

    def before_step(self, step: int, total: int) -> None:
        """Slow copies move here, before the forward pass."""

    def after_step(self) -> None:
        """Queues are filled here, after the optimizer."""

    def picture(self, batch: dict[str, Tensor]) -> Picture | None:
        """What the network makes of the first sample of a batch, to be looked at; None: there is nothing to see.

        Called in eval mode, without gradients.
        """
        return None

    def load_init(self, raw: Mapping[str, Any]) -> None:
        """Start from another recipe's checkpoint."""
        raise Refusal(f"{type(self).__module__} cannot start from another recipe", do="remove `init:` from the recipe")
