"""Mask propagation through one video with STM (Mask-Propagation inference_core.py and inference_core_yv.py as one engine).

Objects may start in any annotated frame; a video with one annotation, as in DAVIS, is the case of one segment. Frames stream:
what is kept of a frame is its memory, if it has one.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import interpolate, pad

from corrbench.encoders.stm import PREPROCESS, STM, STRIDE
from corrbench.errors import Refusal
from corrbench.segmentation.aggregation import aggregate
from corrbench.segmentation.memory import Bank, read
from corrbench.segmentation.protocol import MaskPropagation

SHORT_SIDE = 480
PIXELS = 4 * 480 * 864
"""Pixels of all objects that go through mask encoder and decoder together: four objects at 480p."""
Ids = NDArray[np.uint8]


@dataclass(frozen=True)
class Frames:
    """One video: how its images and annotations are read."""

    name: str
    count: int
    image: Callable[[int], NDArray[np.uint8]]
    """Frame t as ``[H, W, 3]`` uint8 RGB."""
    annotations: Mapping[int, Ids]
    """Annotated frames and their ids ``[H, W]``; 0 means "not labelled"."""


@dataclass
class Timing:
    """Frames and seconds as the source counts them: network, resizing, argmax and the copy to the CPU; reading left out."""

    frames: int = 0
    seconds: float = 0.0


def padding(height: int, width: int) -> tuple[int, int, int, int]:
    """Zeros to the next multiple of 16, as (left, right, top, bottom); the smaller half comes first."""
    x, y = -width % STRIDE, -height % STRIDE
    return x // 2, x - x // 2, y // 2, y - y // 2


class Engine:
    """Propagation through one video; `run` yields the ids of every frame from the first annotated one on."""

    def __init__(self, net: STM, rules: MaskPropagation, device: torch.device) -> None:
        self.net, self.rules, self.device = net, rules, device
        self.timing = Timing()

    @torch.inference_mode()
    def run(self, frames: Frames) -> Iterator[tuple[int, Ids]]:
        """(frame, ids ``[H, W]`` in the numbers of the annotations) in order. Raises Refusal for a video without objects."""
        given = sorted(t for t, ids in frames.annotations.items() if ids.any())  # a blank annotation says nothing
        ids = sorted({int(v) for t in given for v in np.unique(frames.annotations[t])} - {0})
        if not ids:
            raise Refusal(
                f"{frames.name}: no object in any annotation", expected="ids above 0", do="check the data set with python -m scripts.doctor"
            )  # fmt: skip
        self._begin(frames.annotations[given[0]].shape, ids, given, frames.count)
        reader = self._images(frames, given[0])
        image = next(reader)
        predicted: Tensor | None = None
        for i, start in enumerate(given):
            end = given[i + 1] if i + 1 < len(given) else frames.count - 1
            with _Clock(self.timing, self.device):
                image = image.to(self.device, non_blocking=True)
                predicted = self._interact(image, frames.annotations[start], predicted)
                found = self._output(predicted, frames.name, start)
            yield start, found
            last = start
            for t in range(start + 1, end + 1):
                image = next(reader)
                with _Clock(self.timing, self.device):
                    image = image.to(self.device, non_blocking=True)
                    predicted = self._step(image)
                    if t != end:
                        keep = t - last >= self.rules.every
                        self._remember(image, predicted, annotated=False, for_good=keep)
                        last = t if keep else last
                    found = self._output(predicted, frames.name, t)
                if t != end or i + 1 == len(given):
                    yield t, found
        self.timing.frames += frames.count - given[0]

    def _begin(self, size: tuple[int, ...], ids: list[int], given: list[int], count: int) -> None:
        self.size = (size[0], size[1])
        wanted = len(given) + (count - given[0]) // self.rules.every
        slots = min(wanted, max(self.rules.memory_frames, len(given) + 1)) + 1  # the last one for a passing frame
        self.ids, self.banks = ids, [Bank(slots, self.rules.memory_frames) for _ in ids]
        self.enabled: list[int] = []  # positions in ids
        self.numbers = torch.tensor([0, *ids], dtype=torch.uint8, device=self.device)
        height, width = self.size
        if self.rules.size == "short_side":
            short = min(self.size)
            height, width = (SHORT_SIDE if s == short else int(SHORT_SIDE * s / short) for s in self.size)
        self.inner, self.pad = (height, width), padding(height, width)

    def _images(self, frames: Frames, first: int) -> Iterator[Tensor]:
        """Prepared images ``[1, 3, Hp, Wp]`` on the CPU from `first` on, read ahead by a thread."""

        def load(t: int) -> Tensor:
            image = frames.image(t)
            if image.shape[:2] != self.size:
                raise Refusal(
                    f"{frames.name}: frame {t} is {image.shape[1]}x{image.shape[0]}",
                    expected=f"{self.size[1]}x{self.size[0]} as the annotation",
                    do="check the data set with python -m scripts.doctor",
                )
            pixels = torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))[None].float() / 255
            shape = (1, 3, 1, 1)
            pixels = (pixels - torch.tensor(PREPROCESS.mean).reshape(shape)) / torch.tensor(PREPROCESS.std).reshape(
                shape
            )
            if self.inner != self.size:  # after normalizing, on the tensor, without antialiasing
                pixels = interpolate(pixels, self.inner, mode="bicubic", align_corners=False)
            return pad(pixels, self.pad)

        with ThreadPoolExecutor(1) as pool:
            ahead = pool.submit(load, first)
            for t in range(first, frames.count):
                image = ahead.result()
                if t + 1 < frames.count:
                    ahead = pool.submit(load, t + 1)
                yield image

    def _interact(self, image: Tensor, annotation: Ids, predicted: Tensor | None) -> Tensor:
        """Take up an annotated frame: its labels replace what was predicted there, its objects join, all are remembered."""
        labels = torch.from_numpy(annotation.astype(np.int64)).to(self.device)[None, None].float()
        if self.inner != self.size:
            labels = interpolate(labels, self.inner, mode="nearest")
        labels = pad(labels, self.pad)[0, 0]
        if predicted is None:
            predicted = torch.zeros(len(self.ids) + 1, *labels.shape, device=self.device)
        there = set(np.unique(annotation).tolist())  # in the annotation: a small object may vanish when it is resized
        here = [i for i, number in enumerate(self.ids) if number in there]
        self.enabled = sorted({*self.enabled, *here})
        objects = torch.where(labels[None] > 0, 0.0, predicted[1:])
        for i in here:
            objects[i] = (labels == self.ids[i]).float()  # the whole map, also where it was predicted elsewhere
        classes, _ = aggregate(objects)
        self._remember(image, classes, annotated=True, for_good=True)
        return classes

    def _remember(self, image: Tensor, classes: Tensor, *, annotated: bool, for_good: bool) -> None:
        """Memorise the enabled objects of a frame with their soft masks: for good, or until the next frame."""
        masks = classes[1:][self.enabled][:, None]
        others = masks.sum(0, keepdim=True) - masks
        for part in self._parts(masks):
            keys, values = self.net.memorize_with(image, masks[part], others[part])
            for key, value, i in zip(keys, values, self.enabled[part], strict=True):
                if for_good:
                    self.banks[i].keep(key, value, annotated=annotated)
                else:
                    self.banks[i].hold(key, value)

    def _step(self, image: Tensor) -> Tensor:
        """Classes ``[k + 1, Hp, Wp]`` of the next frame; objects that have not started are 0."""
        query = self.net.query(image)
        probabilities = []
        for part in self._parts(self.enabled):
            banks = [self.banks[i].rows() for i in self.enabled[part]]
            found = torch.stack(
                [read(*rows, query.key[0], top_k=self.rules.top_k, sigma=self.rules.sigma) for rows in banks]
            )
            probabilities.append(torch.sigmoid(self.net.decode(found, query))[:, 0])
        joined, _ = aggregate(torch.cat(probabilities))
        classes = torch.zeros(len(self.ids) + 1, *joined.shape[1:], device=self.device)
        classes[[0, *(i + 1 for i in self.enabled)]] = joined
        return classes

    def _parts(self, objects: list[int] | Tensor) -> list[slice]:
        """Objects in groups that go through the network together."""
        height, width = (n + p for n, p in zip(self.inner, (sum(self.pad[2:]), sum(self.pad[:2])), strict=True))
        at_once = max(1, PIXELS // (height * width))
        return [slice(i, i + at_once) for i in range(0, len(objects), at_once)]

    def _output(self, classes: Tensor, name: str, frame: int) -> Ids:
        """Un-pad, resize the classes bilinearly to the size of the annotation, take the largest.

        Raises Refusal for values that are not finite: their largest would be background.
        """
        if not bool(torch.isfinite(classes).all()):
            raise Refusal(
                f"{name}: the network's output in frame {frame} is not finite",
                expected="finite numbers",
                do="check the weights and the images of that frame",
            )
        left, right, top, bottom = self.pad
        inner = classes[:, top : classes.shape[1] - bottom, left : classes.shape[2] - right]
        if self.inner != self.size:
            inner = interpolate(inner[None], self.size, mode="bilinear", align_corners=False)[0]
        return self.numbers[inner.argmax(0)].cpu().numpy()


class _Clock:
    """Adds the time of its block, the device's work included."""

    def __init__(self, timing: Timing, device: torch.device) -> None:
        self.timing, self.device = timing, device

    def __enter__(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        self.start = time.perf_counter()

    def __exit__(self, *error: object) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        self.timing.seconds += time.perf_counter() - self.start
