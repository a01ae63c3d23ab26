"""Say in words what would run and why, without running it.

usage:
    python -m scripts.plan                                          # results/table.csv and everything beside it
    python -m scripts.plan results/table.csv --configfile my.yaml   # any arguments of snakemake; targets first

It reads `snakemake --dry-run`. A job that only follows from another is listed under the one that caused it.
"""

import ast
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field

from corrbench.changes import differences
from corrbench.config_files import check_files
from corrbench.controller import parse_stale
from corrbench.errors import Refusal, run_program
from corrbench.resources import HOME


@dataclass
class Job:
    """One job of a dry run."""

    rule: str
    wildcards: dict[str, str] = field(default_factory=dict)
    reason: str = ""
    gpu: bool = False
    files: str = ""
    """What it writes, as Snakemake lists it."""

    @property
    def name(self) -> str:
        """``propagate davis2017-val/crw-r18.released.crw``"""
        return " ".join([self.rule, "/".join(self.wildcards.values())]).strip()

    @property
    def follows(self) -> bool:
        """True when only other jobs make this one necessary."""
        return all(part.startswith("Input files updated by another job") for part in self.reason.split("; "))


def parse_jobs(text: str) -> list[Job]:
    """The jobs that `snakemake --dry-run` lists, without target rules."""
    jobs: list[Job] = []
    for line in text.splitlines():
        if found := re.match(r" *(?:local)?rule (\w+):$", line):  # indented when the job is in a group
            jobs.append(Job(found[1]))
        elif jobs and (found := re.match(r" {4,}(\w+): (.*)", line)):
            key, value = found.groups()
            if key == "wildcards":
                jobs[-1].wildcards = dict(part.split("=", 1) for part in value.split(", "))
            elif key == "reason":
                jobs[-1].reason = value.strip()
            elif key == "output":
                jobs[-1].files = value.strip()
            elif key == "resources":
                jobs[-1].gpu = bool(re.search(r"\bgpu=[1-9]", value))
    stale = parse_stale(text)
    for job in jobs:
        if job.reason.startswith("Forced"):
            why = [
                f"{name}: {said}"
                for path, said in stale.items()
                if path in (name.removesuffix(" (update)") for name in job.files.split(", "))
                for name in [path.rpartition("/")[2]]
            ]
            job.reason = "; ".join(why) or job.reason
    return [job for job in jobs if job.rule != "all"]


def words(reason: str) -> str:
    """The reason for a job as a person would say it; the differing settings by name."""
    said = []
    for part in reason.split("; "):
        if part.startswith("Params have changed"):
            said.append(_settings_words(part))
        elif part.startswith("Missing output files"):
            said.append("not made yet")
        elif part.startswith("Incomplete output files"):
            said.append("a killed run left it incomplete")
        elif part.startswith("Updated input files"):
            said.append("changed: " + part.partition(": ")[2])
        elif part.startswith("Input files updated by another job"):
            said.append("what it reads is made again")
        elif part.startswith("Set of input files"):
            said.append("it reads other files than before")
        elif part.startswith("Code has changed"):
            said.append("the command of the rule was edited")
        elif part.startswith("Forced"):
            said.append("you forced it")
        elif part:
            said.append(part)
    return ", ".join(dict.fromkeys(said))


def _settings_words(part: str) -> str:
    found = re.search(r"before: (.*) now: (.*)", part)
    if found is None:
        return "its settings changed"
    try:
        before, now = (list(ast.literal_eval(f"[{text.strip()}]")) for text in found.groups())
    except (ValueError, SyntaxError):
        return "its settings changed"
    said = [word for old, new in zip(_settings(before), _settings(now), strict=False) for word in differences(old, new)]
    if any(_is_version(v) for v in now) and any(_is_version(v) for v in before):
        said.append("code of the stage, or content of a file that it reads, changed")
    return ", ".join(said) or "its settings changed"


def _settings(values: list[object]) -> list[object]:
    return [json.loads(v) for v in values if isinstance(v, str) and v.startswith("{")]


def _is_version(value: object) -> bool:
    return isinstance(value, str) and re.fullmatch(r"[0-9a-f]{12}", value) is not None


def lines(jobs: list[Job]) -> Iterator[str]:
    """The plan for a person: what changed, job by job, then how many others follow from it."""
    if not jobs:
        yield "Nothing to do: every result belongs to the config, the data sets and the code of now. (Videos added for training are not noticed: --forcerun frames.)"
        return
    gpus = sum(job.gpu for job in jobs)
    yield f"{len(jobs)} jobs would run, {gpus} of them on a GPU."
    causes: dict[tuple[str, str], list[Job]] = {}
    for job in jobs:
        if not job.follows:
            causes.setdefault((job.rule, words(job.reason)), []).append(job)
    yield "\nBecause of a change of their own:"
    for (rule, why), group in causes.items():
        yield f"  {rule} ({len(group)}): {why}"
        names = [job.name.partition(" ")[2] for job in group]
        yield from (f"    {name}" for name in names[:12] if name)
        if len(names) > 12:
            yield f"    ... and {len(names) - 12} more"
    counts: dict[str, int] = {}
    for job in jobs:
        if job.follows:
            counts[job.rule] = counts.get(job.rule, 0) + 1
    if counts:
        yield "\nBecause what they read is made again:"
        yield "  " + ", ".join(f"{rule} ({count})" for rule, count in counts.items())


def main() -> None:
    arguments = sys.argv[1:]
    if arguments in (["-h"], ["--help"]):
        print(__doc__)
        return
    check_files(arguments)
    # before what the user says: behind a `--` everything is a target
    command = [sys.executable, "-m", "snakemake", "--dry-run"]
    if not any(a in ("-c", "--cores", "-j", "--jobs", "--profile") or a.startswith("--cores=") for a in arguments):
        command += ["--cores", "all"]
    if not any(a in ("-s", "--snakefile") for a in arguments):
        command += ["--snakefile", str(HOME / "Snakefile")]
    command += arguments
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        said = (done.stdout + done.stderr).strip().splitlines()
        if unknown := re.search(r"No rule to produce (.+?) \(", done.stdout + done.stderr):
            raise Refusal(
                f"no rule makes {unknown[1]}",
                expected="a file of the results folder that the config names (`results:`), for example results/table.csv",
                do="correct the target; without one, everything that the config asks for is planned",
            )
        traces = [i for i, line in enumerate(said) if line.startswith("Traceback")]
        sys.exit("\n".join([*said[: traces[0]], said[-1]] if traces else said))
    said = done.stdout + done.stderr
    print("\n".join(lines(parse_jobs(said))))
    for place in re.finditer(
        r"^(?:Published rows|Place by hand first|Waiting for what no program).*(?:\n  .*)*", said, re.M
    ):
        print(f"\n{place[0]}")


if __name__ == "__main__":
    run_program(main)
