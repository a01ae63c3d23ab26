"""What a partition allows one job at most, and what jobs ask of it."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from corrbench.errors import Refusal
from corrbench.slurm.queue import run, will_pass


@dataclass(frozen=True)
class Limits:
    """The largest job of a partition. Infinite where nothing limits it, or where the cluster does not say."""

    partition: str
    minutes: float = math.inf
    memory_mb: float = math.inf
    cores: float = math.inf

    def excess(self, asked: Mapping[str, float]) -> list[str]:
        """What of a request no job of this partition can have, in words."""
        said = (("runtime", "minutes", self.minutes), ("mem_mb", "MB of memory", self.memory_mb),
                ("cores", "cores", self.cores))  # fmt: skip
        return [f"{asked[key]:g} {unit}, {most:g} are allowed" for key, unit, most in said if asked.get(key, 0) > most]


def limits_of(partition: str) -> Limits | None:
    """The limits of a partition, or of the default one for an empty name, as scontrol and sinfo tell them.

    None while the controller does not answer. A partition that it does not know has no limits: sbatch says so.
    """
    shown = run(["scontrol", "show", "partition", "-o", *([partition] if partition else [])])
    if shown.returncode:
        return None if will_pass(shown.stderr + shown.stdout) else Limits(partition)
    nodes = run(["sinfo", "-h", "-N", "-o", "%P|%m|%c"])
    return parse_limits(shown.stdout, nodes.stdout if nodes.returncode == 0 else "", partition)


def parse_limits(shown: str, nodes: str, partition: str) -> Limits:
    """Limits from ``scontrol show partition -o`` and ``sinfo -N -o '%P|%m|%c'``."""
    for line in shown.splitlines():
        fields = dict(re.findall(r"(\w+)=(\S*)", line))
        if fields.get("PartitionName") == partition or (not partition and fields.get("Default") == "YES"):
            break
    else:
        return Limits(partition)
    name = fields["PartitionName"]
    rows = [row.split("|") for row in nodes.splitlines()]
    here = [(_number(m), _number(c)) for p, m, c in (row for row in rows if len(row) == 3) if p.rstrip("*") == name]
    memory, cores = max((m for m, _ in here), default=math.inf), max((c for _, c in here), default=math.inf)
    per_cpu = _number(fields.get("MaxMemPerCPU", ""))
    return Limits(
        name,
        minutes_of(fields.get("MaxTime", "")),
        min(memory, _number(fields.get("MaxMemPerNode", "")), per_cpu * cores if per_cpu < math.inf else math.inf),
        min(cores, _number(fields.get("MaxCPUsPerNode", ""))),
    )


def minutes_of(text: str) -> float:
    """Minutes of SLURM's ``days-hours:minutes:seconds``; infinite for UNLIMITED and anything else."""
    found = re.fullmatch(r"(?:(\d+)-)?(\d+):(\d+):(\d+)", text)
    if found is None:
        return math.inf
    days, hours, minutes, seconds = (int(part or 0) for part in found.groups())
    return 1440 * days + 60 * hours + minutes + seconds / 60


def _number(text: str) -> float:
    found = re.fullmatch(r"(\d+)\+?", text)
    return float(found[1]) if found and int(found[1]) else math.inf


def refusal(excess: Iterable[tuple[str, str, list[str]]]) -> Refusal:
    """The refusal of rules that ask more than their partitions allow: (rule, partition, what)."""
    lines = [f"\n    {rule} asks the partition {partition} for {'; '.join(said)}" for rule, partition, said in excess]
    return Refusal(
        f"jobs that would wait for ever; nothing was submitted:{''.join(lines)}",
        expected="jobs within the limits of their partitions (scontrol show partition)",
        do="name another partition (CORRBENCH_SLURM_PARTITION, CORRBENCH_SLURM_GPU_PARTITION), or ask for less with "
        "set-resources and set-threads in slurm/config.yaml: a job that runs out of time goes on where it stopped",
    )
