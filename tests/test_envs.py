"""The environments install one set of versions."""

import re

import yaml
from conftest import ROOT

from corrbench.provenance import reached_modules

NAMES = {"cv2": "opencv-python-headless", "yaml": "pyyaml", "PIL": "pillow"}


def pins():
    lines = (ROOT / "requirements.txt").read_text().splitlines()
    found = (re.match(r"([A-Za-z0-9_.-]+)==(\S+)", line) for line in lines)
    return {m[1].lower(): m[2] for m in found if m}


def conda_pins():
    dependencies = yaml.safe_load((ROOT / "envs/corrbench.yaml").read_text())["dependencies"]
    lines = next(d["pip"] for d in dependencies if isinstance(d, dict))
    return dict(line.split("==") for line in lines)


def test_conda_has_the_pins_of_requirements():
    assert conda_pins().items() <= pins().items()


def test_conda_has_what_the_stages_import():
    """Every package that a program of a rule imports, directly or through the library."""
    programs = set(
        re.findall(r"-m scripts\.(\w+)", "".join(p.read_text() for p in (ROOT / "workflow/rules").glob("*.smk")))
    )
    imported = set()
    for program in programs:
        for module in reached_modules(ROOT / "scripts" / f"{program}.py"):
            imported |= set(re.findall(r"^\s*(?:import|from) (\w+)", module.read_text(), re.MULTILINE))
    third = imported - set(__import__("sys").stdlib_module_names) - {"corrbench", "scripts", "davis2017"}
    assert {NAMES.get(name, name) for name in third} <= set(conda_pins())


def test_the_container_installs_the_lock():
    text = (ROOT / "envs/Dockerfile").read_text()
    assert "requirements.txt" in text and "--no-deps" in text
    assert re.search(r"FROM python:3\.11", text)
