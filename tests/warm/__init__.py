"""Warm processes for tests: see server.py."""

import atexit
import os
import sys
import tempfile
from functools import cache
from pathlib import Path

from warm.server import Server


@cache
def python() -> str:
    """A stand-in for the interpreter that starts programs warm; its server lives as long as this process."""
    if os.environ.get("CORRBENCH_TESTS_COLD"):  # every program as its user starts it
        return sys.executable
    server = Server(Path(tempfile.mkdtemp(prefix="corrbench-warm-"))).start()
    owner = os.getpid()

    def end() -> None:
        if os.getpid() == owner:  # not in a fork
            server.stop()

    atexit.register(end)
    return str(server.python)
