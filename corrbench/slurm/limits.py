"""What a partition allows one job at most, and what jobs ask of it."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from snakemake_interface_common.exceptions import WorkflowError

from corrbench.errors import Refusal
from corrbench.slurm.queue import Queue, run


@dataclass(frozen=True)
class Limits:
    """The largest job of a partition. Infinite, or None, where nothing limits it or where the cluster does not say."""

    partition: str
    minutes: float = math.inf
    memory_mb: float = math.inf
    cores: float = math.inf
    gpus: Mapping[str, int] | None = None
    """Most GPUs of one node by model, and of any model under the empty name."""
    unknown: str = ""
    """What the cluster says of a partition that it does not have."""

    def excess(self, asked: Mapping[str, float], model: str = "") -> list[str]:
        """What of a request no job of this partition can have, in words. `model` is that of the GPUs asked for; empty for any."""
        if self.unknown:
            return [f"a place in it, and the cluster has no such partition ({self.unknown})"]
        said = (("runtime", "minutes", self.minutes), ("mem_mb", "MB of memory", self.memory_mb),
                ("cores", "cores", self.cores))  # fmt: skip
        found = [
            f"{asked[key]:.0f} {unit}, {most:.0f} are allowed" for key, unit, most in said if asked.get(key, 0) > most
        ]
        gpus = asked.get("gpu", 0)
        if gpus and self.gpus is not None and gpus > self.gpus.get(model.lower(), 0):
            there = ", ".join(f"{n} {name}" for name, n in self.gpus.items() if name)
            there = there or f"{self.gpus.get('', 0)}{' without a model name' if model else ''}"
            found.append(f"{gpus:.0f} GPU{' of the model ' + model if model else ''}, its nodes have {there}")
        return found


class Partitions:
    """The limits of the partitions that a run uses, each asked for once."""

    def __init__(self, jobs: Queue) -> None:
        self.queue = jobs
        self._known: dict[str, Limits] = {}

    def limits(self, partition: str) -> Limits:
        """The limits of a partition or several (see `limits_of`). Raises WorkflowError while the controller does not answer."""
        if partition not in self._known:
            found = limits_of(partition)
            if found is None and self.queue.look() is not None and (found := limits_of(partition)) is None:
                return Limits(partition)  # the cluster does not say
            if found is None:
                raise WorkflowError("Unable to contact slurm controller: scontrol show partition does not answer")
            self._known[partition] = found
        return self._known[partition]


def fit(call: str, limits: Limits, asked: Mapping[str, float], model: str, *, attempt: int, what: str) -> str:
    """An sbatch call whose time and memory stop at the limits of its partition.

    Raises Refusal for a first attempt beyond them, and for cores or GPUs that no node has: such a job would never start. The
    cores of a group, in `call` the sum of rules that may run side by side, stop at the limit: they then run one after the other.
    """
    within = dict(asked)
    if (found := re.search(r" --cpus-per-task[= ](\d+)", call)) and int(found[1]) > limits.cores >= asked.get(
        "cores", 0
    ):
        call = call.replace(found[0], f" --cpus-per-task={limits.cores:.0f}")
    for key, option, most in (("runtime", "-t", limits.minutes), ("mem_mb", "--mem", limits.memory_mb)):
        if attempt > 1 and asked.get(key, 0) > most:
            call = re.sub(rf" {option} \S+", f" {option} {int(most)}", call)
            within[key] = most
    if said := limits.excess(within, model):
        raise refusal([(what, limits.partition, said)])
    return call


def limits_of(partitions: str) -> Limits | None:
    """The limits of a partition, or of the default one for an empty name, as scontrol and sinfo tell them.

    Of several partitions (``gpu,long``) SLURM takes any: the loosest limits. None when the cluster does not say.
    """
    found = [_limits_of(name.strip()) for name in partitions.split(",")]
    told = [limits for limits in found if limits is not None]
    if len(found) == 1 or len(told) < len(found):
        return found[0] if len(found) == 1 else None
    known = [limits for limits in told if not limits.unknown]
    return _loosest(partitions, known) if known else told[0]


def _limits_of(partition: str) -> Limits | None:
    # -a: partitions that are hidden as well
    shown = run(["scontrol", "-a", "show", "partition", "-o", *([partition] if partition else [])])
    said = " ".join((shown.stdout + shown.stderr).split())
    if partition and re.search(r"partition \S+ not found|invalid partition", said, re.IGNORECASE):
        return Limits(partition, unknown=said)
    nodes = run(["sinfo", "-a", "-h", "-N", "-o", "%P|%m|%c|%G"])
    if shown.returncode or nodes.returncode:
        return None
    return parse_limits(shown.stdout, nodes.stdout, partition)


def _loosest(name: str, found: Sequence[Limits]) -> Limits:
    gpus: dict[str, int] = {}
    for model, count in (pair for limits in found for pair in (limits.gpus or {}).items()):
        gpus[model] = max(count, gpus.get(model, 0))
    minutes, memory, cores = (max(getattr(x, key) for x in found) for key in ("minutes", "memory_mb", "cores"))
    return Limits(name, minutes, memory, cores, None if any(limits.gpus is None for limits in found) else gpus)


def parse_limits(shown: str, nodes: str, partition: str) -> Limits:
    """Limits from ``scontrol show partition -o`` and ``sinfo -N -o '%P|%m|%c|%G'``."""
    for line in shown.splitlines():
        fields = dict(re.findall(r"(\w+)=(\S*)", line))
        if fields.get("PartitionName") == partition or (not partition and fields.get("Default") == "YES"):
            break
    else:
        return Limits(partition)
    name = fields["PartitionName"]
    rows = [row.split("|") for row in nodes.splitlines()]
    here = [
        (_number(m), _number(c), gpus_of(g))
        for p, m, c, g in (row for row in rows if len(row) == 4)
        if p.rstrip("*") == name
    ]
    memory, cores = max((m for m, _, _ in here), default=math.inf), max((c for _, c, _ in here), default=math.inf)
    gpus: dict[str, int] = {}
    for model, count in (pair for _, _, found in here for pair in found.items()):
        gpus[model] = max(count, gpus.get(model, 0))
    per_cpu = _number(fields.get("MaxMemPerCPU", ""))
    return Limits(
        name,
        minutes_of(fields.get("MaxTime", "")),
        min(memory, _number(fields.get("MaxMemPerNode", "")), per_cpu * cores if per_cpu < math.inf else math.inf),
        min(cores, _number(fields.get("MaxCPUsPerNode", ""))),
        gpus if here else None,
    )


def gpus_of(gres: str) -> dict[str, int]:
    """GPUs of a node by model, in lower case, and all of them under the empty name: ``gpu:a100:4(S:0-1),gpu:t4:2`` has 6."""
    found: dict[str, int] = {}
    for model, count in re.findall(r"(?:^|,)gpu(?::(?!\d+(?:[,(]|$))([^:,(]+))?(?::(\d+))?(?=[,(]|$)", gres):
        for key in {"", model.lower()}:
            found[key] = found.get(key, 0) + int(count or 1)
    return found


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


def no_partition(limits: Limits) -> Refusal:
    """The refusal of a partition that the cluster does not have."""
    names = sorted(set(run(["sinfo", "-a", "-h", "-o", "%R"]).stdout.split()))
    return Refusal(
        f"the cluster has no partition {limits.partition}; nothing was submitted",
        expected=f"one of {', '.join(names)}" if names else "a partition that sinfo lists",
        do="correct CORRBENCH_SLURM_PARTITION, CORRBENCH_SLURM_GPU_PARTITION, or slurm_partition in slurm/config.yaml",
    )


def refusal(excess: Iterable[tuple[str, str, list[str]]]) -> Refusal:
    """The refusal of rules that ask more than their partitions allow: (rule, partition, what)."""
    lines = [f"\n    {rule} asks the partition {partition} for {'; '.join(said)}" for rule, partition, said in excess]
    return Refusal(
        f"jobs that would wait for ever; nothing was submitted:{''.join(lines)}",
        expected="jobs within the limits of their partitions (scontrol show partition)",
        do="name another partition (CORRBENCH_SLURM_PARTITION, CORRBENCH_SLURM_GPU_PARTITION) or GPU model "
        "(CORRBENCH_SLURM_GPU_MODEL; unset: any), or ask for less with set-resources and set-threads in slurm/config.yaml (a job "
        "that runs out of time goes on where it stopped)",
    )
