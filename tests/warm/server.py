"""Starts programs in processes forked from one that has the large libraries imported already.

    server = Server(folder).start()
    subprocess.run([server.python, "-m", "scripts.doctor", ...])    # a stand-in for this interpreter

Every `python -m` costs several seconds of CPU for the imports of torch, torchvision, pandas and Snakemake, and a test of
the workflow starts dozens of them. The stand-in (client.py) hands its arguments, environment, folder, umask, resource
limits and open files to this server, which forks a child with them: a process of its own, that imports the project's own
modules from wherever its path says. Signals are passed on; the stand-in ends as the child ends, and the child dies with it.
What the server cannot do alike (other namespaces or users, PYTHON variables, `-c`) the stand-in leaves to the real
interpreter, to which its process turns.
"""

import atexit
import contextlib
import fcntl
import gc
import importlib
import io
import marshal
import multiprocessing.process
import os
import resource
import runpy
import selectors
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import types
from collections.abc import Mapping
from pathlib import Path
from typing import NoReturn

PRELOADED = (
    "torch", "torch._dynamo", "torchvision", "numpy", "pandas", "cv2", "PIL.Image", "PIL.ImageDraw", "PIL.ImageFont", "yaml", "jsonschema",
    "requests", "tqdm", "matplotlib.pyplot", "matplotlib.backends.backend_agg", "matplotlib.backends.backend_svg",
    "concurrent.futures.thread", "concurrent.futures.process", "multiprocessing.spawn", "multiprocessing.connection",
    "snakemake.cli", "snakemake.api", "snakemake.report", "snakemake_executor_plugin_slurm",
)  # fmt: skip
CLIENT = Path(__file__).with_name("client.py")
HEAD = 8
"""Bytes that give the length of a request."""


def described(environment: Mapping[str, str]) -> dict[str, str]:
    """The variables that an interpreter and its libraries read while they start, and never again."""
    starts = ("PYTHON", "LC_", "LANG", "LD_", "MALLOC_", "GLIBC_")
    return {k: v for k, v in environment.items() if k.startswith(starts) and k != "PYTHONPATH"}


class Server:
    """A server process that lives until `stop`, or until the process that made it is gone."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.resolve()
        self.python = self.folder / "bin" / "python"

    def start(self) -> "Server":
        """Start it and write the stand-in."""
        self.python.parent.mkdir(parents=True)
        place, log = self.folder / "socket", self.folder / "log"
        environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
        environment |= {
            "OMP_NUM_THREADS": "1",
            "OPENBLAS_NUM_THREADS": "1",
            "OMP_WAIT_POLICY": "passive",
            "MPLBACKEND": "agg",
        }
        with log.open("w") as file:
            # a session of its own: an interrupt at the terminal reaches the children through their stand-ins alone
            self.process = subprocess.Popen([sys.executable, __file__, str(place)], stdin=subprocess.PIPE, stdout=file,
                                            stderr=file, env=environment, start_new_session=True)  # fmt: skip
        source = CLIENT.read_text().replace("{python}", sys.executable).replace("{socket}", str(place))
        self.python.write_text(source.replace('"{described}"', repr(described(environment))))
        self.python.chmod(0o755)
        end = time.monotonic() + 120
        while not place.exists():
            if self.process.poll() is not None or time.monotonic() > end:
                raise RuntimeError(f"the server of warm processes did not start:\n{log.read_text()}")
            time.sleep(0.02)
        return self

    def stop(self) -> None:
        """End it, and with it whatever still runs."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait(30)


class Request:
    """What a stand-in wants to run (`values`, see client.py), and the files that it has open."""

    def __init__(self, connection: socket.socket) -> None:
        data, self.given, _, _ = socket.recv_fds(connection, 1 << 16, 250)
        total = HEAD
        while len(data) < total:
            more = connection.recv(1 << 20)
            if not more:
                raise EOFError("a stand-in that ended before it had asked")
            data += more
            total = HEAD + int.from_bytes(data[:HEAD], "little")
        self.values = marshal.loads(data[HEAD:])

    def close(self) -> None:
        """Close the files on this side."""
        for fd in self.given:
            os.close(fd)

    def become(self) -> str:
        """Turn this forked process into the one that was asked for; returns the module to run."""
        want = self.values
        place_files(dict(zip(want["fds"], self.given, strict=True)))
        os.environ.clear()
        os.environ.update(want["env"])
        os.chdir(want["cwd"])
        os.umask(want["umask"])
        for kind, limits in want["limits"].items():
            if resource.getrlimit(kind) != limits:
                resource.setrlimit(kind, limits)
        for number in want["ignored"]:
            signal.signal(number, signal.SIG_IGN)
        path = [p for p in os.environ.get("PYTHONPATH", "").split(os.pathsep) if p]
        # Snakemake adds places of its own where it is imported
        sys.path[:] = [want["cwd"], *path, *(sys.path if want["module"] == "snakemake" else PATH)]
        sys.argv = ["-m", *want["argv"]]
        sys.orig_argv = [want["python"], "-m", want["module"], *want["argv"]]
        sys.executable = want["python"]
        for fd, name in enumerate(("stdin", "stdout", "stderr")):
            stream = stream_of(fd, getattr(sys, name)) if fd in want["fds"] else None
            setattr(sys, name, stream)
            setattr(sys, f"__{name}__", stream)
        sys.modules["__main__"] = types.ModuleType("__main__")

        np.random.seed()  # noqa: NPY002  (numbers of its own, as a process that starts afresh)
        multiprocessing.process.ORIGINAL_DIR = want["cwd"]  # type: ignore[attr-defined]
        threads = os.environ.get("OMP_NUM_THREADS", "")  # read where the library is loaded, which was long ago
        torch.set_num_threads(int(threads) if threads.isdigit() else len(os.sched_getaffinity(0)))
        return want["module"]


def stream_of(fd: int, like: io.TextIOWrapper) -> io.TextIOWrapper:
    """Standard input, output or error on an open file, buffered as the interpreter does it."""
    raw = io.FileIO(fd, "w" if fd else "r", closefd=False)
    through = bool(fd and os.environ.get("PYTHONUNBUFFERED"))
    binary = raw if through else io.BufferedWriter(raw) if fd else io.BufferedReader(raw)
    return io.TextIOWrapper(
        binary, like.encoding, like.errors, line_buffering=fd == 2 or raw.isatty(), write_through=through
    )  # type: ignore[arg-type]


def place_files(given: dict[int, int]) -> None:
    """Put open files where they belong, {number: what is open now}, and close all others."""
    mine = [int(name) for name in os.listdir("/proc/self/fd")]
    above = max([*mine, *given]) + 1
    copies = {number: fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, above) for number, fd in given.items()}
    os.closerange(0, above)
    for number, copy in copies.items():
        os.dup2(copy, number, inheritable=True)
        os.close(copy)


def serve(place: str) -> str:
    """Fork for every request; returns in the children alone, with the name of the module to run."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(f"{place}.new")
    listener.listen(64)
    woken, wake = os.pipe()
    for end in (woken, wake):
        os.set_blocking(end, False)
    signal.set_wakeup_fd(wake)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    selector = selectors.DefaultSelector()
    for file in (0, woken, listener):
        selector.register(file, selectors.EVENT_READ)
    children: dict[int, socket.socket] = {}
    os.rename(f"{place}.new", place)
    while True:
        for key, _ in selector.select():
            if key.fileobj == 0:  # the process that started this one closed the pipe, or is gone
                for pid in children:
                    os.kill(pid, signal.SIGKILL)
                shutil.rmtree(Path(place).parent, ignore_errors=True)
                os._exit(0)
            elif key.fileobj == woken:
                os.read(woken, 1 << 12)
                reap(children, selector)
            elif key.fileobj is listener:
                connection, _ = listener.accept()
                try:
                    request = Request(connection)
                except (OSError, EOFError):
                    connection.close()
                    continue
                pid = os.fork()
                if pid == 0:
                    signal.set_wakeup_fd(-1)
                    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                    for each in (listener, connection, *children.values()):
                        each.detach()  # closed by their numbers
                    return request.become()
                request.close()
                print(f"{pid} is {request.values['module']} {' '.join(request.values['argv'])[:150]}", flush=True)
                children[pid] = connection
                selector.register(connection, selectors.EVENT_READ, pid)
            elif key.data in children:
                pass_on(children[key.data], key.data, selector)


def run(module: str) -> NoReturn:
    """Run a module as `python -m` does, and end as the interpreter ends, but for taking the libraries apart (0.5 s)."""
    status = 0
    try:
        runpy._run_module_as_main(module)  # type: ignore[attr-defined]
    except SystemExit as left:
        if left.code is not None and not isinstance(left.code, int):
            print(left.code, file=sys.stderr)
        status = 0 if left.code is None else left.code & 0xFF if isinstance(left.code, int) else 1
    except KeyboardInterrupt:
        raise  # the interpreter dies of the signal then
    except BaseException as error:
        sys.excepthook(type(error), error, error.__traceback__)
        status = 1
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None:
                stream.flush()
        except OSError as error:
            print(f"Exception ignored on flushing {stream.name}: {error!r}", file=sys.__stderr__)
            status = 120
    os._exit(status)


def reap(children: dict[int, socket.socket], selector: selectors.BaseSelector) -> None:
    """Tell the stand-ins of ended children how they ended."""
    for pid in list(children):
        ended, status, usage = os.wait4(pid, os.WNOHANG)
        if not ended:
            continue
        connection = children.pop(pid)
        print(f"{pid} ended with {status} after {usage.ru_utime:.2f} s user, {usage.ru_stime:.2f} s system", flush=True)
        if connection in selector.get_map():
            selector.unregister(connection)
        with contextlib.suppress(OSError):  # the stand-in is gone
            connection.sendall(status.to_bytes(4, "little"))
        connection.close()


def pass_on(connection: socket.socket, pid: int, selector: selectors.BaseSelector) -> None:
    """Send the child the signals that its stand-in got; a stand-in that is gone takes its child with it."""
    numbers = b""
    with contextlib.suppress(OSError):
        numbers = connection.recv(64)
    if not numbers:
        selector.unregister(connection)
    for number in numbers or bytes([signal.SIGKILL]):
        os.kill(pid, number)  # not reaped yet, so it is still this child


if __name__ == "__main__":
    sys.path.pop(0)
    PATH = sys.path.copy()
    for name in PRELOADED:
        importlib.import_module(name)
    import numpy as np
    import torch

    if len(os.listdir("/proc/self/task")) != 1:
        sys.exit("the imports started threads: a fork of this process could hang")
    gc.collect()
    gc.freeze()
    run(serve(sys.argv[1]))
