"""What SLURM says, and what is made of it: no cluster needed."""

import math
import threading
from types import SimpleNamespace

import pytest

from corrbench.slurm import executor, queue
from corrbench.slurm.executor import Executor, Watched, run_name
from corrbench.slurm.limits import Limits, minutes_of, parse_limits
from corrbench.slurm.queue import Row, parse, stands_still, will_pass


def test_rows_of_the_queue():
    rows = parse(
        "7|RUNNING|None|2026-11-30T10:00:00|1|rule_a #ab\n8|PENDING|Priority|N/A|2|rule_b | x\nslurm_load_jobs error\n9|RUNNING\n"
    )
    assert set(rows) == {"7", "8", "9"} and rows["7"].start.hour == 10 and rows["8"].nodes == 2
    assert rows["8"].comment == "rule_b | x" and rows["9"].live and rows["8"].start is None


@pytest.mark.parametrize(
    ("said", "passes"),
    [
        ("sbatch: error: Batch job submission failed: Unable to contact slurm controller (connect failure)", True),
        ("sbatch: error: Batch job submission failed: Socket timed out on send/recv operation", True),
        ("sbatch: error: QOSMaxSubmitJobPerUserLimit sbatch: error: Batch job submission failed: Job violates accounting/QOS policy (job submit limit, user's size and/or time limits)", True),
        ("sbatch: error: Batch job submission failed: Unexpected message received", True),
        ("sbatch: error: Slurm temporarily unable to accept job, sleeping and retrying", True),
        ("sbatch: error: Batch job submission failed: Job violates accounting/QOS policy (job submit limit, user's size and/or time limits)", False),
        ("sbatch: error: Batch job submission failed: Invalid partition name specified", False),
        ("sbatch: error: Batch job submission failed: Invalid account or account/partition combination specified", False),
        ("sbatch: error: Batch job submission failed: Requested node configuration is not available", False),
        ("sbatch: error: Batch job submission failed: Requested time limit is invalid (missing or exceeds some limit)", False),
    ],
)  # fmt: skip
def test_what_time_cures(said, passes):
    assert will_pass(said) == passes


@pytest.mark.parametrize(
    ("state", "reason", "still"),
    [
        ("PENDING", "Priority", False), ("PENDING", "Resources", False), ("PENDING", "ReqNodeNotAvail,_UnavailableNodes:n1", False),
        ("PENDING", "BeginTime", False), ("PENDING", "QOSMaxJobsPerUserLimit", False), ("PENDING", "AssocGrpGRES", False),
        ("PENDING", "PartitionTimeLimit", True), ("PENDING", "MaxMemPerLimit", True), ("PENDING", "QOSMaxWallDurationPerJobLimit", True),
        ("PENDING", "job requeued in held state", True), ("PENDING", "AssocMaxCpuPerJobLimit", True), ("RUNNING", "PartitionTimeLimit", False),
    ],
)  # fmt: skip
def test_what_waits_for_ever(state, reason, still):
    assert stands_still(Row("1", state, reason, None, 1, "")) == still


def test_limits_of_a_partition():
    shown = (
        "PartitionName=main AllowGroups=ALL Default=YES MaxTime=UNLIMITED MaxMemPerNode=UNLIMITED MaxCPUsPerNode=UNLIMITED\n"
        "PartitionName=short Default=NO MaxNodes=1 MaxTime=1-02:30:00 MaxMemPerCPU=2000 MaxCPUsPerNode=8\n"
    )
    nodes = "main*|64000|16\nmain*|128000|32\nshort|64000|16\n"
    assert parse_limits(shown, nodes, "") == Limits("main", math.inf, 128000, 32)
    assert parse_limits(shown, nodes, "short") == Limits("short", 1590, 32000, 8)
    assert parse_limits("slurm_load_partitions error", "", "short") == Limits("short")
    assert Limits("short", 60, 7000, 8).excess({"runtime": 240, "mem_mb": 6000, "cores": 8}) == [
        "240 minutes, 60 are allowed"
    ]
    assert minutes_of("00:45:30") == 45.5 and minutes_of("infinite") == math.inf


def test_the_name_is_that_of_the_folder(tmp_path):
    assert (
        run_name("corrbench", tmp_path)
        == run_name("corrbench", tmp_path / ".")
        != run_name("corrbench", tmp_path / "a")
    )


@pytest.fixture
def patient(tmp_path, monkeypatch):
    """An executor without Snakemake, and the seconds that it has waited."""
    made = Executor.__new__(Executor)
    made.ending, made._told, made.run_uuid, made.notes = threading.Event(), {}, "corrbench_x", tmp_path
    made._known, made._mine, made._one_sbatch = {"70"}, set(), threading.Lock()
    made.said, made.slept = [], []
    made.logger = SimpleNamespace(warning=made.said.append, info=made.said.append, debug=lambda *a, **k: None)
    made.ending.wait = lambda seconds=None: made.slept.append(seconds)
    return made


def answers(monkeypatch, *, sbatch=(), squeue=""):
    """Have commands answer; the last answer of sbatch from then on."""
    left = list(sbatch)

    def run(command):
        text, code = (left.pop(0) if len(left) > 1 else left[0]) if command[0] == "sh" else (squeue, 0)
        return SimpleNamespace(returncode=code, stdout="" if code else text, stderr=text if code else "")

    monkeypatch.setattr(queue, "run", run)


AWAY = ("sbatch: error: Unable to contact slurm controller", 1)


def test_an_hour_without_the_controller_costs_no_attempt(patient, monkeypatch, tmp_path):
    answers(monkeypatch, sbatch=[*[AWAY] * 70, ("41", 0)])
    assert patient._sbatch("sbatch", tmp_path / "s.sh", "rule_a") == "41"
    assert sum(patient.slept) > 3600 and len(patient.said) == 1, "said once, not seventy times"


def test_a_submit_limit_names_its_variable(patient, monkeypatch, tmp_path):
    answers(monkeypatch, sbatch=[("sbatch: error: QOSMaxSubmitJobPerUserLimit", 1), ("5", 0)])
    assert patient._sbatch("sbatch", tmp_path / "s.sh", "rule_a") == "5"
    assert "CORRBENCH_SLURM_JOBS" in patient.said[0]


def test_a_job_that_was_taken_all_the_same_is_not_submitted_twice(patient, monkeypatch, tmp_path):
    answers(
        monkeypatch,
        sbatch=[("sbatch: error: Socket timed out on send/recv operation", 1)],
        squeue="70|RUNNING|None|N/A|1|rule_a\n76|PENDING|None|N/A|1|rule_b\n77|PENDING|None|N/A|1|rule_a\n",
    )
    assert patient._sbatch("sbatch", tmp_path / "s.sh", "rule_a") == "77" and patient.slept == []


def test_what_will_not_change_is_said_at_once(patient, monkeypatch, tmp_path):
    answers(monkeypatch, sbatch=[("sbatch: error: Invalid account", 1)])
    assert (
        patient._sbatch("sbatch", tmp_path / "s.sh", "rule_a") == "sbatch: error: Invalid account"
        and patient.slept == []
    )


def judged(patient, monkeypatch, row, *, status=None, known="", sure=True):
    """What is said of a job with this row (None: not shown; False: no answer)."""
    if status is not None:
        (patient.notes / "t.status").write_text(f"{status}\n")
    monkeypatch.setattr(queue, "state_of", lambda number: known)
    monkeypatch.setattr(queue, "accounted", lambda number: "")
    monkeypatch.setattr(queue, "run", lambda command: SimpleNamespace(returncode=0, stdout="", stderr=""))
    monkeypatch.setattr(executor, "SURE", -1 if sure else 1000)
    patient.workdir = patient.notes
    job = SimpleNamespace(is_group=lambda: False, output=["made.txt"], name="propagate")
    info = SimpleNamespace(external_jobid="7", job=job, aux={"watched": Watched("t", "rule_a")})
    rows = None if row is False else {} if row is None else {"7": Row("7", *row, None, 1, "")}
    return patient._judge(info, rows)


def test_a_job_that_the_controller_has_forgotten(patient, monkeypatch):
    assert judged(patient, monkeypatch, None, status=0) == ""
    assert judged(patient, monkeypatch, None, status=1) == "exit status 1"
    (patient.notes / "t.status").unlink()
    assert judged(patient, monkeypatch, None, sure=False) is None
    assert "forgotten" in judged(patient, monkeypatch, None)
    (patient.notes / "made.txt").write_text("")
    assert judged(patient, monkeypatch, None) == ""


def test_a_queue_that_is_stale_or_silent(patient, monkeypatch):
    assert judged(patient, monkeypatch, None, known="RUNNING") is None
    assert judged(patient, monkeypatch, None, known=None) is None
    assert judged(patient, monkeypatch, False) is None
    assert judged(patient, monkeypatch, ("RUNNING", "None"), status=0) == "", "old lines do not hold up what has ended"


def test_a_job_that_is_preempted_for_good(patient, monkeypatch):
    assert judged(patient, monkeypatch, ("PREEMPTED", "None"), sure=False) is None
    assert judged(patient, monkeypatch, ("PREEMPTED", "None")) == "SLURM status is: 'PREEMPTED'"
    assert judged(patient, monkeypatch, ("NODE_FAIL", "None")) == "SLURM status is: 'NODE_FAIL'"
    assert judged(patient, monkeypatch, ("TIMEOUT", "None"), sure=False) == "SLURM status is: 'TIMEOUT'"


def test_a_job_that_slurm_put_back_into_the_queue(patient, monkeypatch):
    """The status that it left when it was stopped says nothing of the time to come."""
    assert judged(patient, monkeypatch, ("PENDING", "BeginTime"), status=143) is None
    assert judged(patient, monkeypatch, ("RUNNING", "None"), status=143) is None
    assert judged(patient, monkeypatch, None, status=143, known="PENDING") is None, "squeue alone is not believed"
    assert judged(patient, monkeypatch, False, status=143) is None


def test_a_job_that_waits_for_ever_is_canceled(patient, monkeypatch):
    assert judged(patient, monkeypatch, ("PENDING", "PartitionTimeLimit"), sure=False) is None
    said = judged(patient, monkeypatch, ("PENDING", "PartitionTimeLimit"))
    assert "wait for ever" in said and "PartitionTimeLimit" in said and "set-resources" in said
