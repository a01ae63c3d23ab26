"""The programs. Started with an interpreter that lacks the libraries, they say so in one sentence."""

import os
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

if any(find_spec(name) is None for name in ("yaml", "numpy", "jsonschema", "torch", "cv2")):
    sys.exit(
        f"refused: {sys.executable} does not have the libraries of corrbench\n"
        "  expected: the interpreter of its environment\n"
        "  what to do: source .venv/bin/activate   (make demo makes the environment)"
    )
