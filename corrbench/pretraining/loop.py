"""The one training loop.

A run is a function of recipe, seed and data: which samples a step sees and every random number in it follow from (seed,
step), so a run that was killed and goes on from its last save ends with the same weights as one that was not (bit for bit
on a CPU in float32).
"""

from __future__ import annotations

import gc
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from corrbench.errors import DiskFull, Refusal
from corrbench.files import atomic, digest, full_disk_refused, save_tensors
from corrbench.pretraining.method import Method
from corrbench.pretraining.networks import join_batchnorm
from corrbench.pretraining.order import STEP, DataReader, Order, StepData, Steps, loader, stream
from corrbench.pretraining.processes import Processes
from corrbench.pretraining.recipe import Recipe, options_of
from corrbench.pretraining.saved import LOG, STATE, check_state, does_not_fit, load_state, save_state, set_aside
from corrbench.pretraining.schedule import factor, make_optimizer, total_steps
from corrbench.pretraining.stopping import Asked
from corrbench.pretraining.watching import Picture, Sinks, Watch, closing
from corrbench.progress import Progress
from corrbench.weights.trained import read_start

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
    watch: Watch = field(default_factory=Watch)


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
        self.lines: list[str] = []
        """The log up to now. ``last.pt`` keeps it too, so ``log.jsonl`` is right whatever happened to it."""
        torch.manual_seed(int(stream(STEP, seed).integers(2**63)))
        self.model: Method = module.Model(options)

    @property
    def state_file(self) -> Path:
        """What a run goes on from."""
        return self.folder / STATE

    def start(self, init: Path | None, *, peek: bool = False) -> None:
        """Put the network on its device; go on from the saved state of the same run, or start (from `init`).

        With `peek` nothing in the folder is touched.
        """
        p = self.processes
        self.model.to(p.device)
        saved = self._saved(peek)
        if saved is None and init is not None:
            self._begin_from(init)
        try:
            if saved is not None:
                self.model.load_state_dict(saved["model"])
            if self.recipe.batchnorm == "sync" and p.world > 1:
                join_batchnorm(self.model, p.device)
            self.optimizer = make_optimizer(self.recipe.optimizer, self.model)
            if saved is not None:
                self.optimizer.load_state_dict(saved["optimizer"])
                self.step, self.segments, self.lines = saved["step"], saved["segments"], saved["log"]
        except (RuntimeError, ValueError, KeyError, TypeError, AttributeError) as error:
            if saved is None:
                raise
            raise does_not_fit(self.state_file, error) from error
        if not self.segments or self.segments[-1][1] != p.world:
            self.segments.append([self.step, p.world])
            if self.step and p.first:
                print(
                    f"going on with {p.world} processes after {self.segments[-2][1]}: other batch norm and other random numbers",
                    flush=True,
                )
        if not peek and p.first and (self.lines or (self.folder / LOG).exists()):
            self.write_log()
        self.net: nn.Module = self.model
        if p.world > 1:
            ids = [p.device.index] if p.device.type == "cuda" else None
            # buffers stay each process's own: VFS broadcasts none, and LIIR's queue would cost half a gigabyte a step
            self.net = nn.parallel.DistributedDataParallel(self.model, device_ids=ids, broadcast_buffers=False)

    def _begin_from(self, init: Path) -> None:
        raw, _ = read_start(init)
        try:
            self.model.load_init(raw)
        except (RuntimeError, KeyError, TypeError, AttributeError, ValueError) as error:
            said = str(error).splitlines() or [""]
            raise Refusal(
                f"--init {init}: not what {self.recipe.name} starts from ({type(error).__name__}: {said[-1].strip()[:200]})",
                expected=f"the checkpoint.pth of {self.recipe.init}"
                if self.recipe.init
                else "a weights file that fits",
                do="correct --init",
            ) from error

    def _saved(self, peek: bool) -> dict[str, Any] | None:
        """The state of this run: ``last.pt``, or what was set aside when another run took its place."""
        saved, mine = load_state(self.state_file), set_aside(self.folder, self.identity)
        differing = [k for k, v in self.identity.items() if saved is not None and saved["identity"].get(k) != v]
        if saved is not None and not differing:
            check_state(self.state_file, saved, self.total)
            return saved
        before = load_state(mine)
        if before is not None:
            check_state(mine, before, self.total)
        if saved is not None and self.processes.first and not peek:
            kept = set_aside(self.folder, saved["identity"])
            self.state_file.replace(kept)
            how = "starting anew" if before is None else f"going on from {mine.name}"
            print(
                f"{self.state_file} was of another run ({', '.join(differing)} differ): {how}, it is {kept.name} now",
                flush=True,
            )
        return before

    def train(self, pace: Pace) -> None:
        """Run the remaining steps. Raises Stopped after a signal, and Refusal for a loss or a gradient that is not finite."""
        data = StepData(self.order, self.reader)
        steps = Steps(self.order, self.step, self.total, self.processes.rank, self.processes.world)
        batches = loader(data, steps, pace.workers, pin=self.processes.device.type == "cuda")
        sinks = self._sinks(pace.watch) if self.processes.first else None
        with closing(sinks), Asked() as asked:
            with asked.held_back(pace.workers):  # they must outlive the signal until the run has saved
                arriving = iter(batches)
            self._steps(arriving, pace, asked, sinks)

    def _sinks(self, watch: Watch) -> Sinks:
        title = f"{self.recipe.name}.{self.recipe.tier}.seed{self.seed}"
        return Sinks(
            watch, self.folder, title=title, identity=digest(self.identity), settings=self.recipe.settings(), step=self.step
        )  # fmt: skip

    def _steps(self, arriving: Iterator[dict[str, Tensor]], pace: Pace, asked: Asked, sinks: Sinks | None) -> None:
        p, recipe = self.processes, self.recipe
        self.net.train()
        saved_at, end = time.monotonic(), time.perf_counter()
        with Progress(f"{recipe.name} {recipe.tier}", self.total, unit="step", done=self.step) as bar:
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
                        self._log(line)
                    if sinks is not None:
                        sinks.log(self.step, line)
                    bar.advance(pace.log_steps if self.step % pace.log_steps == 0 else 0, f"loss {line['loss']:.4f}")
                if sinks is not None and sinks.wants_picture(self.step):
                    sinks.picture(self.step, self.recipe.method, lambda batch=batch: self._picture(batch))  # type: ignore[misc]
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

    @torch.no_grad()
    def _picture(self, batch: dict[str, Tensor]) -> Picture | None:
        """A picture of the network as it is; it moves neither weights nor statistics nor random numbers."""
        first = {name: value[:1].to(self.processes.device) for name, value in batch.items()}
        self.model.eval()
        try:
            with torch.random.fork_rng(devices=[]):
                return self.model.picture(first)
        finally:
            self.net.train()

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
            save_state(
                self.folder,
                {
                    "model": self.model.state_dict(), "optimizer": self.optimizer.state_dict(), "step": self.step,
                    "identity": self.identity, "segments": self.segments, "log": self.lines,
                },
            )  # fmt: skip

    def _log(self, line: dict[str, float]) -> None:
        self.lines.append(json.dumps(line))
        path = self.folder / LOG
        with full_disk_refused(path), path.open("a") as file:
            file.write(self.lines[-1] + "\n")

    def write_log(self) -> None:
        """Write ``log.jsonl`` anew: lines of steps that will be done again go, and whatever else happened to the file."""
        with atomic(self.folder / LOG) as temporary:
            temporary.write_text("".join(f"{line}\n" for line in self.lines))
