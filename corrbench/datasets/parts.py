"""A data set of videos that is given out as a list of many archives (Kinetics-400): fetched side by side, unpacked one by one.

Below the root lie ``train/<video>.mp4`` and ``.parts/``: for every archive that has arrived a note, and what is under way. A
call goes on where an earlier one stopped; an archive is removed once its videos are in place.
"""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from corrbench.datasets.archive import unpack
from corrbench.download import download
from corrbench.errors import Refusal, explain
from corrbench.files import read_json, write_json
from corrbench.reading import read_text

KINDS = (".tar.gz", ".tgz", ".tar", ".zip")


@dataclass
class Arrived:
    """What a fetch came to."""

    parts: int
    """Archives of the list."""
    videos: int = 0
    failed: dict[str, str] = field(default_factory=dict)
    """Why an archive did not arrive, by its name."""


def parse_list(text: str, where: str, *, empty: bool = False) -> dict[str, str]:
    """The archives of a list, ``{file name: address}``. Raises Refusal for a list without any, unless it may be `empty`, and for two of one name."""
    found: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        address = line.strip()
        if not address or address.startswith("#"):
            continue
        name = unquote(urlsplit(address).path).rpartition("/")[2]
        if not address.startswith(("http://", "https://")) or not name.endswith(KINDS) or name.startswith("."):
            raise Refusal(
                f"{where}: line {number}: {address[:100]!r}",
                expected="the address of an archive",
                do="look at the list",
            )
        if found.setdefault(name, address) != address:
            raise Refusal(
                f"{where}: line {number}: a second archive {name}", expected="every name once", do="look at the list"
            )
    if not found and not empty:
        raise Refusal(f"{where}: no address of an archive", expected="one in each line", do="look at the list")
    return found


def fetch_parts(row: Mapping[str, Any], root: Path, *, connections: int, only: Sequence[str] = ()) -> Arrived:
    """Bring a data set with `parts_list` below `root`. `only`: names of archives, for a share of it.

    An archive that fails does not stop the others. Raises Refusal for a list that cannot be fetched or read.
    """
    source, work = row["parts_list"], root / ".parts"
    work.mkdir(parents=True, exist_ok=True)
    path = work / "list.txt"
    path.unlink(missing_ok=True)  # a list may change
    download([source["address"]], path)
    addresses = parse_list(read_text(path), source["address"])
    for name in only:
        if name not in addresses:
            raise Refusal(
                f"--only {name}: not in the list", expected=f"a name such as {next(iter(addresses))}", do="correct it"
            )
    addresses = {name: addresses[name] for name in only} if only else addresses
    arrived, place = Arrived(len(addresses)), root / source["folder"]
    place.mkdir(parents=True, exist_ok=True)
    ending = threading.Event()

    def part(name: str, address: str) -> int:
        if ending.is_set():
            raise Refusal("stopped", expected="", do="")
        return _part(address, work / name, place)

    pool = ThreadPoolExecutor(connections)
    try:
        # corrected videos go over the others, so they come last
        corrected = {} if only else parse_list(source.get("corrected", ""), "corrected", empty=True)
        arrived.parts += len(corrected)
        if any(not _has_arrived(address, work / name) for name, address in addresses.items()):
            for name in corrected:  # its videos must go over those that are still to come
                (work / f"{name}.json").unlink(missing_ok=True)
        for group in (addresses, corrected):
            if arrived.failed:
                arrived.failed |= dict.fromkeys(group, "waits for the archives that did not arrive, over which it goes")
                break
            futures = {pool.submit(part, name, address): name for name, address in group.items()}
            for future in as_completed(futures):
                try:
                    arrived.videos += future.result()
                except Exception as error:
                    arrived.failed[futures[future]] = " ".join(str(explain(error) or error).split())[:300]
    except BaseException:
        ending.set()
        raise
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
    return arrived


def _has_arrived(address: str, archive: Path) -> int | None:
    """The number of videos of an archive that is in place; None for one that is not."""
    try:
        known = read_json(archive.with_name(f"{archive.name}.json"))
    except Refusal:
        return None
    if isinstance(known, dict) and known.get("address") == address and isinstance(known.get("videos"), int):
        return int(known["videos"])
    return None


def _part(address: str, archive: Path, place: Path) -> int:
    """Fetch and unpack one archive, unless it has arrived; the number of its videos."""
    note = archive.with_name(f"{archive.name}.json")
    if (known := _has_arrived(address, archive)) is not None:
        archive.unlink(missing_ok=True)  # of a call that was killed before it came to this
        return known
    if not archive.exists():
        download([address], archive)
    folder = archive.with_name(f"{archive.name}.unpacked")
    try:
        unpack([archive], folder)
    except Refusal as refusal:
        if "not a readable archive" in str(refusal):
            archive.unlink(missing_ok=True)  # it is damaged: the next call fetches it anew
        raise
    videos = sorted(path for path in folder.rglob("*.mp4") if path.is_file() and not path.name.startswith("."))
    if not videos:
        raise Refusal(f"{archive.name}: no video in it", expected="mp4 files", do="look at the list")
    for video in videos:
        os.replace(video, place / video.name)
    shutil.rmtree(folder)
    write_json(note, {"address": address, "videos": len(videos)})
    archive.unlink(missing_ok=True)
    return len(videos)
