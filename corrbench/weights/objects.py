"""Objects beside tensors in a checkpoint: the plain ones that are let in, and the words for all others."""

from __future__ import annotations

import argparse
import importlib.util
import pathlib
import pickletools
import re
import struct
import types
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from corrbench.errors import Refusal, few

_DANGEROUS = re.compile(
    r"(posix|nt|os|sys|subprocess|shutil|socket|importlib|runpy|pty|ctypes|webbrowser|code|pickle)\.|builtins\.(eval|exec|getattr|compile|open|__import__)$"
)
_PLAIN_TO_TORCH = re.compile(
    r"torch\.\w+$|torch\.(_utils|storage|_tensor)\.|torch\.nn\.parameter\.|torch\.serialization\._get_layout$"
    r"|collections\.(OrderedDict|Counter)$|_codecs\.encode$|builtins\.(set|bytearray|complex)$"
)
_AS_PYTHON_3 = {"__builtin__": "builtins", "copy_reg": "copyreg", "commands": "subprocess"}
"""Modules whose names pickle writes as Python 2 had them."""


def _plain_dict(*arguments: Any) -> dict[Any, Any]:
    """What stands in for a defaultdict: torch fills nothing but plain dictionaries."""
    return {}


def _pure(kind: type[pathlib.PurePath]) -> list[tuple[Any, str]]:
    name = kind.__name__
    pure = pathlib.PureWindowsPath if "Windows" in name else pathlib.PurePosixPath
    return [(pure, f"pathlib.{name}"), (pure, f"pathlib._local.{name}")]


def allowed() -> list[Any]:
    """Names beside torch's own that a checkpoint may use: plain data that training scripts save, none of which acts."""
    names: list[Any] = [argparse.Namespace, types.SimpleNamespace, np.ndarray, np.dtype, (_plain_dict, "collections.defaultdict")]  # fmt: skip
    names += [(kind, f"builtins.{kind.__name__}") for kind in (list, dict, int, float, str, tuple)]
    rebuild = {"scalar": np.float64(0).__reduce__()[0], "_reconstruct": np.zeros(1).__reduce__()[0]}
    for module in ("numpy._core.multiarray", "numpy.core.multiarray"):  # NumPy 2 and 1
        names += [(function, f"{module}.{name}") for name, function in rebuild.items()]
    names += [type(np.dtype(code)) for code in "?bBhHiIlLqQefdgFDSU"]
    for path in (pathlib.PosixPath, pathlib.PurePosixPath, pathlib.WindowsPath, pathlib.PureWindowsPath):
        names += _pure(path)
    return names


def refuse_dangerous(path: Path) -> None:
    """Raise Refusal for a file that names what no checkpoint needs: commands, code, files."""
    if dangerous := sorted({name for name in _names_in(path) if _DANGEROUS.match(name)}):
        raise Refusal(
            f"{path}: would run {few(dangerous, 3)} when it is opened, which no checkpoint needs",
            expected="tensors and plain data",
            do="do not open it, and do not trust its origin",
        )


def unreadable(path: Path, error: Exception, *, trust_pickle: bool) -> Refusal:
    """Why torch did not open a file of its own format."""
    said = " ".join(re.sub(r"\x1b\[\d*m", "", str(error)).split())
    if trust_pickle:
        missing = isinstance(error, ModuleNotFoundError | AttributeError | ImportError)
        return Refusal(
            f"{path}: {type(error).__name__}: {said[:200]}",
            expected="a checkpoint whose code can be imported here" if missing else "a whole checkpoint",
            do=_export(path) if missing else "the file is damaged or no checkpoint: download or copy it again",
        )
    refuse_dangerous(path)
    foreign = sorted(set(_names_in(path)))
    if not foreign and not said.startswith("Weights only load failed"):
        return Refusal(
            f"{path}: not a readable checkpoint ({type(error).__name__}: {said[:200]})",
            expected="a whole file of torch.save",
            do="it is cut or damaged: download or copy it again",
        )
    if not foreign:
        return Refusal(
            f"{path}: holds more than tensors and plain data, or was saved with another pickle protocol than 2 ({said[-160:]})",
            expected="a checkpoint that torch opens with weights_only=True",
            do="if you know its origin, `trust_pickle: true` (or --trust-pickle) opens it and runs its code",
        )
    modules = [name for name in foreign if name.startswith("torch.nn.modules.") and ".loss." not in name]
    what = "whole pickled modules, not their state dicts" if modules else "more than tensors and plain data"
    own = [name for name in foreign if not name.startswith("torch.")] or foreign
    away = sorted({name.partition(".")[0] for name in foreign if not _is_importable(name)})
    return Refusal(
        f"{path}: holds {what} ({few(own, 3)})",
        expected="a checkpoint that torch opens with weights_only=True",
        do=f"{few(away, 3)} cannot be imported here, so {_export(path)}"
        if away
        else "if you know its origin, `trust_pickle: true` (or --trust-pickle) opens it and runs its code"
        + (" to take the state dicts" if modules else ""),
    )


def _export(path: Path) -> str:
    return (
        f"where the file was made, save its tensors alone: x = torch.load({path.name!r}, weights_only=False); then "
        "torch.save(x.state_dict(), 'tensors.pth') for a module, torch.save(x['state_dict'], 'tensors.pth') for a dictionary"
    )


def _is_importable(name: str) -> bool:
    top = name.partition(".")[0]
    try:
        return top not in ("__main__", "__mp_main__") and importlib.util.find_spec(top) is not None
    except (ImportError, ValueError):
        return False


def _names_in(path: Path) -> Iterator[str]:
    """Classes and functions that a file would import and that are neither torch's own plain ones nor on the allow-list."""
    known = {n[1] if isinstance(n, tuple) else f"{n.__module__}.{n.__qualname__}" for n in allowed()}
    for name in _globals_of(path):
        module, _, rest = name.partition(" ")
        full = f"{_AS_PYTHON_3.get(module, module)}.{rest}"
        if full not in known and not _PLAIN_TO_TORCH.match(full):
            yield full


def _globals_of(path: Path) -> Iterator[str]:
    """What the pickles of a file name, as ``module name``; read without running anything."""
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                streams: list[Any] = [archive.open(n) for n in archive.namelist() if n.endswith("/data.pkl")]
                for stream in streams:
                    yield from _globals_in(stream)
        else:
            with path.open("rb") as file:
                for _ in range(5):  # magic number, protocol, system, content, keys of storages
                    yield from _globals_in(file)
    except (ValueError, OSError, EOFError, zipfile.BadZipFile, UnicodeDecodeError, struct.error):
        return


def _globals_in(stream: Any) -> Iterator[str]:
    strings: list[str] = []
    for opcode, argument, _ in pickletools.genops(stream):
        if opcode.name == "GLOBAL":
            yield str(argument)
        elif opcode.name == "STACK_GLOBAL" and len(strings) > 1:
            yield f"{strings[-2]} {strings[-1]}"
        elif isinstance(argument, str):
            strings.append(argument)
