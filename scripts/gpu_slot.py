"""Run a command on GPUs that nobody else holds:  python -m scripts.gpu_slot COUNT -- command ...

Outside SLURM each job takes an exclusive lock on one file per device, so jobs that start together get devices of their
own; the kernel drops the lock when the last process that inherited it is gone. Inside a SLURM job the pool is what SLURM
granted. COUNT 0 hides every GPU from the command. The pool: CORRBENCH_GPUS, CUDA_VISIBLE_DEVICES, or all of nvidia-smi.
Before the command starts it prints where it runs and which devices it has, and refuses one that nvidia-smi cannot query.
"""

import fcntl
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time


def visible_devices() -> list[str]:
    """Names of the devices that this job may use."""
    in_slurm = "SLURM_JOB_ID" in os.environ
    for name in ("CUDA_VISIBLE_DEVICES",) if in_slurm else ("CORRBENCH_GPUS", "CUDA_VISIBLE_DEVICES"):
        if os.environ.get(name):
            return [d.strip() for d in os.environ[name].split(",") if d.strip()]
    if in_slurm:
        return []
    try:
        query = ["nvidia-smi", "--query-gpu=index", "--format=csv,noheader"]
        return subprocess.run(query, capture_output=True, text=True, check=True).stdout.split()
    except (OSError, subprocess.CalledProcessError):
        return []


def acquire(count: int, poll: float = 0.5) -> list[str]:
    """Lock `count` devices, all or none at a time (so two jobs cannot block each other), waiting as long as it takes."""
    devices = visible_devices()
    if len(devices) < count:
        sys.exit(
            f"refused: this job wants {count} GPU(s) and sees {len(devices)}\n"
            "  what to do: set `device: cpu` in the config, or check the driver and CUDA_VISIBLE_DEVICES"
        )
    job = os.environ.get("SLURM_JOB_ID")
    if job and len(devices) == count:
        return devices
    root = os.path.join(tempfile.gettempdir(), f"corrbench-gpus-{os.getuid()}-{job or 'host'}")
    os.makedirs(root, mode=0o700, exist_ok=True)
    while True:
        held: list[tuple[str, int]] = []
        for device in devices:
            handle = os.open(os.path.join(root, device.replace("/", "_")), os.O_RDWR | os.O_CREAT, 0o600)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(handle)
                continue
            held.append((device, handle))
            if len(held) == count:
                for _, kept in held:
                    os.set_inheritable(kept, True)
                return [name for name, _ in held]
        for _, handle in held:
            os.close(handle)
        time.sleep(poll)


def describe(devices: list[str]) -> str:
    """Host, job and devices for the log. Exits when nvidia-smi is there and does not know a device."""
    job = os.environ.get("SLURM_JOB_ID")
    place = f"gpu_slot: host {platform.node()}" + (f", SLURM job {job}" if job else "")
    if not devices:
        return f"{place}, no GPU"
    place += f", CUDA_VISIBLE_DEVICES={','.join(devices)}"
    if shutil.which("nvidia-smi") is None:
        return f"{place} (no nvidia-smi to ask about them)"
    fields = "--query-gpu=index,name,memory.total,memory.used,driver_version"
    query = ["nvidia-smi", fields, "--format=csv,noheader", "-i", ",".join(devices)]
    try:
        answer = subprocess.run(query, capture_output=True, text=True, timeout=60)
        said, failed = (answer.stdout + answer.stderr).strip(), answer.returncode != 0
    except subprocess.TimeoutExpired:
        said, failed = "nothing for 60 s", True
    if failed:
        sys.exit(
            f"refused: {place}, but nvidia-smi says: {said}\n"
            "  expected: devices that the driver knows\n"
            "  what to do: check the driver of this host, or keep it out (slurm_extra: --exclude)"
        )
    return "\n".join([place, *(f"gpu_slot:   {line}" for line in said.splitlines())])


def main() -> None:
    if sys.argv[1:] in (["-h"], ["--help"]):
        print(__doc__)
        return
    if len(sys.argv) < 4 or sys.argv[2] != "--" or not sys.argv[1].isdigit():
        sys.exit(__doc__)
    count, command = int(sys.argv[1]), sys.argv[3:]
    os.environ.setdefault("CUDA_DEVICE_ORDER", "PCI_BUS_ID")
    devices = acquire(count) if count else []
    print(describe(devices), file=sys.stderr, flush=True)
    os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(devices)
    os.execvp(command[0], command)


if __name__ == "__main__":
    main()
