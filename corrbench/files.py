"""Small file helpers that every stage shares: atomic writes, hashes, JSON, records that carry their own digest."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import secrets
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from corrbench.errors import DiskFull, Refusal, of_system
from corrbench.reading import read_text, user_path

SEAL = "record_sha256"
"""The key of a record under which the digest of its content stands."""
COSTS = frozenset(
    (
        "seconds",
        "fps",
        "speed_fps",
        "gpu_seconds",
        "peak_ram_mb",
        "peak_gpu_mb",
        "waited",
        "waiting_share",
        "samples_per_second",
    )
)
"""Keys of a record that say what a run cost. They differ from run to run and are not sealed: equal results have equal digests."""


@contextmanager
def atomic(path: Path | str) -> Iterator[Path]:
    """Give a temporary name beside `path`; rename it to `path` when the block ends well, remove it otherwise.

    A killed job therefore leaves nothing that looks finished. Works for a file or for a folder that the block makes; a
    folder that is there already is replaced (`outputs.made_folder` first looks at what is in it). What `path` links to is
    written, so a link to another disk stays one. Raises DiskFull, and Refusal where nothing can be written.
    """
    path = linked(Path(path))
    # process and chance keep two jobs apart, also of two hosts; the suffix stays last because writers choose the format by it
    temporary = path.with_name(f".{path.stem}.{os.getpid()}-{secrets.token_hex(3)}.tmp{path.suffix}")
    try:
        with full_disk_refused(path):
            make_parents(path)
            yield temporary
            _replace(temporary, path)
    finally:
        try:
            if temporary.is_dir():
                shutil.rmtree(temporary, ignore_errors=True)
            else:
                temporary.unlink(missing_ok=True)
        except OSError:
            pass  # what could not be written cannot be removed either; the first error says why


def linked(path: Path) -> Path:
    """Where a path leads that is a link (to a place that need not be there yet); any other path as it is."""
    return Path(os.path.realpath(path)) if path.is_symlink() else path


def make_parents(path: Path) -> None:
    """Make the folders above `path`. Raises Refusal that names the one that cannot be made."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise of_system(error, path.parent) from error


def _replace(temporary: Path, path: Path) -> None:
    try:
        if temporary.is_dir() and path.is_dir():
            # a folder cannot be renamed over one with files: the old one steps aside, so no half of either has the name
            aside = path.with_name(f".{path.stem}.{os.getpid()}-{secrets.token_hex(3)}.tmp{path.suffix}")
            os.replace(path, aside)
            os.replace(temporary, path)
            shutil.rmtree(aside, ignore_errors=True)
            return
        os.replace(temporary, path)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise of_system(OSError(error.errno, error.strerror, str(path))) from error


@contextmanager
def full_disk_refused(path: Path) -> Iterator[None]:
    """Turn a write of the block that found no room into DiskFull for `path`, also where a library put its own words over it."""
    before = sys.exc_info()[1]  # what was being handled already is no cause
    try:
        yield
    except DiskFull:
        raise
    except Exception as error:
        cause: BaseException | None = error
        while cause is not None and getattr(cause, "errno", None) not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            cause = cause.__cause__ or (None if cause.__suppress_context__ else cause.__context__)
            cause = None if cause is before else cause
        if cause is None:
            raise
        raise DiskFull(
            f"{path}: cannot be written, the disk is full or a quota is used up ({cause})",
            expected="room for it",
            do="free some space, or put `results:` on a larger disk, and run again: what is finished is kept",
        ) from error


def check_room(folder: Path, needed: float, found: str, do: str) -> None:
    """Refuse work that will need `needed` more bytes below `folder` when fewer are free; `found` says what needs them."""
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise DiskFull(f"{found}, {free / 1e9:.1f} GB are free at {folder}", expected="room for all of it", do=do)


def save_tensors(path: Path, value: Any) -> None:
    """``torch.save``, atomically. The bytes follow from `value` alone, and a full disk is noticed: both are not so by name."""
    import torch  # planning reads this module and must not wait for torch

    with atomic(path) as temporary, temporary.open("wb") as file:
        torch.save(value, file)


def canonical_json(value: Any) -> str:
    """JSON that does not depend on key order or white space, so that equal settings give equal text."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def digest(value: Any, length: int = 12) -> str:
    """First `length` hex digits of the sha256 of the canonical JSON of `value`."""
    return hashlib.sha256(canonical_json(value).encode("utf-8", "surrogateescape")).hexdigest()[:length]


def file_hash(path: Path | str, algorithm: str = "sha256") -> str:
    """Hex digest of a file. `algorithm` is any of hashlib's, or `git-blob` (what ``git hash-object`` prints)."""
    path = Path(path)
    try:
        if algorithm == "git-blob":
            hasher = hashlib.sha1(f"blob {path.stat().st_size}\0".encode(), usedforsecurity=False)
        else:
            hasher = hashlib.new(algorithm, usedforsecurity=False)
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                hasher.update(block)
    except OSError as error:
        raise of_system(error, path) from error
    return hasher.hexdigest()


def write_json(path: Path | str, value: Any) -> None:
    """Write `value` as indented JSON, atomically. Raises Refusal for a number that is not finite: no file holds one."""
    try:
        text = json.dumps(value, indent=2, sort_keys=False, ensure_ascii=False, allow_nan=False)
    except ValueError as error:
        raise Refusal(
            f"{path}: would hold a number that is not finite ({error})",
            expected="finite numbers",
            do="look at what the stage before it wrote; nothing was written",
        ) from error
    with atomic(path) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")


def read_json(path: Path | str) -> Any:
    """Read a JSON file. Raises Refusal for one that is missing, no file, cut or no JSON."""
    try:
        return json.loads(read_text(Path(path)))
    except (ValueError, RecursionError) as error:
        raise Refusal(
            f"{path}: not valid JSON ({error})", expected="a whole JSON file", do="remove it, and make it again"
        ) from error


def json_option(text: str, option: str, expected: str = "JSON") -> Any:
    """The value of an option that is JSON. Raises Refusal that names the option."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise Refusal(f"{option}: not valid JSON ({error})", expected=expected, do=f"correct {option}") from error


def path_options(text: str, option: str) -> dict[str, Path]:
    """The value of an option that is a JSON object of paths by name. Raises Refusal for anything else."""
    paths = json_option(text, option)
    if not isinstance(paths, dict) or not all(isinstance(path, str) for path in paths.values()):
        raise Refusal(f"{option}: {text[:80]}", expected="a JSON object of paths by name", do='write {"name": "/path"}')
    return {name: user_path(path) for name, path in paths.items()}


def settings_of(text: str) -> dict[str, Any]:
    """The value of a --settings option: JSON, as the workflow gives it. Raises Refusal for anything else."""
    value = json_option(text, "--settings", "an object as the workflow gives it")
    if not isinstance(value, dict):
        raise Refusal(f"--settings: a {type(value).__name__}", expected="an object as the workflow gives it")
    return value


def write_record(path: Path | str, value: Mapping[str, Any]) -> None:
    """Write a record as JSON with a digest of its own content, by which `read_record` knows that nothing was altered."""
    write_json(path, {**value, SEAL: seal(value)})


def seal(value: Mapping[str, Any]) -> str:
    """The digest of a record's content: everything but its costs and the digest itself."""

    def without_costs(item: Any) -> Any:
        if isinstance(item, dict):
            return {k: without_costs(v) for k, v in item.items() if k not in COSTS}
        return [without_costs(v) for v in item] if isinstance(item, list) else item

    plain = json.loads(json.dumps(dict(value)))
    return digest(without_costs({k: v for k, v in plain.items() if k != SEAL}), 64)


def read_record(
    path: Path | str,
    what: str = "a record",
    do: str = "remove it, and run the stage that wrote it again",
    keys: Sequence[str] = (),
) -> dict[str, Any]:
    """Read what `write_record` wrote. `what` and `do` say, in a refusal, what the file is and how it is made again.

    Raises Refusal for a file that is missing, cut or no JSON, whose content was altered since, or that is another kind
    of record: one without some of `keys`.
    """
    value = read_json(path)
    if not isinstance(value, dict) or value.get(SEAL) != seal(value):
        old = isinstance(value, dict) and SEAL not in value
        raise Refusal(
            f"{path}: " + ("has no digest of its content" if old else "its content is not what was written"),
            expected=f"{what} as corrbench wrote it",
            do=do,
        )
    if lacking := [key for key in keys if key not in value]:
        raise Refusal(
            f"{path}: another kind of record, without {', '.join(lacking)}",
            expected=what,
            do="name the file of that kind",
        )
    return value


def content_digest(value: Any) -> str:
    """sha256 over nested plain data and tensors: names, types, shapes, bytes. Equal content gives equal digests."""
    hasher = hashlib.sha256()

    def feed(item: Any) -> None:
        if hasattr(item, "detach"):
            tensor = item.detach().cpu().contiguous()
            hasher.update(f"tensor:{tensor.dtype}:{tuple(tensor.shape)}\n".encode())
            hasher.update(tensor.reshape(-1).view(dtype=_bytes_type()).numpy().tobytes() if tensor.numel() else b"")
        elif isinstance(item, Mapping):
            hasher.update(f"map:{len(item)}\n".encode())
            for key in sorted(item, key=repr):
                hasher.update(f"{key!r}\n".encode())
                feed(item[key])
        elif isinstance(item, (list, tuple)):
            hasher.update(f"list:{len(item)}\n".encode())
            for inner in item:
                feed(inner)
        elif item is None or isinstance(item, (bool, int, float, complex, str, bytes)):
            hasher.update(f"{type(item).__name__}:{item!r}\n".encode())
        elif hasattr(item, "tobytes"):  # numpy
            hasher.update(f"array:{item.dtype}:{item.shape}\n".encode() + item.tobytes())
        else:
            hasher.update(f"{type(item).__name__}:{item!r}\n".encode())

    feed(value)
    return hasher.hexdigest()


def _bytes_type() -> Any:
    import torch

    return torch.uint8
