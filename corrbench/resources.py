"""Where the rows, schemas, programs and rules of the workflow are: in a checkout, or inside the installed package."""

from __future__ import annotations

from pathlib import Path

PACKAGE = Path(__file__).resolve().parent
CARRIED = PACKAGE / "carried"
"""What a wheel carries of the checkout's top-level folders (setup.py)."""
FOLDERS = ("config", "workflow", "scripts", "profiles", "slurm", "envs")
"""Top-level folders of the checkout that an installation needs."""


def _is_checkout(folder: Path) -> bool:
    return (folder / "Snakefile").is_file() and (folder / "workflow" / "schemas").is_dir()


HOME = PACKAGE.parent if _is_checkout(PACKAGE.parent) else CARRIED
"""The folder with ``config/``, ``workflow/``, ``scripts/`` and the Snakefile."""


def file_of(name: str) -> Path:
    """The file with a name below the project (``scripts/evaluate.py``, ``corrbench/metrics/davis.py``)."""
    return (PACKAGE.parent if name.split("/")[0] == "corrbench" else HOME) / name


def name_of(path: Path) -> str:
    """The inverse of `file_of`: the same in a checkout and in an installation."""
    base = HOME if path.is_relative_to(HOME) else PACKAGE.parent
    return path.relative_to(base).as_posix()


def programs() -> dict[str, Path]:
    """The command-line programs by name: ``server_scores`` is ``scripts/server_scores.py``."""
    return {path.stem: path for path in sorted((HOME / "scripts").glob("*.py")) if path.stem != "__init__"}
