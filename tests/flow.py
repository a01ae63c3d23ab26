"""Real Snakemake runs on tiny data, for the tests of the workflow."""

import os
import shutil
import subprocess

import warm
import yaml
from conftest import ROOT

from scripts.plan import parse_jobs

ROWS = ROOT / "tests" / "data" / "rows"
CONFIG = {
    "results": "results",
    "device": "cpu",
    "rows": [str(ROWS), "rows"],
    "runs": [
        {"methods": ["identity"], "weights": ["none"], "benchmarks": ["tiny-val"]},
        {"methods": ["random-r18"], "weights": ["random"], "protocols": ["warm", "dino"], "benchmarks": ["tiny-val"]},
        {"methods": ["random-r18"], "weights": ["random"], "protocols": ["warm"], "benchmarks": ["tiny-server"]},
    ],
}
WARM = {"base": "crw", "name": "warm", "selection": {"temperature": 0.07}}


def write(folder, config=CONFIG, warm=WARM):
    """A folder to run in: config.yaml and a protocol row of its own."""
    (folder / "rows" / "protocols").mkdir(parents=True, exist_ok=True)
    (folder / "rows" / "protocols" / "warm.yaml").write_text(yaml.safe_dump(warm))
    (folder / "config.yaml").write_text(yaml.safe_dump(config))


def snakemake(folder, *arguments, check=True, checkout=ROOT, cores=1):
    """Run it in `folder` with the workflow of `checkout`. One core: the other one runs other tests."""
    command = [warm.python(), "-m", "snakemake", "--snakefile", checkout / "Snakefile", "--directory", folder, "--cores", cores,
               "--configfile", folder / "config.yaml", *arguments]  # fmt: skip
    environment = {**os.environ, "CORRBENCH_GPUS": "", "PYTHONPATH": ""}
    done = subprocess.run(list(map(str, command)), cwd=folder, capture_output=True, text=True, env=environment)
    if check:
        assert done.returncode == 0, done.stdout + done.stderr
    return done


def planned(folder, *arguments, checkout=ROOT):
    """Jobs by rule that would run: {rule: [benchmark/entry, ...]}."""
    done = snakemake(folder, "-n", *arguments, checkout=checkout)
    jobs = {}
    for job in parse_jobs(done.stdout + done.stderr):
        jobs.setdefault(job.rule, []).append("/".join(job.wildcards.values()))
    return {rule: sorted(names) for rule, names in jobs.items()}


def planned_after(folder, file, old, new, kept):
    """How many jobs of each rule would run if `old` were `new` in `file` of the checkout at folder/project: {rule: number}.

    The file is put back from `kept`, a folder for its copy.
    """
    path = folder / "project" / file
    shutil.copy2(path, kept / "file")  # with its time of change, which Snakemake reads
    try:
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new, 1))
        jobs = planned(folder, checkout=folder / "project")
    finally:
        shutil.copy2(kept / "file", path)
    return {rule: len(names) for rule, names in jobs.items()}


def checkout_copy(folder):
    """A copy of the project as a clone has it, to edit. Its DINO protocol takes small images: 480 pixels cost 15 s a run."""
    names = [
        "Snakefile",
        "README.md",
        "corrbench",
        "scripts",
        "workflow",
        "config",
        "profiles",
        "slurm",
        "envs",
        "tests/data",
    ]
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, folder / name)  # compiled modules too: times are kept, so they stay valid
        else:
            shutil.copy(ROOT / name, folder / name)
    dino = folder / "config/protocols/dino.yaml"
    assert "pixels: 480" in dino.read_text()
    dino.write_text(dino.read_text().replace("pixels: 480", "pixels: 128"))
    return folder
