"""The README's "Add a method" page, followed word for word, and its claims about files."""

import os
import re
import subprocess

import pandas as pd
import torch
import warm
import yaml
from conftest import ROOT

from corrbench.encoders.resnet import random_resnet
from corrbench.provenance import reached_modules

README = (ROOT / "README.md").read_text()


def section(title):
    return README.split(f"## {title}\n")[1].split("\n## ")[0]


def test_add_a_method(tmp_path):
    """Write the files that the page shows where it says, run its command, find the rows in the table."""
    page = section("Add a method")
    blocks = re.findall(r"```yaml\n(.*?)```", page, flags=re.S)
    names = re.findall(r"`(my_rows/methods/my-method\.yaml|my_rows/protocols/warm\.yaml|my\.yaml)`", page)
    assert len(blocks) == len(names) == 3
    for name, block in zip(names, blocks, strict=True):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(block)
    torch.save(random_resnet("resnet18", 7), tmp_path / "my_checkpoint.pth")
    # the page's benchmark is the demo's; a smaller one keeps the test short
    config = yaml.safe_load((tmp_path / "my.yaml").read_text())
    config["rows"].append(str(ROOT / "tests/data/rows"))
    config["runs"][0]["benchmarks"] = ["tiny-val"]
    (tmp_path / "my.yaml").write_text(yaml.safe_dump(config))
    command = re.search(r"`(snakemake [^`]*--configfile my\.yaml)`", page)[1].split()
    done = subprocess.run(
        [warm.python(), "-m", *command, "--snakefile", str(ROOT / "Snakefile")], cwd=tmp_path, capture_output=True, text=True,
        env={**os.environ, "CORRBENCH_GPUS": ""},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    table = pd.read_csv(tmp_path / "results/my/table.csv")
    assert list(table["entry"]) == [
        "my-method.mine.crw",
        "my-method.mine.warm",
        "my-method.random.crw",
        "my-method.random.warm",
    ]
    assert table["weights_sha256"].nunique() == 2 and table["protocol_hash"].nunique() == 2


def test_links_and_programs_exist():
    pages = [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]
    for page in pages:
        text = page.read_text()
        for link in re.findall(r"\]\(([^)#:]+)\)", text):
            assert (page.parent / link).exists(), f"{page.name}: {link}"
        for program in re.findall(r"python -m scripts\.([a-z_]+)", text):
            assert (ROOT / "scripts" / f"{program}.py").exists(), program


def test_configuration_example_is_valid():
    from corrbench.config import Config

    block = re.search(r"```yaml\n(.*?)```", section("Configuration"), flags=re.S)[1]
    assert len(Config(yaml.safe_load(block)).entries) == 12


def test_every_program_has_help():
    for path in sorted((ROOT / "scripts").glob("[a-z]*.py")):
        done = subprocess.run(
            [warm.python(), "-m", f"scripts.{path.stem}", "--help"], cwd=ROOT, capture_output=True, text=True
        )
        text = done.stdout + done.stderr
        assert "usage:" in text or "COUNT -- command" in text, path.name
        assert "Traceback" not in text, path.name


def test_code_fingerprint_covers_what_a_program_imports():
    """Modules found by reading equal those really loaded, so no formula can change unnoticed."""
    for name in ("propagate", "postprocess", "evaluate", "convert", "doctor", "table"):
        command = [warm.python(), "-m", "tests.loaded", f"scripts.{name}"]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
        loaded = {p for p in done.stdout.split() if p.startswith((str(ROOT / "corrbench"), str(ROOT / "scripts")))}
        loaded -= {str(ROOT / "scripts/__init__.py")}  # it looks for the environment and imports nothing
        found = {str(p) for p in reached_modules(ROOT / "scripts" / f"{name}.py")}
        assert loaded <= found, f"{name}: {loaded - found}"
