"""A real single-node SLURM with two mock GPUs, for tests: python tests/slurm/cluster.py up FOLDER | down FOLDER

Needs Debian's slurm-wlm and munge, and root. No accounting, no cgroups: memory is not enforced; time limits, cancelling,
requeueing and draining are. Everything lies in FOLDER (munge's socket apart), daemons are stopped by their pid files.
"""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

DAEMONS = ("munged", "slurmctld", "slurmd")
CONF = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={port}
SlurmdPort={node_port}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=30
CryptoType=crypto/munge
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
ReturnToService=2
MinJobAge=300
KillWait=5
InactiveLimit=0
MessageTimeout=60
UnkillableStepTimeout=600
SchedulerParameters=sched_interval=5,bf_interval=5,requeue_delay=1
GresTypes=gpu
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} RealMemory={memory} Gres=gpu:2 State=UNKNOWN
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""
GRES = """
NodeName={host} Name=gpu File=/dev/null
NodeName={host} Name=gpu File=/dev/zero
"""


def available() -> bool:
    """True where a cluster can be brought up."""
    tools = ("slurmctld", "slurmd", "sbatch", "munged", "mungekey")
    found = all(shutil.which(tool, path=f"{os.environ['PATH']}:/usr/sbin:/sbin") for tool in tools)
    return found and os.geteuid() == 0


class Cluster:
    """The cluster of one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.resolve()
        self.host = socket.gethostname().split(".")[0]
        self.environment = {
            **os.environ,
            "SLURM_CONF": str(self.folder / "slurm.conf"),
            "PATH": f"{self.folder}/bin:{os.environ['PATH']}:/usr/sbin:/sbin",
        }

    def up(self) -> "Cluster":
        """Write the configuration and start munged, slurmctld and slurmd; returns when the node is idle."""
        for name in ("state", "spool", "bin"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**20
        values = {
            "folder": self.folder, "host": self.host, "cpus": os.cpu_count(), "memory": int(memory * 0.9),
            "port": free_port(), "node_port": free_port(),
        }  # fmt: skip
        (self.folder / "slurm.conf").write_text(CONF.format(**values))
        (self.folder / "gres.conf").write_text(GRES.format(**values))
        # Snakemake takes SLURM_* variables from its job steps, and with them the way to this configuration
        srun = self.folder / "bin" / "srun"
        srun.write_text(f'#!/bin/sh\nSLURM_CONF={self.folder}/slurm.conf exec {shutil.which("srun")} "$@"\n')
        srun.chmod(0o755)
        key = self.folder / "munge.key"
        if not key.exists():
            self.run("mungekey", "--create", f"--keyfile={key}")
        self.start("munged")
        self.start("slurmctld")
        self.start("slurmd")
        self.wait_for(lambda: "idle" in self.run("sinfo", "-h", "-o", "%T"), "an idle node")
        return self

    def start(self, daemon: str) -> None:
        """Start one daemon; all of them put themselves into the background."""
        if daemon == "munged":
            folder = self.folder
            self.run(
                "munged", "--force", f"--socket={folder}/munge.socket", f"--key-file={folder}/munge.key",
                f"--pid-file={folder}/munged.pid", f"--log-file={folder}/munged.log", f"--seed-file={folder}/munge.seed",
            )  # fmt: skip
        else:
            self.run(daemon)

    def stop(self, daemon: str, how: int = signal.SIGTERM) -> None:
        """Stop one daemon by its pid file and wait until it is gone."""
        path = self.folder / f"{daemon}.pid"
        if not path.exists():
            return
        pid = int(path.read_text())
        try:
            os.kill(pid, how)
            self.wait_for(lambda: not alive(pid), f"the end of {daemon}")
        except ProcessLookupError:
            pass
        path.unlink(missing_ok=True)

    def cancel_all(self) -> None:
        """Cancel every job."""
        for more in (["--full", "--signal=KILL"], []):
            subprocess.run(["scancel", *more, "--user=root"], env=self.environment, capture_output=True)

    def down(self) -> None:
        """Cancel all jobs and stop the daemons."""
        self.cancel_all()
        for daemon in reversed(DAEMONS):
            self.stop(daemon)

    def run(self, *command: str) -> str:
        """Output of a command that sees this cluster; RuntimeError where it fails."""
        done = subprocess.run(command, env=self.environment, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)}: {done.stdout}{done.stderr}")
        return done.stdout

    def ask(self, *command: str) -> str:
        """Output of a command that sees this cluster, empty where it fails."""
        return subprocess.run(command, env=self.environment, capture_output=True, text=True).stdout

    def jobs(self, state: str = "") -> dict[str, str]:
        """Number and comment (rule and wildcards) of the jobs in the queue, optionally of one state."""
        lines = self.run("squeue", "-h", "-o", "%i|%T|%k").splitlines()
        parts = [line.split("|", 2) for line in lines]
        return {number: comment for number, found, comment in parts if state in ("", found)}

    def wait_for(self, condition, what: str, seconds: float = 240):
        """Poll until `condition()` is true; returns its value."""
        end = time.monotonic() + seconds
        error = None
        while time.monotonic() < end:
            try:
                if value := condition():
                    return value
            except RuntimeError as failure:
                error = failure
            time.sleep(0.3)
        raise TimeoutError(f"waited {seconds} s for {what}; {error or ''}\n{self.state()}")

    def keep_up(self) -> None:
        """Resume the node if SLURM itself drained it, as an administrator does: a busy machine may answer it too late."""
        states = self.ask("sinfo", "-h", "-o", "%T %E")
        if any(word in states for word in ("drain", "down", "fail")):
            print(f"SLURM took its node out: {states.strip()}")
            self.ask("scontrol", "update", f"nodename={self.host}", "state=resume")

    def state(self) -> str:
        """Queue, node and the end of the daemons' logs, for messages."""
        logs = [(self.folder / f"{name}.log").read_text(errors="replace")[-3000:] for name in ("slurmctld", "slurmd")]
        return "\n".join([self.ask("squeue", "-l"), self.ask("scontrol", "show", "node"), *logs])


def alive(pid: int) -> bool:
    """True while the process runs (a zombie does not)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


if __name__ == "__main__":
    cluster = Cluster(Path(sys.argv[2]))
    if sys.argv[1] == "up":
        cluster.up()
        print(f"export SLURM_CONF={cluster.folder}/slurm.conf PATH={cluster.folder}/bin:$PATH")
    else:
        cluster.down()
