"""Where a run can be watched besides its log: TensorBoard, Weights & Biases, and pictures every so many steps.

None of this is needed, and nothing here moves the weights. A sink that fails (a network that is away, a full disk) is
left out from then on with one line in the log: it ends no run.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from corrbench.errors import Refusal

Picture = NDArray[np.uint8]
"""``[H, W, 3]`` RGB."""
MODES = ("online", "offline", "disabled")
"""What W&B knows as WANDB_MODE."""
FOLDER = "pictures"
PATIENCE = 60
"""Seconds that a run waits at its end for a service to take what is left."""


@dataclass(frozen=True)
class Watch:
    """What a run shows besides its log. The keys of `pretraining: {watch: ...}` in a config."""

    tensorboard: bool = False
    """Event files in ``tensorboard/`` of the run's folder."""
    wandb: Mapping[str, str] | None = None
    """project, entity (yours, if left out) and mode (WANDB_MODE, else online)."""
    pictures: int = 0
    """A picture every so many steps, in ``pictures/`` and in the sinks; 0: none."""

    def __post_init__(self) -> None:
        said = dict(self.wandb or {})
        mode = said.get("mode")
        if (self.wandb is not None and not said.get("project")) or (mode is not None and mode not in MODES):
            raise Refusal(
                f"watch.wandb: {said}",
                expected=f"a project, and for mode {', '.join(MODES)}",
                do="write `wandb: {project: NAME, mode: offline}`",
            )


class Sink(ABC):
    """One place to which a run's figures and pictures go."""

    name: str

    @abstractmethod
    def log(self, step: int, figures: Mapping[str, float]) -> None:
        """Figures of a step."""

    @abstractmethod
    def picture(self, step: int, name: str, image: Picture) -> None:
        """One picture."""

    def close(self, *, complete: bool) -> None:  # noqa: B027
        """The run has ended, or goes on later."""


class TensorBoard(Sink):
    """Event files (``tensorboard --logdir RUNS``). Steps that a run does again after a save replace the earlier ones."""

    name = "TensorBoard"

    def __init__(self, folder: Path, step: int) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            raise _missing("tensorboard") from None
        self.writer = SummaryWriter(folder / "tensorboard", purge_step=step + 1)

    def log(self, step: int, figures: Mapping[str, float]) -> None:
        for name, value in figures.items():
            self.writer.add_scalar(name, value, step)

    def picture(self, step: int, name: str, image: Picture) -> None:
        self.writer.add_image(name, image, step, dataformats="HWC")

    def close(self, *, complete: bool) -> None:
        self.writer.close()


class WandB(Sink):
    """A W&B run, by a name and an id that stay when the run goes on. Its files are in ``wandb/`` of the run's folder."""

    name = "Weights & Biases"

    def __init__(
        self, folder: Path, title: str, identity: str, settings: Mapping[str, Any], said: Mapping[str, str]
    ) -> None:
        try:
            import wandb
        except ImportError:
            raise _missing("wandb") from None
        mode = said.get("mode") or os.environ.get("WANDB_MODE") or "online"
        self.run = wandb.init(
            project=said["project"], entity=said.get("entity"), name=title, id=identity, resume="allow", dir=str(folder),
            config=dict(settings), mode=mode,  # type: ignore[arg-type]
            settings=wandb.Settings(console="off", disable_git=True, init_timeout=60),
        )  # fmt: skip
        self.wrap = wandb.Image

    def log(self, step: int, figures: Mapping[str, float]) -> None:
        self.run.log(dict(figures), step=step)

    def picture(self, step: int, name: str, image: Picture) -> None:
        self.run.log({name: self.wrap(image)}, step=step)

    def close(self, *, complete: bool) -> None:
        """Send what is left, for `PATIENCE` seconds at most: the service may be away, and all of it is in the run's folder."""
        ending = threading.Thread(target=self._finish, args=(0 if complete else 1,), daemon=True)
        ending.start()
        ending.join(PATIENCE)
        if ending.is_alive():
            print(
                f"{self.name}: not everything was sent in {PATIENCE} s; `wandb sync` sends {self.run.dir} later",
                flush=True,
            )
            _end_children("wandb-core")  # else the interpreter waits for it at its end

    def _finish(self, status: int) -> None:
        with contextlib.suppress(Exception):
            self.run.finish(exit_code=status)


class Pictures(Sink):
    """PNG files, ``<name>-<step>.png``."""

    name = "pictures"

    def __init__(self, folder: Path) -> None:
        self.folder = folder / FOLDER

    def log(self, step: int, figures: Mapping[str, float]) -> None:
        pass

    def picture(self, step: int, name: str, image: Picture) -> None:
        from corrbench.images import write_image

        self.folder.mkdir(exist_ok=True)
        write_image(self.folder / f"{name}-{step:07d}.png", image[:, :, ::-1])


class Sinks:
    """All sinks of a run; one that fails is left out from then on."""

    def __init__(self, watch: Watch, folder: Path, *, title: str, identity: str, settings: Mapping[str, Any], step: int) -> None:  # fmt: skip
        """Raises Refusal for a package that is not installed; a service that does not answer is left out."""
        self.every = watch.pictures
        self.sinks: list[Sink] = []
        """Those that still work."""
        wanted: list[tuple[str, Callable[[], Sink]]] = []
        if watch.tensorboard:
            wanted.append((TensorBoard.name, lambda: TensorBoard(folder, step)))
        if watch.wandb is not None:
            said = watch.wandb
            wanted.append((WandB.name, lambda: WandB(folder, title, identity, settings, said)))
        if watch.pictures:
            wanted.append((Pictures.name, lambda: Pictures(folder)))
        for name, make in wanted:
            try:
                self.sinks.append(make())
            except Refusal:
                raise
            except Exception as error:
                _left_out(name, error)

    def log(self, step: int, figures: Mapping[str, float]) -> None:
        """Send figures everywhere."""
        self._each(lambda sink: sink.log(step, figures))

    def wants_picture(self, step: int) -> bool:
        """Whether a picture is due after this step."""
        return bool(self.every) and step % self.every == 0

    def picture(self, step: int, name: str, draw: Callable[[], Picture | None]) -> None:
        """Draw a picture and send it everywhere; drawing may fail as sinks may."""
        try:
            image = draw()
        except Exception as error:
            _left_out("pictures", error)
            self.every = 0
            return
        if image is None:
            self.every = 0
            print("no pictures: this method has none", flush=True)
        else:
            self._each(lambda sink: sink.picture(step, name, image))

    def close(self, *, complete: bool) -> None:
        """End all of them."""
        for sink in self.sinks:
            with contextlib.suppress(Exception):
                sink.close(complete=complete)

    def _each(self, do: Callable[[Sink], None]) -> None:
        for sink in list(self.sinks):
            try:
                do(sink)
            except Exception as error:
                _left_out(sink.name, error)
                self.sinks.remove(sink)


@contextmanager
def closing(sinks: Sinks | None) -> Iterator[None]:
    """Close the sinks when the block ends, as complete if nothing was raised."""
    complete = False
    try:
        yield
        complete = True
    finally:
        if sinks is not None:
            sinks.close(complete=complete)


def _end_children(name: str) -> None:
    """Kill child processes of this one by their name."""
    for status in Path("/proc").glob("[0-9]*/status"):
        with contextlib.suppress(OSError, KeyError):
            said = dict(line.split(":\t", 1) for line in status.read_text().splitlines() if ":\t" in line)
            if said["Name"] == name and int(said["PPid"]) == os.getpid():
                os.kill(int(status.parent.name), signal.SIGKILL)


def _missing(package: str) -> Refusal:
    return Refusal(
        f"{package} is not installed",
        expected=f"the package {package}",
        do=f"pip install {package} (requirements.txt has it)",
    )


def _left_out(name: str, error: Exception) -> None:
    said = " ".join(str(error).split())[:200] or type(error).__name__
    print(f"{name}: left out from now on ({said}); the run goes on, log.jsonl has everything", flush=True)
