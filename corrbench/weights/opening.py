"""Open a checkpoint file, whatever wrote it: torch (zip, the older stream, tar) and safetensors are read, the rest is named.

Files are known by their content, never by their names.
"""

from __future__ import annotations

import difflib
import json
import pickletools
import shlex
import struct
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import torch

from corrbench.errors import Refusal, few, of_system
from corrbench.reading import is_litter, regular
from corrbench.tensors import check_archive
from corrbench.weights.objects import allowed, refuse_dangerous, unreadable

_HEAD = 4096
"""Bytes by which a file is known."""
_COMPRESSED = {
    b"\x1f\x8b": ("gzip", "gunzip"), b"BZh": ("bzip2", "bunzip2"), b"\xfd7zXZ": ("xz", "unxz"),
    b"\x28\xb5\x2f\xfd": ("zstd", "unzstd"), b"7z\xbc\xaf": ("7-Zip", "7z x"), b"Rar!": ("RAR", "unrar x"),
}  # fmt: skip
_OTHERS = {
    b"\x89HDF": "an HDF5 file (Keras)", b"\x93NUMPY": "a NumPy array", b"GGUF": "a GGUF file",
    b"version https://git-lfs": "a pointer of Git LFS, not the file itself",
}  # fmt: skip


def read_checkpoint(path: Path, *, trust_pickle: bool = False) -> Any:
    """The content of a checkpoint file, on the CPU: nested plain data and tensors.

    Opened with ``weights_only=True`` and an allow-list of plain data. `trust_pickle` opens anything, and therefore runs any
    code in it: only for a file whose origin is known; modules in it come as their state dicts. Raises Refusal that says
    what the file is and how to go on.
    """
    if path.is_dir():
        raise _folder(path)
    if not path.exists() and not path.is_symlink():
        raise Refusal(
            f"{path}: no such checkpoint file",
            expected=_beside(path),
            do="correct the path",
        )
    try:
        with regular(path).open("rb") as file:
            head = file.read(_HEAD)
    except OSError as error:
        raise of_system(error, path) from error
    if _is_safetensors(path, head):
        return _read_safetensors(path)
    zipped = head.startswith(b"PK")
    if zipped:
        _check_zip(path)
    elif tarfile_names(path, head) is not None:
        if not trust_pickle:
            raise _tar(path)
    elif not head.startswith(b"\x80"):
        raise _foreign(path, head)
    elif not _is_stream(path):
        refuse_dangerous(path)
        raise Refusal(
            f"{path}: a plain pickle that torch.save did not write",
            expected="a file of torch.save, or safetensors",
            do="only if you know its origin, because this runs its code: "
            + _command("pickle, torch", f'pickle.load(open({_text(path)}, "rb"))', path),
        )
    try:
        if trust_pickle:
            return _states(torch.load(path, map_location="cpu", weights_only=False))
        with torch.serialization.safe_globals(allowed()):
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # bytes that are no pickle fail in many ways: KeyError, struct.error, ...
        raise unreadable(path, error, trust_pickle=trust_pickle) from error


def _states(value: Any) -> Any:
    """Modules, also inside dictionaries, as their state dicts."""
    if isinstance(value, torch.nn.Module):
        return dict(value.state_dict())
    if isinstance(value, dict):
        return {k: _states(v) if isinstance(v, torch.nn.Module | dict) else v for k, v in value.items()}
    return value


def _command(imports: str, source: str, path: Path) -> str:
    """A line for the shell that saves `source` as a file that can be opened without trust."""
    target = path.with_name(path.stem.removesuffix(".pth") + ".tensors.pth")
    return "python -c " + shlex.quote(f"import {imports}; torch.save({source}, {_text(target)})")


def _text(path: Path) -> str:
    """A path as text of Python, in double quotes: the shell's are single ones."""
    return json.dumps(str(path))


def _beside(path: Path) -> str:
    """What may have been meant, for a message about a file that is missing."""
    names = [p.name for p in path.parent.iterdir() if p.is_file()] if path.parent.is_dir() else []
    close = difflib.get_close_matches(path.name, names, n=1, cutoff=0.6)
    return f"a checkpoint; did you mean {path.parent / close[0]}?" if close else "a checkpoint"


def _folder(path: Path) -> Refusal:
    names = sorted(p.name for p in path.iterdir() if not is_litter(p.name))
    if any(name.endswith(".distcp") for name in names):
        do = (
            f"join its shards first: python -m torch.distributed.checkpoint.format_utils dcp_to_torch {path} {path}.pth"
        )
        return Refusal(f"{path}: a folder, a sharded checkpoint of torch", expected="one file", do=do)
    return Refusal(
        f"{path}: a folder" + (f" with {few(names, 4)}" if names else ""), expected="a file", do="name the file in it"
    )


def _is_safetensors(path: Path, head: bytes) -> bool:
    return len(head) > 8 and head[8:9] == b"{" and struct.unpack("<Q", head[:8])[0] < 100_000_000


def _read_safetensors(path: Path) -> dict[str, Any]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        found: dict[str, Any] = load_file(path, device="cpu")
        return found
    except (SafetensorError, OSError, ValueError, KeyError) as error:
        raise Refusal(
            f"{path}: a safetensors file that is cut or damaged ({' '.join(str(error).split())[:160]})",
            expected="a whole file",
            do="download or copy it again",
        ) from error


def _check_zip(path: Path) -> None:
    """Refuse a zip file that torch.save did not write, or not all of it."""
    size = path.stat().st_size
    if not zipfile.is_zipfile(path):
        raise Refusal(
            f"{path}: a file of torch.save that is cut: its end is missing ({size} bytes are there)",
            expected="a whole file",
            do="download or copy it again",
        )
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, NotImplementedError, ValueError, OSError) as error:
        raise Refusal(
            f"{path}: a damaged zip file ({error})", expected="a file of torch.save", do="download or copy it again"
        ) from error
    inside = {name.partition("/")[2] for name in names}
    if "constants.pkl" in inside or any(name.startswith("code/") for name in inside):
        raise Refusal(
            f"{path}: a TorchScript archive (torch.jit.save), not a checkpoint",
            expected="a state dict",
            do="if you know its origin: " + _command("torch", f'torch.jit.load({_text(path)}, map_location="cpu").state_dict()', path),
        )  # fmt: skip
    if "data.pkl" not in inside:
        raise Refusal(
            f"{path}: a zip archive with {few(names, 3) or 'nothing in it'}",
            expected="a file of torch.save, or safetensors",
            do="unpack it and name the checkpoint in it",
        )
    check_archive(path)


def tarfile_names(path: Path, head: bytes | None = None) -> list[str] | None:
    """Names in a tar archive; None for any other file."""
    if head is not None and head[257:262] != b"ustar":
        return None
    try:
        with tarfile.open(path) as archive:
            return archive.getnames()
    except (tarfile.TarError, OSError, EOFError):
        return [] if head is not None else None


def _tar(path: Path) -> Refusal:
    names = tarfile_names(path) or []
    if not {"storages", "tensors", "pickle"} <= set(names):
        return Refusal(
            f"{path}: a tar archive with {few(names, 3) or 'nothing that can be read'}",
            expected="a file of torch.save, or safetensors",
            do="unpack it and name the checkpoint in it; download it again if it is damaged",
        )
    return Refusal(
        f"{path}: in torch's oldest format (tar, of 2016), which cannot be opened without running code that it may hold",
        expected="a file that torch opens with weights_only=True",
        do="for torchvision's resnet18-5c106cde.pth or resnet50-19c8e357.pth take the same weights in today's format, resnet18-f37072fd.pth or "
        "resnet50-0676ba61.pth, from https://download.pytorch.org/models/; any other file, only if you know its origin, save anew: "
        + _command("torch", f'torch.load({_text(path)}, map_location="cpu", weights_only=False)', path)
        + " (or open it with --trust-pickle)",
    )


def _foreign(path: Path, head: bytes) -> Refusal:
    """What a file is that nothing here reads."""
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    expected = "a file of torch.save, or safetensors"
    if not head:
        return Refusal(f"{path}: an empty file", expected=expected, do="download or copy it again")
    if text.startswith((b"<!doctype", b"<html", b"<?xml", b"<head", b"<script")):
        return Refusal(
            f"{path}: a web page, not a checkpoint",
            expected=expected,
            do="open the address in a browser, where it may ask to confirm or to log in, and save the file itself",
        )
    for magic, what in _OTHERS.items():
        if head.startswith(magic):
            do = "fetch it: git lfs pull" if b"lfs" in magic else "use the file that was saved by PyTorch"
            return Refusal(f"{path}: {what}", expected=expected, do=do)
    for magic, (what, tool) in _COMPRESSED.items():
        if head.startswith(magic):
            return Refusal(f"{path}: compressed with {what}", expected=expected, do=f"unpack it first ({tool})")
    if not head.strip(b"\0"):
        return Refusal(f"{path}: begins with zeros", expected=expected, do="the file is damaged: download it again")
    return Refusal(
        f"{path}: not a readable checkpoint: begins with {head[:16]!r}",
        expected=expected,
        do="check that it is the checkpoint; if it should be, it is damaged: download it again",
    )


def _is_stream(path: Path) -> bool:
    """True for torch's format before 1.6: several pickles in a row, the first of which is a magic number."""
    try:
        with path.open("rb") as file:
            return any(
                argument == torch.serialization.MAGIC_NUMBER
                for _, (_, argument, _) in zip(range(4), pickletools.genops(file), strict=False)
            )
    except (ValueError, OSError, UnicodeDecodeError):
        return True  # damaged: torch says how
