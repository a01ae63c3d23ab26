"""How a trial came out."""

from __future__ import annotations

from dataclasses import dataclass

from tests.faults.children import Ended
from tests.faults.snapshot import Snapshot, is_temporary

REFUSED, CORRECT, SILENT, CRASH, LOST = "refused", "correct", "silent", "crash", "lost"
OUTCOMES = (REFUSED, CORRECT, SILENT, CRASH, LOST)
"""Refused: it says what was found and what to do. Correct: the results of the clean world. Silent: others, and exit status 0.
Crash: neither results nor a refusal. Lost: files are gone or half written, or it never goes on."""
FAILURES = frozenset((SILENT, CRASH, LOST))


@dataclass(frozen=True)
class Trial:
    """One trial."""

    subject: str
    what: str
    """What was done, in words."""
    outcome: str
    why: str
    """What the program said, or what differs."""
    cpu: float
    """Seconds in the programs."""

    @property
    def line(self) -> str:
        """For people."""
        return f"{self.outcome:8} {self.subject}: {self.what}: {self.why}"


def broken_off(ended: Ended) -> str:
    """Why an end is neither a success nor a refusal with advice; empty otherwise."""
    if ended.hung:
        return "it hangs"
    if ended.status < 0:
        return f"died of signal {-ended.status}"
    if "Traceback" in ended.err:
        return f"traceback: {ended.err.strip().splitlines()[-1]}"
    if ended.status and not ("refused: " in ended.err and "what to do: " in ended.err and ended.status == 1):
        return f"status {ended.status} without a refusal: {said(ended)}"
    return ""


def said(ended: Ended) -> str:
    """The refusal in one line."""
    return " ".join(ended.err[max(ended.err.rfind("refused: "), 0) :].split())


def leftovers(now: Snapshot) -> str:
    """What a program left behind that only a running one may have there; empty if nothing."""
    left = sorted(p for p in now if is_temporary(p))
    return f"left behind: {', '.join(left[:3])}" if left else ""
