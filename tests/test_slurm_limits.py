"""What partitions allow, as scontrol and sinfo tell it, and what is made of requests beyond it: no cluster needed."""

import math
from types import SimpleNamespace

import pytest

from corrbench.errors import Refusal
from corrbench.slurm import limits
from corrbench.slurm.limits import Limits, gpus_of, limits_of, minutes_of, parse_limits


def test_limits_of_a_partition():
    shown = (
        "PartitionName=main AllowGroups=ALL Default=YES MaxTime=UNLIMITED MaxMemPerNode=UNLIMITED MaxCPUsPerNode=UNLIMITED\n"
        "PartitionName=short Default=NO MaxNodes=1 MaxTime=1-02:30:00 MaxMemPerCPU=2000 MaxCPUsPerNode=8\n"
    )
    nodes = "main*|64000|16|gpu:a100:4(S:0-1),gpu:t4:2\nmain*|128000|32|gpu:4\nshort|64000|16|(null)\n"
    gpus = {"": 6, "a100": 4, "t4": 2}
    assert parse_limits(shown, nodes, "") == Limits("main", math.inf, 128000, 32, gpus)
    assert parse_limits(shown, nodes, "short") == Limits("short", 1590, 32000, 8, {})
    assert parse_limits("slurm_load_partitions error", "", "short") == Limits("short")
    small = Limits("short", 60, 7000, 8, {})
    assert small.excess({"runtime": 240, "mem_mb": 6000, "cores": 8}) == ["240 minutes, 60 are allowed"]
    assert small.excess({"gpu": 1}) == ["1 GPU, its nodes have 0"] and not Limits("x").excess({"gpu": 1})
    main = parse_limits(shown, nodes, "main")
    assert not main.excess({"gpu": 1}) and not main.excess({"gpu": 4}, "A100") and main.excess({"gpu": 8})
    assert main.excess({"gpu": 1}, "h100") == ["1 GPU of the model h100, its nodes have 4 a100, 2 t4"]
    assert parse_limits(shown, "main*|1031500|32|gpu:2\n", "main").excess({"mem_mb": 99999999, "gpu": 1}, "a100") == [
        "99999999 MB of memory, 1031500 are allowed",
        "1 GPU of the model a100, its nodes have 2 without a model name",
    ]


@pytest.mark.parametrize(
    ("gres", "gpus"),
    [
        ("(null)", {}), ("", {}), ("gpu", {"": 1}), ("gpu:2", {"": 2}), ("gpu:a100:4(S:0-1)", {"": 4, "a100": 4}),
        ("gpu:tesla_v100:8,craynetwork:4", {"": 8, "tesla_v100": 8}), ("lic:x:1,gpu:T4:1(S:0),gpu:k80:2", {"": 3, "t4": 1, "k80": 2}),
        ("gpu:nvidia_a100_3g.20gb:2(S:0)", {"": 2, "nvidia_a100_3g.20gb": 2}), ("nogpu:4", {}), ("gpu:h100", {"": 1, "h100": 1}),
        ("gpu:1g.10gb:7", {"": 7, "1g.10gb": 7}),
    ],
)  # fmt: skip
def test_gpus_of_a_node(gres, gpus):
    assert gpus_of(gres) == gpus


def test_times_of_partitions():
    assert minutes_of("00:45:30") == 45.5 and minutes_of("infinite") == math.inf


def test_what_a_further_attempt_asks_for_stops_at_the_limits():
    short = Limits("short", 60, 7000, 8, {"": 1})

    def fit(attempt, **more):
        asked = {"runtime": 50, "mem_mb": 6000, "cores": 4, **more}
        call = f"sbatch -t {asked['runtime']} --mem {asked['mem_mb']} --cpus-per-task=4"
        return limits.fit(call, short, asked, "", attempt=attempt, what="rule_a")

    assert fit(1) == "sbatch -t 50 --mem 6000 --cpus-per-task=4"
    assert fit(2, runtime=100, mem_mb=12000) == "sbatch -t 60 --mem 7000 --cpus-per-task=4"
    group = limits.fit("sbatch --cpus-per-task=11", short, {"cores": 6}, "", attempt=1, what="scores")
    assert group == "sbatch --cpus-per-task=8", "rules of a group run one after the other"
    for attempt, asked in ((1, {"runtime": 100}), (2, {"cores": 16}), (3, {"gpu": 2})):
        with pytest.raises(Refusal, match="rule_a asks the partition short for"):
            fit(attempt, **asked)


def test_limits_of_several_partitions(monkeypatch):
    def run(command, timeout=60):
        if command[0] == "sinfo":
            return SimpleNamespace(returncode=0, stdout="gpu|64000|16|gpu:2\nlong|32000|64|(null)\n", stderr="")
        known = {"gpu": "PartitionName=gpu MaxTime=01:00:00", "long": "PartitionName=long MaxTime=2-00:00:00"}
        name = command[-1]
        said = "" if name in known else f"Partition {name} not found"
        return SimpleNamespace(returncode=0 if name in known else 1, stdout=known.get(name, ""), stderr=said)

    monkeypatch.setattr(limits, "run", run)
    assert limits_of("gpu") == Limits("gpu", 60, 64000, 16, {"": 2})
    assert limits_of("gpu,long") == Limits("gpu,long", 2880, 64000, 64, {"": 2})
    assert limits_of("gpu, lnog").minutes == 60 and "lnog not found" in limits_of("lnog").excess({})[0]
    assert "no such partition" in limits_of("x,y").excess({})[0]
