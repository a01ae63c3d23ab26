"""What a run goes on from: ``last.pt``, sealed, with the log up to its step; and whether a folder is a run's."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from corrbench.errors import Refusal
from corrbench.files import SEAL, digest, read_json
from corrbench.reading import read_text
from corrbench.tensors import load_sealed, save_sealed

STATE, LOG = "last.pt", "log.jsonl"
_DO = "move it away to start this run anew from its first step, or put back a copy that is whole"
_TYPES: dict[str, type] = {
    "model": dict,
    "optimizer": dict,
    "step": int,
    "identity": dict,
    "segments": list,
    "log": list,
}
_WRITTEN = ("checkpoint.pth", "recipe.json", "curves.png", LOG)


def save_state(folder: Path, state: dict[str, Any]) -> None:
    """Write ``last.pt`` with a digest of its content; the old one stays until the new one is complete."""
    save_sealed(folder / STATE, state)


def load_state(path: Path) -> dict[str, Any] | None:
    """The saved state of a run: model, optimizer, step, identity, segments, and the log as a list of lines.

    None where there is none. Raises Refusal for a file that is damaged, altered or not ours: a run never starts over by itself.
    """
    if not (path.exists() or path.is_symlink()):
        return None
    state = load_sealed(path, "the saved state of a pretraining run", _DO)
    wrong = [k for k, kind in _TYPES.items() if not isinstance(state.get(k), kind)]
    if wrong or not all(isinstance(line, str) for line in state["log"]):
        raise Refusal(f"{path}: without {', '.join(wrong) or 'a log'}", expected="the saved state of a run", do=_DO)
    return state


def set_aside(folder: Path, identity: Mapping[str, Any]) -> Path:
    """Where the state of a run is kept while another run has its folder."""
    return folder / f"last.{digest(identity, 8)}.pt"


def check_state(path: Path, state: dict[str, Any], total: int) -> None:
    """Raise Refusal for a state of the same run that cannot be gone on from: a step outside the run, numbers that are not finite."""
    if not 0 <= state["step"] <= total:
        raise Refusal(
            f"{path}: saved after step {state['step']}", expected=f"at most the {total} steps of the run", do=_DO
        )
    for name, value in state["model"].items():
        if torch.is_tensor(value) and value.is_floating_point() and not torch.isfinite(value).all():
            raise Refusal(f"{path}: {name} holds values that are not finite", expected="finite numbers", do=_DO)


def does_not_fit(path: Path, error: Exception) -> Refusal:
    """The refusal for a state whose tensors are not those of the run's network or optimizer."""
    said = str(error).splitlines() or [type(error).__name__]
    return Refusal(
        f"{path}: does not fit this run: {said[-1].strip()[:200]}", expected="the state of this recipe", do=_DO
    )


def refuse_foreign(folder: Path) -> None:
    """Raise Refusal when a folder holds files under a run's names that no run wrote: the run would replace them."""
    there = [name for name in _WRITTEN if (folder / name).exists()]
    if not any((folder / name).stat().st_size for name in there):
        return
    if (folder / STATE).exists() or _is_record(folder / "recipe.json") or _is_log(folder / LOG):
        return
    raise Refusal(
        f"{folder}: holds {', '.join(there)} that no pretraining wrote; nothing was changed",
        expected="an empty folder, or that of an earlier run",
        do="name another --out, or move these files elsewhere",
    )


def _is_record(path: Path) -> bool:
    try:
        found = read_json(path)
    except Refusal:
        return False
    return isinstance(found, dict) and (set(found) >= {"recipe", "seed", "steps"} or SEAL in found)


def _is_log(path: Path) -> bool:
    """Whether a file holds a line of a run's log; the rest of it may be cut or damaged."""
    try:
        lines = read_text(path).splitlines()
    except Refusal:
        return False
    return any(_is_line(line) for line in lines)


def _is_line(text: str) -> bool:
    try:
        line = json.loads(text)
    except ValueError:
        return False
    return isinstance(line, dict) and set(line) >= {"step", "loss", "seconds"}
