"""The device and the memory of a job."""

from __future__ import annotations

import resource
from pathlib import Path

import torch

from corrbench.errors import Refusal


def pick_device(name: str) -> torch.device:
    """`cpu`, `cuda` or `auto` (a GPU if there is one). Raises Refusal for `cuda` without a GPU."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and not torch.cuda.is_available():
        raise Refusal(
            "this job was given no GPU that torch can see",
            expected="a CUDA device",
            do="set `device: cpu`, or check the driver and CUDA_VISIBLE_DEVICES",
        )
    device = torch.device(name)
    # similarities are divided by 0.05: the rounding of TF32 would move scores
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    return device


def peak_memory_mb() -> float:
    """Peak resident memory of this process. (``ru_maxrss`` would count what its parent had when it started it.)"""
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
