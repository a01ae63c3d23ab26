"""What trainings of a config read and wrote, as it lies there now."""

from __future__ import annotations

import importlib
from pathlib import Path

from corrbench.config import Config
from corrbench.entries import Entry
from corrbench.pretraining.recipe import Recipe, method_module, pretrain_code
from corrbench.provenance import code_version
from corrbench.workflow import Notes


def data_fingerprint(config: Config, recipe: Recipe, notes: Notes) -> str:
    """What the index of a recipe's data lists now. Read once: the module that reads it imports torch."""
    index = config.results / "frames" / recipe.data / "index.csv"
    what = f"index {recipe.method} {pretrain_code(recipe.method)}"
    return notes.remembered(what, {"index": index}, lambda: _fingerprint(index, recipe.method))


def _fingerprint(index: Path, method: str) -> str:
    from corrbench.datasets.videos import Index  # it imports OpenCV

    opened = getattr(importlib.import_module(method_module(method)), "open_reader", None)
    return str(opened(index.parent, index).index.fingerprint if opened else Index.read(index).fingerprint)


def head_of(config: Config, entry: Entry, notes: Notes) -> str | None:
    """Hash of the trained layer of an entry's probe; None where it has none, or where none lies there. Read once."""
    folder = config.probe_folder(entry)
    if folder is None or not (folder / "checkpoint.pth").is_file():
        return None
    what = f"head {code_version('scripts/track.py')}"
    return notes.remembered(what, {"head": folder / "checkpoint.pth"}, lambda: _head(folder / "checkpoint.pth"))


def _head(path: Path) -> str:
    from corrbench.tracking.siamfc import head_hash  # it imports torch, which a table without probes does not need

    return head_hash(path)
