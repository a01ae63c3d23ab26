"""The processes of a run (torchrun) and what they agree on; a run of one process needs none of it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist

from corrbench.errors import Refusal


@dataclass(frozen=True)
class Processes:
    """This process among all."""

    rank: int
    world: int
    device: torch.device

    @classmethod
    def start(cls, device: torch.device) -> Processes:
        """Join the other processes: NCCL on GPUs, gloo on CPUs. One process stays alone."""
        try:
            world, rank, local = (
                int(os.environ.get(k, d)) for k, d in (("WORLD_SIZE", 1), ("RANK", 0), ("LOCAL_RANK", 0))
            )
        except ValueError as error:
            raise Refusal(f"WORLD_SIZE, RANK or LOCAL_RANK: {error}", expected="the numbers that torchrun sets",
                          do="start with torchrun, or unset them") from error  # fmt: skip
        if device.type == "cuda":
            device = torch.device("cuda", local)
            torch.cuda.set_device(device)
        if world > 1:
            dist.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=timedelta(minutes=30))
        return cls(rank, world, device)

    @property
    def first(self) -> bool:
        """True for the process that writes files."""
        return self.rank == 0

    def any(self, flag: bool) -> bool:
        """True everywhere if it is anywhere."""
        if self.world == 1:
            return flag
        vote = torch.tensor(float(flag), device=self.device)
        dist.all_reduce(vote, dist.ReduceOp.MAX)
        return bool(vote)

    def mean(self, values: dict[str, float]) -> dict[str, float]:
        """Mean of figures over the processes."""
        if self.world == 1:
            return values
        packed = torch.tensor(list(values.values()), dtype=torch.float64, device=self.device)
        dist.all_reduce(packed)
        return dict(zip(values, (packed / self.world).tolist(), strict=True))

    def end(self) -> None:
        """Leave."""
        if self.world > 1:
            dist.destroy_process_group()
