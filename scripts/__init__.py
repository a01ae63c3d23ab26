"""The programs. Started with an interpreter that lacks the libraries, they say so in one sentence."""

import sys
from importlib.util import find_spec

if any(find_spec(name) is None for name in ("yaml", "numpy", "jsonschema", "torch", "cv2")):
    sys.exit(
        f"refused: {sys.executable} does not have the libraries of corrbench\n"
        "  expected: the interpreter of its environment\n"
        "  what to do: source .venv/bin/activate   (make demo makes the environment)"
    )
