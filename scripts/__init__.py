"""The programs. What they need of the process that starts them is seen to here, before they import for seconds."""

import os
import resource
import signal
import sys
from importlib.util import find_spec


def _stopped(number, frame):  # type: ignore[no-untyped-def]
    os.write(2, b"stopped before it began; run the same command again\n")
    os._exit(128 + number)


# `python -m scripts.x` imports for seconds before its main can answer a key press
if sys.argv[:1] == ["-m"] and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, _stopped)
    signal.signal(signal.SIGTERM, _stopped)

for _stream in (0, 1, 2):  # one that is closed would be the number of the next file that is opened
    try:
        os.fstat(_stream)
    except OSError:
        os.open(os.devnull, os.O_RDWR)
if sys.stdout is None:
    sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115
if sys.stderr is None:
    sys.stderr = open(2, "w", closefd=False)  # noqa: SIM115

LEAST_ADDRESSES = 5_000_000_000
"""Bytes of address space below which the libraries abort the process without a word; they use a part of it."""
_limit = resource.getrlimit(resource.RLIMIT_AS)[0]
if _limit != resource.RLIM_INFINITY and _limit < LEAST_ADDRESSES:
    sys.exit(
        f"refused: the address space of this process is limited to {_limit / 1e9:.1f} GB (ulimit -v)\n"
        f"  expected: {LEAST_ADDRESSES / 1e9:.0f} GB or more, which torch reserves and does not use\n"
        "  what to do: ulimit -v unlimited; limits of memory that is used (SLURM's, cgroups) are no trouble"
    )

if any(find_spec(name) is None for name in ("yaml", "numpy", "jsonschema", "torch", "cv2")):
    sys.exit(
        f"refused: {sys.executable} does not have the libraries of corrbench\n"
        "  expected: the interpreter of its environment\n"
        "  what to do: source .venv/bin/activate   (make demo makes the environment)"
    )
