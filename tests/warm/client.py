#!{python} -IS
"""The stand-in for the interpreter (server.py): asks the server for a process, passes signals on, ends as it ends."""

import _signal
import _socket
import array
import marshal
import os
import resource
import sys

PYTHON, PLACE, DESCRIBED = "{python}", "{socket}", "{described}"
STARTS = ("PYTHON", "LC_", "LANG", "LD_", "MALLOC_", "GLIBC_")
PASSED = (
    _signal.SIGHUP,
    _signal.SIGINT,
    _signal.SIGQUIT,
    _signal.SIGTERM,
    _signal.SIGUSR1,
    _signal.SIGUSR2,
    _signal.SIGCONT,
)


def real():
    """Become the real interpreter."""
    os.execv(PYTHON, [PYTHON, *sys.argv[1:]])


def namespaces(pid):
    """Where a program can see and reach the same things."""
    return [os.readlink(f"/proc/{pid}/ns/{kind}") for kind in ("mnt", "net", "pid", "user")]


if _signal.getsignal(_signal.SIGINT) != _signal.SIG_IGN:
    _signal.signal(_signal.SIGINT, _signal.SIG_DFL)  # until signals are passed on, they end this process as any other
arguments = sys.argv[1:]
if (
    len(arguments) < 2
    or arguments[0] != "-m"
    or not (arguments[1] == "snakemake" or arguments[1].startswith(("scripts.", "tests.")))
):
    real()
if {k: v for k, v in os.environ.items() if k.startswith(STARTS) and k != "PYTHONPATH"} != DESCRIBED:
    real()
connection = _socket.socket(_socket.AF_UNIX)
try:
    connection.connect(PLACE)
    server = int.from_bytes(connection.getsockopt(_socket.SOL_SOCKET, _socket.SO_PEERCRED, 12)[:4], sys.byteorder)
    if os.geteuid() != os.stat(PLACE).st_uid or namespaces(server) != namespaces("self"):
        real()
except OSError:
    real()

fds = []
for name in os.listdir("/proc/self/fd"):
    try:
        if int(name) != connection.fileno() and (int(name) < 3 or os.get_inheritable(int(name))):
            fds.append(int(name))
    except OSError:  # the one of the listing itself
        pass
umask = os.umask(0)
os.umask(umask)
body = marshal.dumps({
    "module": sys.argv[2], "argv": sys.argv[3:], "env": dict(os.environ), "cwd": os.getcwd(), "umask": umask, "fds": fds,
    "python": os.path.abspath(sys.argv[0]), "limits": {kind: resource.getrlimit(kind) for kind in range(16)},
    "ignored": [n for n in PASSED if _signal.getsignal(n) == _signal.SIG_IGN],
})  # fmt: skip
body = len(body).to_bytes(8, "little") + body
sent = connection.sendmsg([body], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, array.array("i", fds))])
connection.sendall(body[sent:])
for number in PASSED:
    if _signal.getsignal(number) != _signal.SIG_IGN:
        _signal.signal(number, lambda number, frame: connection.send(bytes([number])))
for fd in fds:
    os.close(fd)
status = b""
while len(status) < 4:
    more = connection.recv(4 - len(status))
    if not more:
        os._exit(70)  # the server is gone
    status += more
status = int.from_bytes(status, "little")
if os.WIFSIGNALED(status):
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    for number in (os.WTERMSIG(status),):
        if number not in (_signal.SIGKILL, _signal.SIGSTOP):
            _signal.signal(number, _signal.SIG_DFL)
        os.kill(os.getpid(), number)
os._exit(os.WEXITSTATUS(status))
