"""Bytes, texts and lists of files as users have them on disk: what is unambiguous is read, everything else refused by name."""

from __future__ import annotations

import argparse
import os
import re
import stat
from collections import Counter
from collections.abc import Sequence
from itertools import islice, pairwise
from pathlib import Path

from corrbench.errors import Refusal, few, of_system

_ENCODINGS = ((b"\xff\xfe\x00\x00", "UTF-32"), (b"\xff\xfe", "UTF-16"), (b"\xfe\xff", "UTF-16"))
_SYSTEM = re.compile(r"thumbs\.db|desktop\.ini|__macosx|\.ds_store|\._.*|\.directory|\.nfs[0-9a-f]+", re.IGNORECASE)
"""What Windows, macOS, KDE and NFS leave in folders."""


def user_path(text: str) -> Path:
    """A path as a user writes it on a command line: ``~`` is the home folder, also in ``--out=~/x``, where no shell says so."""
    return Path(os.path.expanduser(text))


def expand(path: str) -> str:
    """A path with its environment variables (``$SCRATCH``, ``${SCRATCH}``) and its leading ``~`` or ``~user`` replaced.

    A variable that is not set stays as it is: a folder may have a ``$`` in its name. Raises Refusal for a user that does
    not exist.
    """
    path = os.path.expandvars(path)
    if not path.startswith("~"):
        return path
    try:
        return str(Path(path).expanduser())
    except RuntimeError as error:
        raise Refusal(f"{path}: {error}", expected="a path", do="write the path in full") from error


def regular(path: Path) -> Path:
    """The path, if it leads to an ordinary file. Raises Refusal by name for anything else: missing, a folder, a dangling
    link, a link to itself, a pipe or a device."""
    try:
        mode = path.stat().st_mode
    except FileNotFoundError as error:
        found = f"a link to {path.readlink()}, which is missing" if path.is_symlink() else "no such file"
        raise Refusal(f"{path}: {found}", expected="a file", do="correct the path, or put the file there") from error
    except (OSError, ValueError) as error:
        if isinstance(error, OSError):
            raise of_system(error, path) from error
        raise Refusal(f"{path!r}: {error}", expected="a path", do="correct the path") from error
    if not stat.S_ISREG(mode):
        kind = "a folder" if stat.S_ISDIR(mode) else "no ordinary file (a pipe, a socket or a device)"
        raise Refusal(f"{path}: {kind}", expected="a file", do="correct the path, or put the file there")
    return path


def read_bytes(path: Path) -> bytes:
    """The content of an ordinary file. Raises Refusal by name for anything else and for what this user may not read."""
    try:
        return regular(path).read_bytes()
    except OSError as error:
        raise of_system(error, path) from error


def read_text(path: Path) -> str:
    """A UTF-8 text, with or without a byte order mark, line ends as ``\\n``. Raises Refusal that names any other encoding."""
    return decode_text(path, read_bytes(path))


def decode_text(path: Path, data: bytes) -> str:
    """The text in the bytes of a file, as `read_text`; `path` is for the message."""
    other = next((name for mark, name in _ENCODINGS if data.startswith(mark)), None)
    try:
        if other is not None:
            raise UnicodeError
        text = data.decode("utf-8-sig")
    except UnicodeError as error:
        found = other or f"not UTF-8 (line {data[: getattr(error, 'start', 0)].count(10) + 1})"
        raise Refusal(
            f"{path}: {'encoded as ' if other else ''}{found}",
            expected="text encoded as UTF-8",
            do=f"save it as UTF-8, for example: iconv -f {other or 'LATIN1'} -t UTF-8",
        ) from error
    return text.replace("\r\n", "\n").replace("\r", "\n")


def positive(text: str) -> int:
    """A whole number above 0, as a type of argparse."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{value}: expected a whole number above 0")
    return value


def natural_number(text: str) -> int:
    """A whole number, 0 or above, as a type of argparse."""
    value = int(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f"{value}: expected a whole number, 0 or above")
    return value


def natural(name: str) -> tuple[list[tuple[int, int, str]], str]:
    """A sort key by which runs of digits count by their value: 2 before 10, as frames are numbered."""
    parts = [(0, int(p), "") if p.isdecimal() else (1, 0, p) for p in re.split(r"(\d+)", name) if p]
    return parts, name


def is_litter(name: str) -> bool:
    """True for what is passed over when files are listed: hidden ones, and what an operating system leaves (``Thumbs.db``)."""
    return name.startswith(".") or is_system_file(name)


def is_system_file(name: str) -> bool:
    """True for what an operating system leaves in folders: ``.DS_Store``, ``._x``, ``Thumbs.db``, ``desktop.ini``."""
    return _SYSTEM.fullmatch(name) is not None


def list_files(folder: Path, suffixes: Sequence[str]) -> list[Path]:
    """The files of a folder that end in one of `suffixes` (lower case, with the dot; upper case counts as well), in the
    order of the numbers in their names. Empty where the folder is missing or has none.

    Hidden files and litter are passed over. Raises Refusal for several kinds of suffix in one folder (two programs wrote
    there), for two names of one number (1.jpg and 0001.jpg), and by name for what is no ordinary file.
    """
    try:
        entries = list(folder.iterdir()) if folder.is_dir() else []
    except OSError as error:
        raise of_system(error, folder) from error
    found = [p for p in entries if p.suffix.lower() in suffixes and not is_litter(p.name)]
    kinds = Counter(p.suffix for p in found)
    if len(kinds) > 1:
        counts = ", ".join(f"{n} {kind}" for kind, n in kinds.most_common())
        rare = min(kinds, key=lambda k: kinds[k])
        raise Refusal(
            f"{folder}: files of several kinds: {counts} ({few(sorted(p.name for p in found if p.suffix == rare), 3)})",
            expected="files that all end alike",
            do="remove what does not belong there, or convert it",
        )
    found.sort(key=lambda p: natural(p.stem))
    for one, other in pairwise(found):
        if natural(one.stem)[0] == natural(other.stem)[0]:
            raise Refusal(
                f"{folder}: {one.name} and {other.name} have the same number",
                expected="one file for every number",
                do="remove the one that does not belong there",
            )
    return [regular(p) for p in found]


def what_lies_in(folder: Path, count: int = 3) -> str:
    """The content of a folder in a few words, for a message about what was looked for and not found there."""
    if not folder.is_dir():
        return "no such folder"
    entries = sorted(p for p in folder.iterdir() if not is_litter(p.name))
    if not entries:
        return "an empty folder"
    folders, files = [p.name for p in entries if p.is_dir()], [p for p in entries if not p.is_dir()]
    said = [
        f"{n} {suffix or 'files without a suffix'}" for suffix, n in Counter(p.suffix for p in files).most_common(3)
    ]
    names = few([p.name for p in entries], count)
    return ", ".join([*said, *([f"{len(folders)} folders"] if folders else [])]) + f" ({names})"


MOST_MISSING = 1000
"""`missing_numbers` names no more."""


def missing_numbers(stems: Sequence[str]) -> list[str]:
    """Numbers that a run of frame names leaves out, judged by its usual step: ``00003`` of 00002, 00004 in steps of 1.

    At most `MOST_MISSING` of them.
    """
    numbers = [int(m[0]) for s in stems if (m := re.search(r"\d+$", s))]
    if len(numbers) != len(stems) or len(numbers) < 3:
        return []
    steps = Counter(b - a for a, b in pairwise(numbers))
    step = steps.most_common(1)[0][0]
    if step < 1:
        return []
    width = len(stems[0]) if all(len(s) == len(stems[0]) for s in stems) else 0
    # one odd name (a date among numbers) leaves out millions: they are named as far as a message needs them
    gone = islice((n for a, b in pairwise(numbers) for n in range(a + step, b, step)), MOST_MISSING)
    return [f"{n:0{width}d}" if width else str(n) for n in gone]
