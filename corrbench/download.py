"""Fetch one file: several addresses in order, resumed after an interruption, size and hash checked while it streams."""

from __future__ import annotations

import hashlib
import re
import time
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import requests
from urllib3.exceptions import HTTPError

from corrbench.errors import Refusal
from corrbench.files import check_room, digest, full_disk_refused, linked, make_parents, read_json, write_json
from corrbench.outputs import claim as only_run
from corrbench.outputs import remove_temporaries
from corrbench.progress import Progress

STALLED = 60.0
"""Seconds without a byte after which a connection counts as dead."""
TRIES = 4
"""Attempts at one address while its failures look passing."""
PAUSE = 2.0
"""Seconds before the second attempt; doubled each time."""
NOTED = 16 << 20
"""Bytes after which the checksum of what came is noted again."""


@dataclass
class _Failure(Exception):
    """Why an address gave no file."""

    words: str
    passing: bool = False
    """Another attempt at the same address may do better."""

    def __str__(self) -> str:
        return self.words


def download(
    addresses: Sequence[str],
    target: Path,
    *,
    size: int | None = None,
    claim: Mapping[str, Any] | None = None,
    stalled: float = STALLED,
    pause: float = PAUSE,
) -> str | None:
    """Bring the file to `target`. Returns a warning (a published hash that differs, or no hash and no size at all), or None.

    `claim` is ``{algorithm, value, on_mismatch}``; value may be a prefix, on_mismatch is `refuse` or `warn` (published
    hashes that nobody could confirm yet). A partial file is kept as ``<name>.<address>.part`` and continued: at once after a cut or a
    stall, or by the next call. It is continued only if the server says that its file is still the same one (or, where
    it gives neither tag nor date, if a hash will tell), and only as far as it has the checksum that was noted. The
    environment's proxies are honored. Raises Refusal when every address fails, when the content is not what was
    promised, for an empty file that nobody promised, and while another run fetches the same file; `target` appears only
    when complete.
    """
    target = linked(target)
    if target.is_dir():
        raise Refusal(f"{target}: a folder", expected="the name of a file", do="name the file in it")
    make_parents(target)
    with only_run(target):
        part = _Part(target)
        resumed = _any_address(addresses, part, size, claim, stalled, pause)
        warning = _mismatch(part, claim)
        if (
            warning and resumed and _refuses(claim)
        ):  # the fault may lie in what an earlier call left: once more, all of it
            part.remove()
            _any_address(addresses, part, size, claim, stalled, pause)
            warning = _mismatch(part, claim)
        if warning and _refuses(claim):
            part.remove()
            raise Refusal(warning, expected="the published hash", do="do not use this file: it was altered or replaced")
        if not part.size and not size and not _refuses(claim):
            part.remove()
            raise Refusal(
                f"{target.name}: an empty file came from {part.address}",
                expected="a file with content",
                do=f"look at the address, or place the file at {target} yourself",
            )
        if size is None and not claim:
            known = f"{part.size} bytes, sha256 {part.digest('sha256')}"
            warning = f"{target.name}: no size or hash is known that it must have; what came has {known}"
        part.path.replace(target)
        part.remove_all()
    return warning


def _refuses(claim: Mapping[str, Any] | None) -> bool:
    """True if the published hash decides."""
    return claim is not None and claim.get("on_mismatch", "refuse") != "warn"


def _mismatch(part: _Part, claim: Mapping[str, Any] | None) -> str | None:
    if not claim or (actual := part.digest(claim["algorithm"])).startswith(claim["value"]):
        return None
    return f"{part.name}: {claim['algorithm']} is {actual}, published is {claim['value']}"


def _any_address(
    addresses: Sequence[str],
    part: _Part,
    size: int | None,
    claim: Mapping[str, Any] | None,
    stalled: float,
    pause: float,
) -> bool:
    """Bring the part to its end from the first address that gives it. True if an earlier call had begun it."""
    failures = []
    for address in addresses:
        part.of(address)
        begun = part.size > 0
        failure = _from_address(address, part, size, claim, stalled, pause)
        if failure is None:
            return begun
        failures.append(f"{address}: {failure}")
    raise Refusal(
        f"{part.name} could not be downloaded:\n    " + "\n    ".join(failures or ["it has no address"]),
        expected="one of its addresses to answer",
        do=f"run again (what came is kept), or place the file at {part.target} yourself"
        if failures
        else f"place the file at {part.target}; the row that names it says where it is",
    )


class _Part:
    """The partial file, what it is a part of, and its running hash."""

    def __init__(self, target: Path) -> None:
        self.target, self.name = target, target.name
        self._hasher: Any = None
        self._validator: str | None = None
        self._crc = self._came = 0

    def of(self, address: str) -> None:
        """Go on with what this address began; what other addresses began stays for a later call."""
        stem = f"{self.name}.{digest(address, 8)}"
        self.address = address
        self.path, self.note = self.target.with_name(f"{stem}.part"), self.target.with_name(f"{stem}.from")
        remove_temporaries(self.note.parent, self.note)
        self._hasher = None

    def remove_all(self) -> None:
        """Remove what every address began."""
        began = re.compile(re.escape(self.name) + r"\.[0-9a-f]{8}\.(part|from)$")
        for path in self.target.parent.iterdir():
            if began.match(path.name):
                path.unlink()

    def keep_checked(self, *, hash_will_tell: bool) -> None:
        """Cut the part to what has the noted checksum. Without a checksum it stays only where a hash will tell at the end."""
        noted, self._crc = self.origin, 0
        length, crc = noted.get("bytes"), noted.get("crc32")
        if not self.size:
            return
        if not isinstance(length, int) or not isinstance(crc, int):
            length, crc = (self.size, None) if hash_will_tell else (0, 0)
        left = length
        with self.path.open("r+b") as file:
            while left > 0 and (block := file.read(min(left, 1 << 20))):
                self._crc, left = zlib.crc32(block, self._crc), left - len(block)
            if left or crc not in (None, self._crc):
                length, self._crc = 0, 0
            file.truncate(length)

    def begin(self) -> None:
        """Forget what came."""
        self.path.unlink(missing_ok=True)
        self._crc = 0

    def append(self, file: IO[bytes], block: bytes) -> None:
        """Add to the open part, and note its checksum now and then."""
        file.write(block)
        before, self._came = self._came, self._came + len(block)
        self._crc = zlib.crc32(block, self._crc)
        if before // NOTED != self._came // NOTED:
            file.flush()
            self.remember()

    def remember(self, validator: str | None = None, *, start: int | None = None) -> None:
        """Note what the part is of, and the checksum of what is there; at its `start` also the server's validator."""
        if start is not None:
            self._validator, self._came = validator, start
        write_json(
            self.note,
            {"address": self.address, "validator": self._validator, "bytes": self._came, "crc32": self._crc},
        )

    @property
    def origin(self) -> dict[str, Any]:
        """Address, and the validator (ETag or date) that the server gave for this content."""
        try:
            found = read_json(self.note)
            return found if isinstance(found, dict) else {}
        except Refusal:
            return {}

    @property
    def size(self) -> int:
        return self.path.stat().st_size if self.path.exists() else 0

    def remove(self) -> None:
        self.path.unlink(missing_ok=True)
        self.note.unlink(missing_ok=True)
        self._hasher = None

    def start_hash(self, algorithm: str, total: int | None) -> Any:
        """The running hash with what is there already; for `git-blob` the length must be known."""
        if algorithm == "git-blob":
            if total is None:
                return None  # hashed at the end
            self._hasher = hashlib.sha1(f"blob {total}\0".encode(), usedforsecurity=False)
        else:
            self._hasher = hashlib.new(algorithm, usedforsecurity=False)
        if self.path.exists():
            with self.path.open("rb") as file:
                while block := file.read(1 << 20):
                    self._hasher.update(block)
        return self._hasher

    def digest(self, algorithm: str) -> str:
        """The hash of the whole file; read again only when it was not followed to the end."""
        hasher = self._hasher or self.start_hash(algorithm, self.size)
        return hasher.hexdigest()


def _from_address(
    address: str, part: _Part, size: int | None, claim: Mapping[str, Any] | None, stalled: float, pause: float
) -> str | None:
    """Fetch from one address, going on after passing failures. Returns why it failed, or None."""
    failure, tries, furthest = "", 0, part.size
    while tries < TRIES:
        try:
            _fetch(address, part, size, claim, stalled)
            return None
        except _Failure as error:
            failure = str(error)
            if not error.passing:
                return failure
        except (requests.RequestException, HTTPError, ConnectionError, TimeoutError) as error:
            failure = _plain(error, stalled)
            if isinstance(error, ValueError):  # no address
                return failure
        # as long as it gets further there is hope; a server that always starts over at the same place is no hope
        tries, furthest = (0, part.size) if part.size > furthest else (tries + 1, furthest)
        if tries < TRIES:
            time.sleep(pause * 2 ** max(tries - 1, 0))
    return f"{failure} ({TRIES} attempts without progress)"


def _plain(error: Exception, stalled: float) -> str:
    text = str(error)
    if "timed out" in text:
        return f"no byte for {stalled:g} s"
    if "IncompleteRead" in text or "Connection broken" in text or "Connection aborted" in text:
        return "the connection was cut"
    return text.splitlines()[0] if text else type(error).__name__


def _fetch(address: str, part: _Part, size: int | None, claim: Mapping[str, Any] | None, stalled: float) -> None:
    """Append to the part until it is complete; start over when the server cannot continue the same content."""
    part.keep_checked(hash_will_tell=_refuses(claim))
    start, validator = part.size, part.origin.get("validator")
    headers = {"Accept-Encoding": "identity"}  # lengths and offsets are those of the file
    if start and isinstance(validator, str):
        headers |= {"Range": f"bytes={start}-", "If-Range": validator}
    elif start and _refuses(claim):
        headers |= {"Range": f"bytes={start}-"}  # the hash will tell whether it is still the same file
    with requests.Session() as session, _ask(session, address, headers, stalled) as answer:
        if answer.status_code == 416:
            if _total(answer) == start:
                return  # nothing after `start`: it was complete
            part.begin()
            raise _Failure(f"the partial file had {start} bytes, the server's {_total(answer)}: started over", True)
        if not answer.ok:
            passing = answer.status_code >= 500 or answer.status_code in (408, 429)
            raise _Failure(f"HTTP {answer.status_code} {answer.reason}", passing)
        if _is_page(answer) and not part.name.endswith((".html", ".htm")):
            raise _Failure("answers with a web page instead of the file (a login, a quota or a confirmation page)")
        resumed = answer.status_code == 206
        if resumed and answer.headers.get("Content-Range", "").partition("-")[0] not in ("", f"bytes {start}"):
            raise _Failure(f"continues at another place than asked: {answer.headers['Content-Range']}")
        if not resumed:
            start = 0
            part.begin()
        part.remember(_validator(answer), start=start)
        length = answer.headers.get("Content-Length", "")
        total = start + int(length) if length.isdecimal() else size
        if size is not None and total is not None and total != size:
            raise _Failure(f"its file has {total} bytes, expected are {size}")
        if total is not None:
            check_room(
                part.path.parent,
                total - start,
                f"{part.name}: {(total - start) / 1e9:.1f} GB are to come",
                "free some space",
            )
        hasher = part.start_hash(claim["algorithm"], total) if claim else None
        bar = Progress(part.name, total, unit="B", done=start)
        try:
            with full_disk_refused(part.path), part.path.open("ab") as file, bar:
                for block in answer.iter_content(1 << 16):
                    part.append(file, block)
                    if hasher is not None:
                        hasher.update(block)
                    bar.advance(len(block))
                    if total is not None and file.tell() > total:
                        raise _Failure(f"sends more than the {total} bytes that it promised")
        except (_Failure, requests.RequestException, HTTPError, OSError, KeyboardInterrupt):
            part.remember()
            raise
        part.remember()
    if total is not None and part.size < total:
        raise _Failure(f"{part.size} of {total} bytes came", passing=True)


def _ask(session: requests.Session, address: str, headers: Mapping[str, str], stalled: float) -> requests.Response:
    """The answer of an address, its content not read yet. Google Drive is asked again by the form of its confirmation page.

    Drive gives small files at once, and asks "download anyway?" for large ones. Raises _Failure for its page that says that
    too many people fetched the file lately, and for one that asks for a login.
    """
    if not _is_on_drive(address):
        return session.get(address, headers=headers, stream=True, timeout=stalled)
    whole = {key: value for key, value in headers.items() if key not in ("Range", "If-Range")}
    answer = session.get(
        address, headers=whole, stream=True, timeout=stalled
    )  # a range is one of the file, not of a page
    if not (answer.ok and _is_page(answer)):
        if whole == headers:
            return answer
        answer.close()
        return session.get(address, headers=headers, stream=True, timeout=stalled)
    from gdown.download import get_url_from_gdrive_confirmation  # it knows what Drive's pages look like over the years
    from gdown.exceptions import FileURLRetrievalError

    with answer:
        try:
            confirmed = get_url_from_gdrive_confirmation(answer.text)
        except FileURLRetrievalError as error:
            words = re.sub(r"<[^>]*>", "", str(error)).strip()
            limit = re.search("too many users|quota", words, re.IGNORECASE)
            raise _Failure(
                f"Google Drive's limit of downloads a day ({words}); try again tomorrow, or fetch it in a browser"
                if limit
                else f"Google Drive does not give the file without a login ({words})"
            ) from error
    return session.get(confirmed, headers=headers, stream=True, timeout=stalled)


def _is_on_drive(address: str) -> bool:
    return re.match(r"https?://(drive|docs)\.google\.com/", address) is not None


def _is_page(answer: requests.Response) -> bool:
    return "text/html" in answer.headers.get("Content-Type", "")


def _validator(answer: requests.Response) -> str | None:
    tag = answer.headers.get("ETag", "")
    return tag if tag and not tag.startswith("W/") else answer.headers.get("Last-Modified")


def _total(answer: requests.Response) -> int | None:
    tail = answer.headers.get("Content-Range", "").rpartition("/")[2]
    return int(tail) if tail.isdigit() else None
