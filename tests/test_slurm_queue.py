"""What SLURM says, and what is made of it: no cluster needed."""

import os
import shutil
import subprocess
import time
from itertools import islice
from types import SimpleNamespace

import pytest

from corrbench.slurm import queue, watching
from corrbench.slurm.earlier import Earlier
from corrbench.slurm.executor import run_name
from corrbench.slurm.notes import Note, Notes, Status
from corrbench.slurm.patience import Patience, RunEnds
from corrbench.slurm.queue import Queue, Row, parse, stands_still, will_pass
from corrbench.slurm.submitting import Refused, Submitting
from corrbench.slurm.watching import Watched, judge, summary


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
        ("sbatch: error: AssocGrpSubmitJobsLimit", True),
        ("sbatch: error: Batch job submission failed: Required partition not available (inactive or drain)", True),
        ("sbatch: error: resolve_ctls_from_dns_srv: res_nsearch error: Unknown host\nsbatch: fatal: Could not establish a configuration source", True),
        ("sbatch: error: Batch job submission failed: I/O error writing script/environment to file", True),
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
        ("PENDING", "PartitionTimeLimit", True), ("PENDING", "PartitionConfig", True), ("PENDING", "PartitionNodeLimit", False), ("PENDING", "MaxMemPerLimit", True), ("PENDING", "QOSMaxWallDurationPerJobLimit", True),
        ("PENDING", "job requeued in held state", True),
        ("PENDING", "launch failed requeued held", True), ("RESV_DEL_HOLD", "None", True), ("PENDING", "InvalidQOS", True), ("PENDING", "AssocMaxCpuPerJobLimit", True), ("RUNNING", "PartitionTimeLimit", False),
    ],
)  # fmt: skip
def test_what_waits_for_ever(state, reason, still):
    assert bool(stands_still(state, reason)) == still


def test_the_remedy_fits_the_reason():
    assert "set-resources" in stands_still("PENDING", "PartitionTimeLimit")
    assert "exclude-failed-nodes" in stands_still("PENDING", "launch failed requeued held")
    assert "CORRBENCH_SLURM_ACCOUNT" in stands_still("PENDING", "InvalidAccount")


def test_the_name_is_that_of_the_folder(tmp_path):
    name = run_name("corrbench", Notes(tmp_path))
    assert name == run_name("corrbench", Notes(tmp_path / ".")) and name.startswith("corrbench_")
    assert name != run_name("corrbench", Notes(tmp_path / "a"))
    shutil.rmtree(tmp_path / ".snakemake")
    assert name != run_name("corrbench", Notes(tmp_path)), "the same path on the disk of another host"


@pytest.fixture
def patience():
    """Patience that does not really wait: the seconds that it would have waited, and what it said."""
    made = Patience(SimpleNamespace())
    made.said, made.slept = [], []
    made.logger.warning = made.logger.info = made.said.append
    made.ending.wait = made.slept.append
    return made


@pytest.fixture
def submitting(patience):
    return Submitting(Queue("corrbench_x", patience), patience, others={"70"})


def answers(monkeypatch, *, sbatch=(), squeue="", shown=None):
    """Have commands answer; the last answer from then on. squeue: its rows, a list of them, None while the controller is away."""
    left, rows, asked = list(sbatch), squeue if isinstance(squeue, list) else [squeue], []

    def run(command, timeout=60):
        asked.append(list(command))
        if command[0] == "sh":
            text, code = left.pop(0) if len(left) > 1 else left[0]
        elif command[0] == "scontrol":
            text, code = (shown, 0) if shown else ("slurm_load_jobs error: Invalid job id specified", 1)
        else:
            text = rows.pop(0) if len(rows) > 1 else rows[0]
            text, code = ("Unable to contact slurm controller", 1) if text is None else (text, 0)
        return SimpleNamespace(returncode=code, stdout="" if code else text, stderr=text if code else "")

    monkeypatch.setattr(queue, "run", run)
    return asked


AWAY = ("sbatch: error: Unable to contact slurm controller", 1)


def test_an_hour_without_the_controller_costs_no_attempt(submitting, patience, monkeypatch, tmp_path):
    answers(monkeypatch, sbatch=[*[AWAY] * 70, ("41", 0)])
    assert submitting.sbatch("sbatch", tmp_path / "s.sh", "rule_a") == "41"
    assert sum(patience.slept) > 3600 and len(patience.said) == 1, "said once, not seventy times"


def test_a_submit_limit_names_its_variable(submitting, patience, monkeypatch, tmp_path):
    answers(monkeypatch, sbatch=[("sbatch: error: QOSMaxSubmitJobPerUserLimit", 1), ("5", 0)])
    assert submitting.sbatch("sbatch", tmp_path / "s.sh", "rule_a") == "5"
    assert "CORRBENCH_SLURM_JOBS" in patience.said[0]


TAKEN = "70|RUNNING|None|N/A|1|rule_a\n76|PENDING|None|N/A|1|rule_b\n77|PENDING|None|N/A|1|rule_a\n"
LOST = ("sbatch: error: Socket timed out on send/recv operation", 1)


def test_a_job_that_was_taken_all_the_same_is_not_submitted_twice(submitting, patience, monkeypatch, tmp_path):
    answers(monkeypatch, sbatch=[LOST], squeue=TAKEN)
    assert submitting.sbatch("sbatch", tmp_path / "s.sh", "rule_a") == "77" and patience.slept == []


def test_what_will_not_change_is_said_at_once(submitting, patience, monkeypatch, tmp_path):
    answers(monkeypatch, sbatch=[("sbatch: error: Invalid account", 1)])
    with pytest.raises(Refused, match="Invalid account"):
        submitting.sbatch("sbatch", tmp_path / "s.sh", "rule_a")
    assert patience.slept == []


def test_the_end_finds_a_job_that_sbatch_never_spoke_of(submitting, patience, monkeypatch, tmp_path):
    """Ctrl-C while the controller is away, after an sbatch whose answer was lost."""
    patience.ending.wait = lambda seconds: patience.ending.set()
    answers(monkeypatch, sbatch=[LOST], squeue=None)
    with pytest.raises(RunEnds):
        submitting.sbatch("sbatch", tmp_path / "s.sh", "rule_a")
    assert submitting.living() is None
    answers(monkeypatch, squeue=TAKEN)
    assert submitting.living() == {"77"}, "neither the job of another run, 70, nor that of another rule"


def test_a_lost_sbatch_that_does_its_work_later(submitting, patience, monkeypatch, tmp_path):
    """It is seen before sbatch is called again; and if only afterwards, one of the two jobs is canceled."""
    asked = answers(monkeypatch, sbatch=[LOST], squeue=["", "", TAKEN])
    assert submitting.sbatch("sbatch", tmp_path / "s.sh", "rule_a") == "77"
    assert sum(command[0] == "sh" for command in asked) == 1 and patience.slept == [5]
    asked = answers(
        monkeypatch, sbatch=[LOST, ("80", 0)], squeue=["", "", "", f"{TAKEN}79|PENDING|None|N/A|1|rule_b\n"]
    )
    assert submitting.sbatch("sbatch", tmp_path / "s.sh", "rule_b") == "80"
    assert [command[-2:] for command in asked if command[0] == "scancel"] == [["76", "79"]]


def test_a_banner_of_the_site_does_not_hide_a_job(submitting, patience, monkeypatch, tmp_path):
    answers(monkeypatch, sbatch=[("Welcome to 2 clusters with 400 nodes", 0)], squeue=TAKEN)
    assert submitting.sbatch("sbatch", tmp_path / "s.sh", "rule_a") == "77"


def test_a_command_that_hangs_is_killed_with_what_it_started(tmp_path):
    done = queue.run(["sh", "-c", f"(sleep 3; touch {tmp_path}/late) & sleep 30"], timeout=0.5)
    time.sleep(3.5)
    assert done.returncode and "timed out" in done.stderr and not (tmp_path / "late").exists()


def test_tries_end_with_the_run(patience):
    assert len(list(islice(patience.tries(), 8))) == 8 and patience.slept == [5, 10, 20, 40, 60, 60, 60]
    patience.ending.set()
    with pytest.raises(RunEnds):
        next(patience.tries())


@pytest.fixture
def judged(monkeypatch, patience, tmp_path):
    """What is said of a job with this row (None: not shown; False: no answer)."""
    notes = Notes(tmp_path)
    notes.folder.mkdir(parents=True)

    def judged(row, *, status=None, known="", sure=True):
        if status is not None:
            (notes.folder / "t.status").write_text(f"{status} 100 200\n")
        shown = f"JobId=7 JobName=corrbench_x UserId=me(1) JobState={known} Reason=None" if known else None
        answers(monkeypatch, squeue="", shown=shown)
        if known is None:
            monkeypatch.setattr(Queue, "state_of", lambda self, number: None)
        monkeypatch.setattr(watching, "SURE", -1 if sure else 1000)
        rows = None if row is False else {} if row is None else {"7": Row("7", *row, None, 1, "")}
        job = Watched(Note("t", "rule_a", "key", ["made.txt"], "7"))
        return judge(job, rows, notes, Queue("corrbench_x", patience), watching.SURE)

    return judged


def test_a_job_that_the_controller_has_forgotten(judged, tmp_path):
    assert judged(None, status=0) == ""
    assert judged(None, status=1) == "exit status 1"
    (tmp_path / ".snakemake/slurm-jobs/t.status").unlink()
    assert judged(None, sure=False) is None
    assert "forgotten" in judged(None)
    (tmp_path / "made.txt").write_text("")
    assert judged(None) == ""


def test_a_queue_that_is_stale_or_silent(judged):
    assert judged(None, known="RUNNING") is None
    assert judged(None, known=None) is None
    assert judged(False) is None
    assert judged(("RUNNING", "None"), status=0) == "", "old lines do not hold up what has ended"


def test_a_job_that_is_preempted_for_good(judged):
    assert judged(("PREEMPTED", "None"), sure=False) is None
    assert judged(("PREEMPTED", "None")) == "SLURM status is: 'PREEMPTED'"
    assert judged(("NODE_FAIL", "None")) == "SLURM status is: 'NODE_FAIL'"
    assert judged(("TIMEOUT", "None"), sure=False) == "SLURM status is: 'TIMEOUT'"


def test_a_job_that_slurm_put_back_into_the_queue(judged):
    """The status that it left when it was stopped says nothing of the time to come."""
    assert judged(("PENDING", "BeginTime"), status=143) is None
    assert judged(("RUNNING", "None"), status=143) is None
    assert judged(("COMPLETING", "None"), status=143) is None
    assert judged(None, status=143, known="PENDING") is None, "squeue alone is not believed"
    assert judged(False, status=143) is None


def test_a_job_that_waits_for_ever_is_canceled(judged):
    assert judged(("PENDING", "PartitionTimeLimit"), sure=False) is None
    said = judged(("PENDING", "PartitionTimeLimit"))
    assert "wait for ever" in said and "PartitionTimeLimit" in said and "set-resources" in said


def test_a_number_that_the_controller_gave_to_another_job(patience, monkeypatch):
    """A controller that lost its memory begins to count anew; another cluster counts for itself."""
    asked = Queue("corrbench_x", patience)
    answers(monkeypatch, shown="JobId=7 JobName=corrbench_x UserId=me(1) JobState=RUNNING Reason=None")
    assert asked.state_of("7") == "RUNNING"
    answers(monkeypatch, shown="JobId=7 JobName=a-colleague UserId=her(2) JobState=RUNNING Reason=None")
    assert asked.state_of("7") == ""


def test_jobs_of_a_run_that_was_killed(patience, monkeypatch, tmp_path):
    notes = Notes(tmp_path)
    gone = dict(owner="a run of which nothing is known")
    notes.write(Note("a", "rule_a", "key", ["a.txt"], "7", **gone))
    notes.write(Note("b", "rule_b", "key", ["b.txt"], **gone))  # killed before sbatch told the number
    notes.write(Note("c", "rule_c", "key", ["c.txt"], "9", **gone))  # over, and forgotten
    notes.write(Note("e", "rule_b", "key", ["e.txt"], **gone))  # of the same words, and never submitted
    notes.write(Note("d", "rule_d", "key", ["d.txt"], "7"))  # of a run that is at work: this process
    answers(monkeypatch, squeue="7|RUNNING|None|N/A|1|rule_a\n8|PENDING|None|N/A|1|rule_b\n")
    earlier = Earlier(notes, Queue("corrbench_x", patience), patience)
    taken = earlier.take(["b.txt"], "key")
    assert (taken.token, taken.number) == ("b", "8")
    assert earlier.take(["c.txt"], "key") is None and earlier.take(["d.txt"], "key") is None
    assert [note.token for note in earlier.left] == ["a"]
    assert sorted(note.token for note in notes.read()) == ["a", "b", "d"]
    gone_later = [
        "7|RUNNING|None|N/A|1|rule_a\n",
        None,
        "7|COMPLETING|None|N/A|1|rule_a\n",
        "7|CANCELLED|None|N/A|1|rule_a\n",
    ]
    asked = answers(monkeypatch, squeue=gone_later)
    assert earlier.take(["a.txt"], "another key") is None, "made in another way"
    canceled = [command for command in asked if command[0] == "scancel"]
    assert canceled[0] == ["scancel", "--quiet", "--name", "corrbench_x", "7"] and earlier.left == []
    assert any("make the same files otherwise" in said for said in patience.said)


def test_the_status_that_a_job_leaves(tmp_path):
    notes = Notes(tmp_path / "a folder")
    notes.write(Note("t", "rule_a", "key", []))
    assert notes.status("t") is None and notes.ended() == set()
    begin = int(time.time())
    assert subprocess.run(["sh", notes.script("t", "exit 3")]).returncode == 3
    status = notes.status("t")
    assert status.code == 3 and begin <= status.began <= status.ended and notes.ended() == {"t"}
    (notes.folder / "u.json").write_text("half a no")
    assert [note.token for note in notes.read()] == ["t"]
    notes.remove("t")
    assert not list(notes.folder.glob("t.*"))


def test_a_job_that_fails_while_the_controller_is_away_runs_again_when_it_is_back(tmp_path, monkeypatch):
    """As srun does, which asks the controller for a step."""
    (tmp_path / "scontrol").write_text(
        f"#!/bin/sh\necho >> {tmp_path}/pings; [ $(wc -l < {tmp_path}/pings) -ge 3 ] && s=UP || s=DOWN\n"
        'echo "Slurmctld(primary) at n1 is $s"\n'
    )
    (tmp_path / "scontrol").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setenv("CORRBENCH_PING", "0")
    notes = Notes(tmp_path)
    notes.write(Note("t", "rule_a", "key", []))
    script = notes.script("t", f"echo >> {tmp_path}/runs; [ $(wc -l < {tmp_path}/runs) -ge 2 ]")
    assert subprocess.run(["sh", script]).returncode == 0 and notes.status("t").code == 0
    assert len((tmp_path / "runs").read_text()) == 2
    script = notes.script("t", f"echo >> {tmp_path}/more; exit 3")
    assert subprocess.run(["sh", script]).returncode == 3, "the controller is there: a failure of the job's own"
    assert len((tmp_path / "more").read_text()) == 1


def test_what_the_jobs_came_to():
    def ended(what, number, failed="", begin=1060.0, attempt=1):
        note = Note("t", what, "key", [], number, since=1000.0)
        if not number:
            return Watched(note, attempt, failed=failed)
        return Watched(note, attempt, status=Status(1 if failed else 0, begin, begin + 1800), failed=failed)

    refused = ended("rule_b", "", "sbatch refused: no", attempt=2)
    tried = [ended("rule_b", "2", "exit status 1"), refused, ended("rule_b", "3", begin=1120.0, attempt=3)]
    assert summary([ended("rule_a", "1"), *tried]) == [
        "SLURM jobs: 3 for 2 tasks (2 done, 1 failed); 1.5 h on nodes, 4 min in the queue, all jobs together.",
        "  rule_b: attempt 1 (job 2): exit status 1; attempt 2 (not submitted): sbatch refused: no; attempt 3 (job 3): done",
    ]
    assert summary([]) == []
