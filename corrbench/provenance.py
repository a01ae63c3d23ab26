"""Where a number came from: code, libraries, device."""

from __future__ import annotations

import ast
import hashlib
import platform
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
"""The checkout."""


NEUTRAL = frozenset(
    f"corrbench/{name}.py"
    for name in (
        "changes",
        "errors",
        "files",
        "outputs",
        "progress",
        "provenance",
        "rows",
        "yamls",
        "pretraining/cost",
        "pretraining/curves",
    )
)
"""Modules that no number passes through: they talk to people, draw, write what they are given, or read settings that are
compared themselves."""


@cache
def code_version(script: str) -> str:
    """12 hex digits over the syntax trees of a program and of every project module that it reaches.

    `script` is relative to the checkout (``scripts/evaluate.py``). What cannot move a number does not count: comments,
    docstrings, formatting, the words of a refusal (anything after ``raise``) and the modules of `NEUTRAL`. So an edited
    comment leaves the version as it is, and an edited formula changes it for exactly the stages that use it.
    """
    hasher = hashlib.sha256()
    for path in reached_modules(ROOT / script):
        name = path.relative_to(ROOT).as_posix()
        if name not in NEUTRAL:
            hasher.update(f"{name}\n{_formulas(path.read_text())}\n".encode())
    return hasher.hexdigest()[:12]


@cache  # by content, for all programs: most modules are reached by many
def _formulas(source: str) -> str:
    """What can move a number in a module, as text."""
    return _dump(_Formulas().visit(ast.parse(source)))


def _dump(node: object) -> str:
    """A syntax tree as text, alike under every version of Python: `ast.dump` gains and loses empty fields."""
    if isinstance(node, list):
        return "[" + ",".join(map(_dump, node)) + "]"
    if not isinstance(node, ast.AST):
        return repr(node)
    fields = [(name, value) for name, value in ast.iter_fields(node) if value is not None and value != []]
    return type(node).__name__ + "(" + ",".join(f"{name}={_dump(value)}" for name, value in fields) + ")"


class _Formulas(ast.NodeTransformer):
    """Leaves out what is only said: bare strings (docstrings, wherever they stand) and what is raised."""

    def visit_Expr(self, node: ast.Expr) -> ast.AST | None:
        bare = isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
        return None if bare else self.generic_visit(node)

    def visit_Raise(self, node: ast.Raise) -> ast.AST:
        return ast.Raise()


@cache
def reached_modules(script: Path) -> list[Path]:
    """The program and the project modules that it imports, directly or not, found by reading them."""
    seen: set[Path] = set()
    names: set[str] = set()
    todo = [script]
    while todo:
        path = todo.pop()
        if path in seen:
            continue
        seen.add(path)
        new = _imported(path.read_text()) - names
        names |= new
        for name in new:
            parts = name.split(".")
            for i in range(1, len(parts) + 1):  # importing a.b runs a/__init__.py too
                stem = ROOT.joinpath(*parts[:i])
                todo += [p for p in (stem.with_suffix(".py"), stem / "__init__.py") if p.is_file()]
    return sorted(seen)


@cache  # by content, as the formulas
def _imported(source: str) -> frozenset[str]:
    """Names of the modules that a module may import, with those of what it takes from them."""
    names: list[str] = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    return frozenset(names)


def libraries() -> dict[str, str]:
    """Versions that can move a number."""
    names = ("torch", "torchvision", "numpy", "opencv-python-headless", "opencv-python", "pillow")
    found = {"python": platform.python_version()}
    for name in names:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def device_name(device: Any) -> str:
    """A readable name of a torch device."""
    import torch

    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"cpu ({platform.machine()})"
