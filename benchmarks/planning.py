"""Time `snakemake --dry-run` for configs of many entries: python benchmarks/planning.py [10 100 200 1000]

Rows are made up: n methods with random weights on 4 synthetic benchmarks; nothing is run.
"""

import subprocess
import sys
import tempfile
import time
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[1]


def write_config(folder: Path, entries: int) -> int:
    """A config of about so many entries; returns how many."""
    benchmarks = 4 if entries >= 4 else 1
    methods = -(-entries // benchmarks)
    for kind in ("methods", "benchmarks"):
        (folder / "rows" / kind).mkdir(parents=True)
    names = [f"method-{i}" for i in range(methods)]
    for name in names:
        row = {"base": "vfs-r18", "name": name}
        (folder / f"rows/methods/{name}.yaml").write_text(yaml.safe_dump(row))
    places = [f"bench-{i}" for i in range(benchmarks)]
    for i, name in enumerate(places):
        generate = {"frames": 5, "height": 48, "width": 80, "seed": i}
        row = {"base": "synthetic-val", "name": name, "generate": generate}
        (folder / f"rows/benchmarks/{name}.yaml").write_text(yaml.safe_dump(row))
    run = {"methods": names, "weights": ["random"], "benchmarks": places}
    config = {"device": "cpu", "rows": [str(folder / "rows")], "runs": [run]}
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    return methods * benchmarks


def plan(folder: Path) -> tuple[float, int]:
    """Seconds and jobs of a dry run."""
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "Snakefile"), "--directory", str(folder),
               "--configfile", str(folder / "config.yaml"), "--cores", "1", "--dry-run", "--quiet", "rules"]  # fmt: skip
    start = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True)
    seconds = time.perf_counter() - start
    if done.returncode:
        raise SystemExit(done.stdout + done.stderr)
    total = next(line.split()[1] for line in (done.stdout + done.stderr).splitlines() if line.startswith("total"))
    return seconds, int(total)


def main():
    for wanted in map(int, sys.argv[1:] or ["10", "100", "200", "1000"]):
        with tempfile.TemporaryDirectory() as scratch:
            entries = write_config(Path(scratch), wanted)
            seconds, jobs = plan(Path(scratch))
            print(f"{entries:5d} entries, {jobs:6d} jobs: {seconds:6.1f} s", flush=True)


if __name__ == "__main__":
    main()
