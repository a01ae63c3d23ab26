"""Learning rate and length of a run, as pure functions of the step."""

from __future__ import annotations

import bisect
import math
from collections.abc import Mapping
from typing import Any

from torch import nn, optim


def total_steps(epochs: int, steps_per_epoch: int, cap: int | None) -> int:
    """Steps of the whole run."""
    whole = epochs * steps_per_epoch
    return min(whole, cap) if cap else whole


def factor(schedule: Mapping[str, Any], step: int, *, total: int, steps_per_epoch: int, batch: int) -> float:
    """Factor on the learning rate in a step (0-based).

    constant: 1; cosine: ``(1 + cos(pi step / total)) / 2``; steps: `factors[i]` from epoch `at[i]` on; samples:
    `factors[i]` once more than `at[i]` samples were seen; exponential: falling by equal
    ratios per epoch, so that after the last one it would be `final`.
    """
    kind = schedule["kind"]
    if kind == "constant":
        return 1.0
    if kind == "cosine":
        return (1 + math.cos(math.pi * step / total)) / 2
    if kind == "exponential":
        epochs = -(-total // steps_per_epoch)
        return schedule["final"] ** (step // steps_per_epoch / epochs)
    factors = [1.0, *schedule["factors"]]
    if kind == "steps":
        return factors[bisect.bisect_right([at * steps_per_epoch for at in schedule["at"]], step)]
    return factors[bisect.bisect_left(schedule["at"], step * batch)]


def make_optimizer(settings: Mapping[str, Any], net: nn.Module) -> optim.Optimizer:
    """Adam or SGD over everything that learns; weight decay on all of it, batch norm and biases too, as the references do."""
    parameters = [p for p in net.parameters() if p.requires_grad]
    common = {"lr": settings["lr"], "weight_decay": settings["weight_decay"]}
    if settings["kind"] == "sgd":
        return optim.SGD(parameters, momentum=settings["momentum"], **common)
    return optim.Adam(parameters, **common)
