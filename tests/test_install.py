"""The wheel, installed elsewhere: the command, the Python API and the workflow work in an empty folder without a checkout."""

import os
import subprocess
import sys
import sysconfig
import zipfile

import pytest
import yaml
from conftest import ROOT

from corrbench.report.table import read_table
from corrbench.resources import FOLDERS

CONFIG = {
    "device": "cpu",
    "rows": ["rows"],
    "runs": [
        {"methods": ["identity"], "weights": ["none"], "benchmarks": ["tiny-val"]},
        {"methods": ["random-r18"], "weights": ["random"], "protocols": ["crw"], "benchmarks": ["tiny-val"]},
    ],
}
SCRIPT = """
import torch, corrbench
class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = torch.nn.Conv2d(3, 16, 8, stride=8)
    def forward(self, images):
        return self.conv(images)
result = corrbench.evaluate(Net(), "tiny-val", root="results/data/tiny-val", protocol="crw", rows=["rows"])
print("J&F", round(result["J&F"], 2), result.protocol_hash)
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """(python, folder): a bare environment that has the wheel and this environment's libraries, and an empty folder."""
    base = tmp_path_factory.mktemp("install")
    source = base / "source"
    names = ["pyproject.toml", "setup.py", "README.md", "LICENSE", "Snakefile", "corrbench", *FOLDERS]
    subprocess.run(["cp", "-r", *(str(ROOT / n) for n in names), f"{source.mkdir() or source}/"], check=True)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "-q"]
    subprocess.run([*pip, "wheel", "--no-deps", "--no-build-isolation", "-w", str(base), str(source)], check=True)
    (wheel,) = base.glob("corrbench-*.whl")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(base / "env")], check=True)
    python = base / "env/bin/python"
    place = next((base / "env/lib").glob("python*/site-packages"))
    (place / "libraries.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
    subprocess.run([*pip, "install", "--no-deps", "--target", str(place), str(wheel)], check=True)
    names = zipfile.ZipFile(wheel).namelist()
    assert not any("__pycache__" in name or name.startswith(("scripts/", "config/")) for name in names)
    folder = base / "empty"
    (folder / "rows/benchmarks").mkdir(parents=True)
    row = yaml.safe_load((ROOT / "tests/data/rows/benchmarks/tiny-val.yaml").read_text())
    (folder / "rows/benchmarks/tiny-val.yaml").write_text(yaml.safe_dump(row))
    (folder / "mine.yaml").write_text(yaml.safe_dump(CONFIG))
    return python, folder


def run(installed, *words, check=True):
    python, folder = installed
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"} | {"PATH": f"{python.parent}:/usr/bin:/bin", "CORRBENCH_GPUS": ""}  # fmt: skip
    done = subprocess.run(list(map(str, words)), cwd=folder, env=environment, capture_output=True, text=True)
    assert not check or done.returncode == 0, done.stdout + done.stderr
    return done


def command(installed):
    """The console script, as pip writes it for a normal installation."""
    return [installed[0], "-c", "from corrbench.cli import main; main()"]


def test_the_command_knows_its_programs_and_rows(installed):
    text = run(installed, *command(installed), "--help").stdout
    assert "score" in text and "server-scores" in text and "gpu_slot" not in text
    assert "--checkpoint" in run(installed, *command(installed), "score", "--help").stdout
    assert "davis2017-val" in run(installed, *command(installed), "list", "benchmarks").stdout
    assert "tiny-val" in run(installed, *command(installed), "list", "benchmarks", "--rows", "rows").stdout
    assert run(installed, *command(installed), "version").stdout.strip() == "0.1.0"
    wrong = run(installed, *command(installed), "scor", check=False)
    assert wrong.returncode == 1 and "did you mean 'score'" in wrong.stderr
    refused = run(installed, *command(installed), "doctor", "--benchmark", "davis2017-vla", "--root", ".", check=False)
    assert refused.returncode == 1 and "did you mean 'davis2017-val'" in refused.stderr


def test_the_workflow_and_a_script_give_rows_and_numbers(installed):
    run(installed, *command(installed), "run", "results/table.csv", "--configfile", "mine.yaml", "--cores", 2)
    table = read_table(installed[1] / "results/table.csv").set_index("entry")
    assert list(table.index) == ["identity.none.identity", "random-r18.random.crw"]
    again = run(installed, *command(installed), "run", "results/table.csv", "--configfile", "mine.yaml", "--cores", 2)
    assert "Nothing to be done" in again.stdout + again.stderr
    (installed[1] / "script.py").write_text(SCRIPT)
    said = run(installed, installed[0], "script.py").stdout
    assert said.startswith("J&F ") and table.loc["random-r18.random.crw", "protocol_hash"] in said
    planned = run(installed, *command(installed), "run", "-n", "--configfile", "demo.yaml", "--cores", 2)
    assert "propagate" in planned.stdout + planned.stderr


def test_code_versions_are_those_of_the_checkout(installed):
    """A results folder may move between an installation and a checkout: the same code has the same version."""
    ask = "from corrbench.provenance import code_version as v; print(v('scripts/evaluate.py'), v('corrbench/pretraining/crw.py'))"
    from corrbench.provenance import code_version

    here = [code_version("scripts/evaluate.py"), code_version("corrbench/pretraining/crw.py")]
    assert run(installed, installed[0], "-c", ask).stdout.split() == here
