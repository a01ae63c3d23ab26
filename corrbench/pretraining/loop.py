"""The one training loop.

A run is a function of recipe, seed and data: which samples a step sees and every random number in it follow from (seed,
step), so a run that was killed and goes on from its last save ends with the same weights as one that was not (bit for bit
on a CPU in float32).
"""

from __future__ import annotations

import gc
import json
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from corrbench.errors import DiskFull, Refusal
from corrbench.files import atomic, digest, full_disk_refused, save_tensors
from corrbench.pretraining.method import Method
from corrbench.pretraining.networks import join_batchnorm
from corrbench.pretraining.order import STEP, STOP_SIGNALS, DataReader, Order, StepData, Steps, loader, stream
from corrbench.pretraining.processes import Processes
from corrbench.pretraining.recipe import Recipe, options_of
from corrbench.pretraining.schedule import factor, make_optimizer, total_steps
from corrbench.progress import Progress

STOPPED = 75
"""Exit status of a run that was asked to stop and has saved: run it again and it goes on."""


class Stopped(Exception):
    """The run was asked to stop (SIGTERM, SIGUSR1, SIGINT) and has saved."""


@dataclass
class Pace:
    """How a run goes about it; nothing here moves the weights."""

    workers: int = 0
    save_minutes: float = 10
    save_steps: int | None = None
    log_steps: int = 1
    tensorboard: bool = False


class Run:
    """One pretraining run in one folder: ``last.pt`` to go on from, ``log.jsonl``."""

    def __init__(
        self,
        recipe: Recipe,
        seed: int,
        reader: DataReader,
        folder: Path,
        processes: Processes,
        *,
        identity: dict[str, Any],
    ) -> None:
        """`identity`: what a saved state must agree with to be gone on from (recipe, data, code, ...)."""
        self.recipe, self.seed, self.folder, self.processes = recipe, seed, folder, processes
        module, where = recipe.module, f"recipe {recipe.name}: options"
        options = options_of(module.Options, recipe.options, where)
        if check := getattr(options, "check_share", None):
            check(recipe.batch // processes.world)
        if recipe.batch % processes.world:
            raise Refusal(
                f"recipe {recipe.name}: a batch of {recipe.batch} over {processes.world} processes",
                expected="equal shares", do="use another number of GPUs",
            )  # fmt: skip
        self.reader = reader
        self.order = Order(
            module.Source(options), reader.index, seed, recipe.batch, drop_last=recipe.drop_last, world=processes.world
        )
        self.total = total_steps(recipe.epochs, self.order.steps, recipe.steps)
        self.order.epochs = -(-self.total // self.order.steps)
        self.identity, self.step = identity, 0
        self.segments: list[list[int]] = []  # (first step, processes)
        torch.manual_seed(int(stream(STEP, seed).integers(2**63)))
        self.model: Method = module.Model(options)

    @property
    def state_file(self) -> Path:
        """What a run goes on from."""
        return self.folder / "last.pt"

    def start(self, init: Path | None, *, peek: bool = False) -> None:
        """Put the network on its device; go on from the saved state of the same run, or start (from `init`).

        With `peek` nothing in the folder is touched.
        """
        p = self.processes
        self.model.to(p.device)
        saved = self._saved(peek)
        if saved is None and init is not None:
            self.model.load_init(torch.load(init, map_location=p.device, weights_only=True))
        if saved is not None:
            self.model.load_state_dict(saved["model"])
        if self.recipe.batchnorm == "sync" and p.world > 1:
            join_batchnorm(self.model, p.device)
        self.optimizer = make_optimizer(self.recipe.optimizer, self.model)
        if saved is not None:
            self.optimizer.load_state_dict(saved["optimizer"])
            self.step = saved["step"]
            self.segments = saved["segments"]
        if not self.segments or self.segments[-1][1] != p.world:
            self.segments.append([self.step, p.world])
            if self.step and p.first:
                print(
                    f"going on with {p.world} processes after {self.segments[-2][1]}: other batch norm and other random numbers",
                    flush=True,
                )
        if not peek:
            self._cut_log()
        self.net: nn.Module = self.model
        if p.world > 1:
            ids = [p.device.index] if p.device.type == "cuda" else None
            # buffers stay each process's own: VFS broadcasts none, and LIIR's queue would cost half a gigabyte a step
            self.net = nn.parallel.DistributedDataParallel(self.model, device_ids=ids, broadcast_buffers=False)

    def _saved(self, peek: bool) -> dict[str, Any] | None:
        if not self.state_file.is_file():
            return None
        saved = torch.load(self.state_file, map_location="cpu", weights_only=True)
        differing = [k for k, v in self.identity.items() if saved["identity"].get(k) != v]
        if not differing:
            return saved
        if self.processes.first and not peek:
            kept = self.state_file.with_name(f"last.{digest(saved['identity'], 8)}.pt")
            self.state_file.replace(kept)
            print(
                f"{self.state_file} was of another run ({', '.join(differing)} differ): starting anew, it is {kept.name} now",
                flush=True,
            )
        return None

    def train(self, pace: Pace) -> None:
        """Run the remaining steps. Raises Stopped after a signal, and Refusal for a loss or a gradient that is not finite."""
        p, recipe = self.processes, self.recipe
        asked = _Asked()
        data = StepData(self.order, self.reader)
        batches = loader(
            data, Steps(self.order, self.step, self.total, p.rank, p.world), pace.workers, pin=p.device.type == "cuda"
        )
        writer = _tensorboard(self.folder) if pace.tensorboard and p.first else None
        asked.ignore()  # the loader's processes inherit that; they must outlive the signal until the run has saved
        arriving = iter(batches)
        self.net.train()
        saved_at, end = time.monotonic(), time.perf_counter()
        with asked, Progress(f"{recipe.name} {recipe.tier}", self.total, unit="step", done=self.step) as bar:
            for batch in arriving:
                waited = time.perf_counter() - end
                figures = self._step(batch)
                self.step += 1
                seconds, end = time.perf_counter() - end, time.perf_counter()
                if self.step % pace.log_steps == 0 or self.step == self.total:
                    images = recipe.batch / seconds
                    line = {
                        "step": self.step,
                        **p.mean(figures),
                        "seconds": seconds,
                        "waited": waited,
                        "samples_per_second": images,
                    }
                    if p.first:
                        self._log(line, writer)
                    bar.advance(pace.log_steps if self.step % pace.log_steps == 0 else 0, f"loss {line['loss']:.4f}")
                stop = p.any(asked.signal is not None) and self.step < self.total
                due = time.monotonic() - saved_at > 60 * pace.save_minutes
                if (
                    stop
                    or p.any(due)
                    or self.step == self.total
                    or (pace.save_steps and self.step % pace.save_steps == 0)
                ):
                    self.save()
                    saved_at = time.monotonic()
                if stop:
                    raise Stopped(f"stopped by a signal after {self.step} of {self.total} steps; run it again to go on")

    def _step(self, batch: dict[str, Tensor]) -> dict[str, float]:
        p, recipe, step = self.processes, self.recipe, self.step
        figures = {"replaced": float(batch.pop("replaced").gt(0).sum())}
        on_device = {name: value.to(p.device, non_blocking=True) for name, value in batch.items()}
        generator = torch.Generator().manual_seed(int(stream(STEP, self.seed, step, p.rank).integers(2**63)))
        rate = recipe.optimizer["lr"] * factor(
            recipe.schedule, step, total=self.total, steps_per_epoch=self.order.steps, batch=recipe.batch
        )
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.model.before_step(step, self.total)
        with torch.autocast(p.device.type, torch.bfloat16, enabled=recipe.precision == "bf16"):
            parts = self.net(on_device, generator)
        self.optimizer.zero_grad(set_to_none=True)
        parts["loss"].backward()
        gradients = [q.grad for q in self.model.parameters() if q.grad is not None]
        norm = torch.nn.utils.get_total_norm(gradients)
        if p.any(not bool(torch.isfinite(parts["loss"]) & torch.isfinite(norm))):
            self._give_up(on_device, parts, norm)
        self.optimizer.step()
        self.model.after_step()
        return {**{k: float(v.detach()) for k, v in parts.items()}, "gradient": float(norm), "lr": rate, **figures}

    def _give_up(self, batch: dict[str, Tensor], parts: dict[str, Tensor], norm: Tensor) -> None:
        path = self.folder / f"not_finite.rank{self.processes.rank}.pt"
        try:
            save_tensors(path, {"step": self.step, "batch": batch, "model": self.model.state_dict()})
            do = f"look at the batch in {path}; a smaller learning rate or precision float32 may help"
        except DiskFull:
            do = "make room so that the batch can be saved; a smaller learning rate or precision float32 may help"
        figures = ", ".join(f"{name} {float(value.detach()):g}" for name, value in parts.items())
        raise Refusal(
            f"step {self.step}: {figures}, norm of the gradient {float(norm):g}",
            expected="finite figures",
            do=do,
        )

    def end(self) -> None:
        """Leave the other processes."""
        # the group must not die with DDP's reducer: that waits for gloo's thread while holding the lock of the interpreter,
        # which this thread may want to free its last tensors
        self.net = self.model
        gc.collect()
        self.processes.end()

    def save(self) -> None:
        """Write ``last.pt``; the old one stays until the new one is complete."""
        if self.processes.first:
            state = {"model": self.model.state_dict(), "optimizer": self.optimizer.state_dict()}
            save_tensors(
                self.state_file, {**state, "step": self.step, "identity": self.identity, "segments": self.segments}
            )

    def _log(self, line: dict[str, float], writer: Any) -> None:
        path = self.folder / "log.jsonl"
        with full_disk_refused(path), path.open("a") as file:
            file.write(json.dumps(line) + "\n")
        if writer is not None:
            for name, value in line.items():
                writer.add_scalar(name, value, self.step)

    def _cut_log(self) -> None:
        """Lines of steps that will be done again go; so does a line that a kill left half written."""
        path = self.folder / "log.jsonl"
        if self.processes.first and path.exists():
            kept = [line for line in path.read_text().splitlines() if _logged_step(line) <= self.step]
            with atomic(path) as temporary:
                temporary.write_text("".join(f"{line}\n" for line in kept))


def _logged_step(line: str) -> float:
    try:
        return json.loads(line)["step"]
    except ValueError:
        return float("inf")


class _Asked:
    """Notes the signals that ask a job to stop: SIGTERM (SLURM before a time limit or a pre-emption), SIGUSR1, SIGINT."""

    def __init__(self) -> None:
        self.signal: int | None = None
        self._old: dict[int, Any] = {}

    def ignore(self) -> None:
        """From now on until the block begins."""
        for number in STOP_SIGNALS:
            self._old[number] = signal.signal(number, signal.SIG_IGN)

    def __enter__(self) -> _Asked:
        for number in STOP_SIGNALS:
            signal.signal(number, self._note)
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._old.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: Any) -> None:
        if self.signal is not None and number == signal.SIGINT:
            raise KeyboardInterrupt  # the second Ctrl-C means it
        self.signal = number


def _tensorboard(folder: Path) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise Refusal(
            "tensorboard is not installed", expected="the package tensorboard", do="pip install tensorboard"
        ) from None
    return SummaryWriter(folder / "tensorboard")
