"""Where a number came from: code, libraries, device."""

from __future__ import annotations

import ast
import hashlib
import json
import platform
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from importlib.util import cache_from_source
from pathlib import Path
from typing import Any

from corrbench.errors import Refusal
from corrbench.files import atomic
from corrbench.resources import file_of, name_of

NEUTRAL = frozenset(
    f"corrbench/{name}.py"
    for name in (
        "changes",
        "errors",
        "files",
        "outputs",
        "progress",
        "provenance",
        "resources",
        "rows",
        "yamls",
        "pretraining/cost",
        "pretraining/curves",
        "pretraining/drawing",
        "pretraining/watching",
    )
)
"""Modules that no number passes through: they talk to people, draw, write what they are given, or read settings that are
compared themselves."""


@cache
def code_version(script: str) -> str:
    """12 hex digits over the syntax trees of a program and of every project module that it reaches.

    `script` is a name below the project (``scripts/evaluate.py``). What cannot move a number does not count: comments,
    docstrings, formatting, the words of a refusal (anything after ``raise``) and the modules of `NEUTRAL`. So an edited
    comment leaves the version as it is, and an edited formula changes it for exactly the stages that use it.
    """
    hasher = hashlib.sha256()
    for name, path in sorted((name_of(path), path) for path in reached_modules(file_of(script))):
        if name not in NEUTRAL:
            hasher.update(f"{name}\n{_read(path).formulas}\n".encode())
    return hasher.hexdigest()[:12]


@dataclass(frozen=True)
class _Module:
    """What reading a module tells."""

    formulas: str
    """SHA-256 of what can move a number in it."""
    imports: tuple[str, ...]
    """Names of the modules that it may import, with those of what it takes from them, sorted."""


@cache
def _read(path: Path) -> _Module:
    """Read a module, or take what an earlier process found in the same source.

    Parsing all modules takes more than a second of CPU, and every short program of a run needs the result. It is therefore
    kept beside the compiled module, with a SHA-256 over the module, the code that read it and the result itself.
    """
    source = path.read_bytes()
    kept = Path(cache_from_source(str(path))).with_suffix(".formulas")
    with suppress(OSError, ValueError, TypeError, LookupError):
        digest, formulas, names = json.loads(kept.read_text())
        if digest == _digest(source, formulas, names):
            return _Module(formulas, tuple(names))
    tree = ast.parse(source)
    imports = sorted(_imported(tree))
    module = _Module(hashlib.sha256(_dump(_Formulas().visit(tree)).encode()).hexdigest(), tuple(imports))
    if not sys.dont_write_bytecode:
        with suppress(OSError, Refusal):  # a read-only or full disk costs time, nothing else
            kept.parent.mkdir(parents=True, exist_ok=True)
            with atomic(kept) as temporary:
                temporary.write_text(json.dumps([_digest(source, module.formulas, imports), module.formulas, imports]))
    return module


def _digest(source: bytes, formulas: str, imports: list[str]) -> str:
    """SHA-256 over a module, what was found in it, and this file, which found it."""
    return hashlib.sha256(_reader() + source + json.dumps([formulas, imports]).encode()).hexdigest()


@cache
def _reader() -> bytes:
    return hashlib.sha256(Path(__file__).read_bytes()).digest()


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
        new = set(_read(path).imports) - names
        names |= new
        for name in new:
            todo += _files_of(name)
    return sorted(seen)


@cache
def _files_of(name: str) -> tuple[Path, ...]:
    """The project files that run when a module is imported: importing a.b runs a/__init__.py too."""
    parent, _, _ = name.rpartition(".")
    above = _files_of(parent) if parent else ()
    if parent and not above and not file_of(parent.replace(".", "/")).is_dir():
        return ()  # nothing of this project
    stem = file_of(name.replace(".", "/"))
    return (*above, *(p for p in (stem.with_suffix(".py"), stem / "__init__.py") if p.is_file()))


def _imported(tree: ast.AST) -> set[str]:
    """Names of the modules that a module may import, with those of what it takes from them; not what only type checkers import."""
    names: set[str] = set()
    for node in _run(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


def _run(tree: ast.AST) -> Iterator[ast.AST]:
    """All nodes of a module but those below ``if TYPE_CHECKING:``."""
    yield tree
    typed = isinstance(tree, ast.If) and isinstance(tree.test, ast.Name) and tree.test.id == "TYPE_CHECKING"
    for child in tree.orelse if typed else ast.iter_child_nodes(tree):  # type: ignore[attr-defined]
        yield from _run(child)


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
