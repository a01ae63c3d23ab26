"""Kinds of damage to a file, each a function of a seeded generator; they return what they did in words."""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

Damage = Callable[[random.Random, Path, Path], str]
"""Damages a file; the other path is a sibling, of the same kind where there is one."""
TEXTS = (".json", ".txt", ".csv", ".yaml", ".md")


def cut(rng: random.Random, path: Path, sibling: Path) -> str:
    """Keep the beginning, as a copy that was broken off."""
    data = path.read_bytes()
    size = rng.randrange(1, max(len(data), 2))
    _write(path, data[:size])
    return f"cut to {size} of {len(data)} bytes"


def empty(rng: random.Random, path: Path, sibling: Path) -> str:
    """Keep the name alone, as a full disk does."""
    _write(path, b"")
    return "emptied"


def flip(rng: random.Random, path: Path, sibling: Path) -> str:
    """Turn 1, 2 or 8 bits and set the time back, as a bad disk does."""
    data, before = bytearray(path.read_bytes()), path.stat()
    places = [rng.randrange(len(data)) for _ in range(rng.choice((1, 1, 2, 8)))]
    for place in places:
        data[place] ^= 1 << rng.randrange(8)
    _write(path, bytes(data))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    return f"bits flipped at {', '.join(map(str, places))} of {len(data)}"


def noise(rng: random.Random, path: Path, sibling: Path) -> str:
    """Put 64 random bytes somewhere."""
    data = bytearray(path.read_bytes())
    size = min(64, len(data))
    place = rng.randrange(len(data) - size + 1)
    data[place : place + size] = rng.randbytes(size)
    _write(path, bytes(data))
    return f"{size} random bytes at {place} of {len(data)}"


def delete(rng: random.Random, path: Path, sibling: Path) -> str:
    """Remove it."""
    path.unlink()
    return "deleted"


def swap(rng: random.Random, path: Path, sibling: Path) -> str:
    """Exchange it with its sibling."""
    other = path.with_name(f"{path.name}.swapped")
    path.rename(other)
    sibling.rename(path)
    other.rename(sibling)
    return f"swapped with {sibling}"


def copy(rng: random.Random, path: Path, sibling: Path) -> str:
    """Put a copy of its sibling in its place."""
    path.unlink()
    shutil.copyfile(sibling, path)
    return f"a copy of {sibling} in its place"


def folder(rng: random.Random, path: Path, sibling: Path) -> str:
    """Put a folder in its place."""
    path.unlink()
    path.mkdir()
    return "a folder in its place"


def dangling(rng: random.Random, path: Path, sibling: Path) -> str:
    """Put a link in its place that leads nowhere."""
    path.unlink()
    path.symlink_to("nowhere")
    return "a dangling link in its place"


def letter(rng: random.Random, path: Path, sibling: Path) -> str:
    """Change one digit or letter of a text into another."""
    data = bytearray(path.read_bytes())
    place = rng.choice([i for i, byte in enumerate(data) if chr(byte).isalnum() and byte < 128])
    old = data[place]
    data[place] = rng.choice([c for c in (b"123456789" if chr(old).isdecimal() else b"abcxyzN") if c != old])
    _write(path, bytes(data))
    return f"{chr(old)} became {chr(data[place])} at {place} of {len(data)}"


def utf16(rng: random.Random, path: Path, sibling: Path) -> str:
    """Save a text in another encoding."""
    path.write_text(path.read_text(encoding="utf-8"), encoding="utf-16")
    return "saved as UTF-16"


def mark(rng: random.Random, path: Path, sibling: Path) -> str:
    """Put a byte order mark before a text, as Windows does."""
    _write(path, b"\xef\xbb\xbf" + path.read_bytes())
    return "saved with a byte order mark"


def latin1(rng: random.Random, path: Path, sibling: Path) -> str:
    """Put a letter into a text that is not UTF-8."""
    data = path.read_bytes()
    place = rng.randrange(len(data) + 1)
    _write(path, data[:place] + b"\xe9" + data[place:])
    return f"a Latin-1 letter at {place}"


def _write(path: Path, data: bytes) -> None:
    """Replace a file: the old one may have more names."""
    path.unlink()
    path.write_bytes(data)


OF_FILES: Mapping[str, Damage] = {
    f.__name__: f for f in (cut, empty, flip, noise, delete, swap, copy, folder, dangling)
}
OF_TEXTS: Mapping[str, Damage] = {**OF_FILES, **{f.__name__: f for f in (letter, utf16, mark, latin1)}}


def damages_of(path: str) -> Mapping[str, Damage]:
    """The kinds of damage that a file of this name can take."""
    return OF_TEXTS if Path(path).suffix in TEXTS else OF_FILES
