"""As much of SLURM as Snakemake's executor uses, without a cluster: the jobs run here, in the background.

`install(folder)` links this file under the commands' names; the folder then goes first on PATH. A job is a folder
`jobs/<number>/` that holds what sbatch was called with (`call.json`), its output and its state. It has no queue, limits or nodes: for those
there is the real one (cluster.py).
"""

import argparse
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

COMMANDS = ("sbatch", "squeue", "scancel", "srun", "scontrol", "sinfo", "sacctmgr", "sacct")
FOLDER = Path(__file__).resolve().parent


def install(folder: Path) -> Path:
    """Make `folder` a place of fake commands."""
    (folder / "jobs").mkdir(parents=True)
    program = folder / "fake.py"
    program.write_text(f"#!{sys.executable}\n{Path(__file__).read_text()}")
    program.chmod(0o755)
    for command in COMMANDS:
        (folder / command).symlink_to("fake.py")
    return folder


def sbatch(arguments: list[str]) -> None:
    """Start the command in a session of its own and print its number."""
    parser = argparse.ArgumentParser(allow_abbrev=False)
    for name in ("--job-name", "--output", "--comment", "--wrap"):
        parser.add_argument(name, required=True)
    options, others = parser.parse_known_args(arguments)
    number = 1
    while (FOLDER / "jobs" / str(number)).exists():  # one controller submits, one job at a time
        number += 1
    job = FOLDER / "jobs" / str(number)
    job.mkdir()
    (job / "call.json").write_text(json.dumps({**vars(options), "others": others}))
    (job / "state").write_text("RUNNING")
    runner = subprocess.Popen([FOLDER / "fake.py", "run", job], start_new_session=True, stdin=subprocess.DEVNULL,
                              stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # fmt: skip
    (job / "pid").write_text(str(runner.pid))
    print(number)


def run(job: Path) -> None:
    """The job itself, in the background."""
    call = json.loads((job / "call.json").read_text())
    output = Path(call["output"].replace("%j", job.name))
    output.parent.mkdir(parents=True, exist_ok=True)
    environment = {**os.environ, "SLURM_JOB_ID": job.name, "CUDA_VISIBLE_DEVICES": "0"}
    with output.open("w") as log:
        status = subprocess.run(["sh", "-c", call["wrap"]], env=environment, stdout=log, stderr=log).returncode
    (job / "state").write_text("FAILED" if status else "COMPLETED")


def squeue(arguments: list[str]) -> None:
    """`number|STATE` of the jobs of one --name."""
    name = arguments[arguments.index("--name") + 1]
    for job in sorted((FOLDER / "jobs").iterdir()):
        if (job / "state").exists() and json.loads((job / "call.json").read_text())["job_name"] == name:
            print(f"{job.name}|{(job / 'state').read_text()}")


def scancel(arguments: list[str]) -> None:
    """End jobs with everything that they started."""
    for number in filter(str.isdigit, arguments):
        job = FOLDER / "jobs" / number
        if (job / "state").read_text() == "RUNNING":
            os.killpg(int((job / "pid").read_text()), signal.SIGTERM)
            (job / "state").write_text("CANCELLED")


def srun(arguments: list[str]) -> None:
    """The command after the options, here and now."""
    start = next(i for i, word in enumerate(arguments) if word.startswith("/") or word in ("sh", "bash", "python"))
    os.execvp(arguments[start], arguments[start:])


def main() -> None:
    command, arguments = Path(sys.argv[0]).name, sys.argv[1:]
    if command == "fake.py":
        run(Path(arguments[1]))
    elif command == "sinfo":
        print(os.cpu_count())
    elif command == "scontrol":
        if any((FOLDER / "jobs").iterdir()):
            sys.exit("Unable to contact slurm controller")  # whenever the plugin asks again
        print("MinJobAge               = 300 sec")
    elif command == "sacct":
        sys.exit("Slurm accounting storage is disabled")
    elif command == "sacctmgr":
        print("vision")  # the account of every user
    else:
        {"sbatch": sbatch, "squeue": squeue, "scancel": scancel, "srun": srun}[command](arguments)


if __name__ == "__main__":
    main()
