"""Build step: the wheel carries the workflow, its rows and its programs as data of the package (corrbench/resources.py)."""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).parent
FOLDERS = ("config", "workflow", "scripts", "profiles", "slurm", "envs")


class Carry(build_py):
    """Copy the top-level folders of the checkout into ``corrbench/carried/``."""

    def run(self):
        super().run()
        place = Path(self.build_lib) / "corrbench" / "carried"
        shutil.rmtree(place, ignore_errors=True)
        for name in FOLDERS:
            shutil.copytree(ROOT / name, place / name, ignore=shutil.ignore_patterns("__pycache__", "*.pyc"))
        shutil.copy(ROOT / "Snakefile", place / "Snakefile")


setup(cmdclass={"build_py": Carry})
