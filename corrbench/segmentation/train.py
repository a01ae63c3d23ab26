"""Training of STM in stages (hkchengrex/Mask-Propagation train.py, model/{model,losses}.py, dataset/): static images, BL30K, then
YouTube-VOS with DAVIS. Runs in the loop of pretraining.

Where this departs: every sample draws from its own stream of random numbers. YouTube-VOS may be larger than 480: it is resized when
it is read, where the reference reads JPEGs that were resized and saved again. Its clips are all that have three frames, where the
reference has a list of 3,464 names. Skips change at the borders of epochs, as there: a run of few epochs does not see them all.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.random import Generator
from numpy.typing import NDArray
from torch import Tensor, nn

from corrbench.datasets.clips import ClipIndex, ClipReader
from corrbench.encoders.stm import PREPROCESS, STM, Query, widen
from corrbench.errors import Refusal
from corrbench.pretraining.method import Method
from corrbench.segmentation import augment
from corrbench.segmentation.aggregation import aggregate
from corrbench.segmentation.augment import Pair

FRAMES = 3
DRAWS = 5
"""Tries to draw frames whose first mask has an object; then a sample of background alone."""
SKIPS = ((0.0, 5), (0.1, 10), (0.2, 15), (0.3, 20), (0.4, 25))
"""(share of the run, largest distance of frames); at the end back to the first."""


@dataclass(frozen=True)
class Options:
    """Figures of a stage."""

    kind: str = "clips"
    """`static`: three frames made from one image, one object; `clips`: three frames of a clip, two objects."""
    crop: int = 384
    """Pixels."""
    area: tuple[float, float] = (0.36, 1.0)
    """Share of the frame in a random crop; 0.25 in BL30K."""
    small_objects: bool = True
    """False: an object needs more than 900 px in the first frame, or more than 100 px if both later frames have fewer than 400 (BL30K)."""
    skip_back: float = 0.9
    """Share of the run after which frames are near again; 0.8 in BL30K."""
    warm: int = 20_000
    """Steps in which every pixel counts."""
    hard: int = 70_000
    """Step from which only `share` of the pixels count; in between the share falls."""
    share: float = 0.15
    short_side: int | None = 480
    """Larger clips are resized to that when they are read; None: never (BL30K)."""

    def __post_init__(self) -> None:
        if self.kind not in ("static", "clips"):
            raise Refusal(f"kind: {self.kind!r}", expected="static or clips", do="correct the recipe")


def open_reader(root: Path, index: Path) -> ClipReader:
    """The data of a run: clips or images below `root`, indexed by scripts/frames.py."""
    return ClipReader(root, ClipIndex.read(index))


def largest_skip(done: float, *, back: float) -> int:
    """Largest distance of neighboring frames when a share `done` of the run is over."""
    if done >= back:
        return SKIPS[0][1]
    return max(skip for share, skip in SKIPS if done >= share)


def draw_frames(length: int, skip: int, rng: Generator) -> tuple[int, int, int]:
    """Three frames of a clip, in reverse with probability one half; neighbors may be the same frame at its end.

    Source: dataset/vos_dataset.py.
    """
    jump = min(length, skip)
    a = int(rng.integers(0, length - jump + 1))
    b = min(a + 1 + int(rng.integers(0, jump + 1)), length - jump, length - 1)
    c = min(b + 1 + int(rng.integers(0, jump + 1)), length - jump // 2, length - 1)
    return (c, b, a) if rng.random() < 0.5 else (a, b, c)


class Source:
    """Samples of three frames with class maps."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self.progress = 0.0
        """Share of the run that is done, set by the loop at the start of an epoch."""

    def epoch(self, index: ClipIndex, rng: Generator) -> NDArray[np.int64]:
        """``[n, 2]``: clip, largest distance of its frames."""
        skip = largest_skip(self.progress, back=self.options.skip_back)
        least = 1 if self.options.kind == "static" else FRAMES
        rows = [(i, max(1, skip // clip.spacing)) for i, clip in enumerate(index.videos) if clip.frames >= least]
        return rng.permutation(np.array(rows, np.int64).reshape(-1, 2))

    def load(self, reader: ClipReader, sample: NDArray[np.int64], rng: Generator) -> dict[str, Tensor]:
        """`frames` ``[3, 3, s, s]`` uint8, `classes` ``[3, s, s]`` uint8 (0, 1 target, 2 second object), `first` ``[1, s, s]`` the soft
        first mask, `second` 1.0 if there is a second object.
        """
        clip, skip = (int(v) for v in sample)
        if self.options.kind == "static":
            return _packed(*self._static(reader, clip, rng))
        frames: list[Any] = []
        ids = np.zeros((FRAMES, self.options.crop, self.options.crop), np.uint8)
        chosen: list[int] = []
        for _ in range(DRAWS):
            frames, ids = self._clip(reader, clip, skip, rng)
            known = [int(v) for v in np.unique(ids[0]) if v not in (0, 255) and self._large(ids, int(v))]
            chosen = [int(v) for v in rng.permutation(known)[:2]]
            if chosen:
                break
        classes = np.zeros_like(ids)
        for number, label in enumerate(chosen, 1):
            classes[ids == label] = number
        return _packed(frames, classes, (classes[:1] == 1).astype(np.float32), second=len(chosen) > 1)

    def _large(self, ids: NDArray[np.uint8], label: int) -> bool:
        if self.options.small_objects:
            return True
        first, *later = (int((frame == label).sum()) for frame in ids)
        return first > 900 or (first > 100 and all(n < 400 for n in later))

    def _clip(self, reader: ClipReader, clip: int, skip: int, rng: Generator) -> tuple[list[Any], NDArray[np.uint8]]:
        o = self.options
        numbers = draw_frames(reader.index.videos[clip].frames, skip, rng)
        pairs = [reader.read(clip, t) for t in numbers]
        if o.short_side is not None and min(pairs[0][0].size) > o.short_side:
            pairs = [augment.short_side(p, o.short_side) for p in pairs]
        mirror, cut = augment.flip(rng), augment.resized_crop(rng, pairs[0][0].size, o.crop, o.area)
        color = augment.jitter(rng, brightness=0.1, contrast=0.03, saturation=0.03, gray=0.05)
        frames, ids = [], []
        for pair in pairs:
            image, mask = cut(mirror(pair))
            turn = augment.affine(rng, degrees=15, shear=10)
            image, mask = turn((color(image), mask))
            own = augment.jitter(rng, brightness=0.01, contrast=0.01, saturation=0.01)
            frames.append(own(image))
            ids.append(np.array(mask))
        return frames, np.stack(ids)

    def _static(
        self, reader: ClipReader, item: int, rng: Generator
    ) -> tuple[list[Any], NDArray[np.uint8], NDArray[np.float32]]:
        o = self.options
        pair: Pair = reader.read(item, 0)
        if min(pair[0].size) > o.crop * 2:  # nothing below needs more
            pair = augment.short_side(pair, o.crop * 2)
        grow = augment.affine(rng, degrees=0, scale=(0.8, 1.5), how=augment.NEAREST, mask_how=augment.NEAREST)
        mirror = augment.flip(rng)
        color = augment.jitter(rng, brightness=0.1, contrast=0.05, saturation=0.05, hue=0.05, gray=0.05)
        image, mask = mirror(grow(pair))
        image = color(image)
        frames, masks = [], []
        for _ in range(FRAMES):
            turn = augment.affine(rng, degrees=20, shear=10, scale=(0.9, 1.1), mask_how=augment.BICUBIC)
            moved = augment.crop(rng, augment.short_side(turn((image, mask)), o.crop), o.crop)
            own = augment.jitter(rng, brightness=0.1, contrast=0.05, saturation=0.05)
            moved = (own(moved[0]), moved[1])
            if rng.random() < 0.33:
                moved = augment.thin_plate_warp(*moved, rng)
            frames.append(moved[0])
            masks.append(np.array(moved[1], np.float32) / 255)
        soft = np.stack(masks).astype(np.float32)
        return frames, (soft > 0.5).astype(np.uint8), soft[:1]


def _packed(
    frames: list[Any], classes: NDArray[np.uint8], first: NDArray[np.float32], *, second: bool = False
) -> dict[str, Tensor]:
    images = np.stack([np.array(f).transpose(2, 0, 1) for f in frames])
    return {
        "frames": torch.from_numpy(images), "classes": torch.from_numpy(classes), "first": torch.from_numpy(first),
        "second": torch.tensor(float(second)),
    }  # fmt: skip


def counted_share(step: int, *, warm: int, hard: int, share: float) -> float:
    """Share of the pixels that count in a step (losses.py): 1 until `warm`, `share` from `hard` on, linear in between."""
    if step < warm:
        return 1.0
    if step >= hard:
        return share
    return share + (1 - share) * (hard - step) / (hard - warm)


def bootstrapped_loss(logits: Tensor, classes: Tensor, *, share: float) -> Tensor:
    """Cross-entropy of one frame of one sample: mean over the `share` of pixels with the largest. ``[K, H, W]``, ``[H, W]``."""
    losses = nn.functional.cross_entropy(logits[None], classes[None].long(), reduction="none").flatten()
    if share >= 1:
        return losses.mean()
    return losses.topk(max(1, int(share * losses.numel()))).values.mean()


def read_together(keys: Tensor, values: Tensor, queries: Tensor) -> Tensor:
    """The plain read of a batch, as training has it: keys ``[B, 128, T, h, w]``, values ``[B, 512, T, h, w]``, queries
    ``[B, 128, h, w]`` to ``[B, 512, h, w]``.
    """
    query = queries.flatten(2) / math.sqrt(queries.shape[1])
    weight = (keys.flatten(2).transpose(1, 2) @ query).softmax(1)
    return (values.flatten(2) @ weight).reshape(len(values), -1, *queries.shape[2:])


class Model(Method):
    """STM with the loss over two predicted frames."""

    def __init__(self, options: Options) -> None:
        super().__init__()
        self.options = options
        self.net = STM(4 if options.kind == "static" else 5)
        self.step = 0

    def before_step(self, step: int, total: int) -> None:
        self.step = step

    def load_init(self, raw: Mapping[str, Any]) -> None:
        """Start from canonical weights, of a ResNet-50 or an STM, or from another stage; new input channels are orthogonal."""
        generator = torch.Generator().manual_seed(0)
        arch = raw["meta"]["arch"] if "meta" in raw else "stm"
        if arch == "stm":
            state = dict(raw["state_dict"] if "meta" in raw else raw)
            self.net.load_state_dict(widen(state, self.net.planes, generator), strict=True)
            return
        if arch != "resnet50":
            raise Refusal(
                f"weights of a {arch}",
                expected="weights of a resnet50 or an stm",
                do="correct `start:` of the recipe",
            )
        own = {k: v for k, v in raw["state_dict"].items() if not k.startswith("layer4.")}
        query = {k.replace("layer1.", "res2.", 1): v for k, v in own.items()}
        self.net.rgb_encoder.load_state_dict(query, strict=True)
        name = "mask_rgb_encoder."
        state = widen({name + k: v for k, v in own.items()}, self.net.planes, generator)
        missing, unexpected = self.net.mask_rgb_encoder.load_state_dict(
            {k.removeprefix(name): v for k, v in state.items()}, strict=False
        )
        assert not unexpected
        assert all(k.endswith(".bias") for k in missing)  # its convolutions have biases, which stay 0

    def forward(self, batch: dict[str, Tensor], generator: torch.Generator) -> dict[str, Tensor]:
        images = batch["frames"].float() / 255
        shape = (1, 1, 3, 1, 1)
        images = (images - images.new_tensor(PREPROCESS.mean).reshape(shape)) / images.new_tensor(
            PREPROCESS.std
        ).reshape(shape)
        classes = batch["classes"]
        two = self.options.kind == "clips"
        first = [batch["first"]] + ([(classes[:, :1] == 2).float()] if two else [])  # [B, 1, H, W] of each object
        exists = [torch.ones_like(batch["second"]), batch["second"]][: len(first)]
        memory = self._memorize(images[:, 0], first)
        logits1, p1 = self._segment(images[:, 1], memory, exists)
        newer = self._memorize(images[:, 1], p1)
        both = [
            tuple(torch.cat([old, new], 2) for old, new in zip(a, b, strict=True))
            for a, b in zip(memory, newer, strict=True)
        ]
        logits2, _ = self._segment(images[:, 2], both, exists)
        o = self.options
        share = counted_share(self.step, warm=o.warm, hard=o.hard, share=o.share)
        total = images.new_zeros(())
        for logits, frame in ((logits1, 1), (logits2, 2)):
            for j in range(len(images)):
                channels = 3 if two and bool(batch["second"][j]) else 2
                total = total + bootstrapped_loss(logits[:channels, j], classes[j, frame], share=share)
        with torch.no_grad():
            found = logits2.argmax(0) == 1
            target = classes[:, 2] == 1
            iou = ((found & target).sum() + 1) / ((found | target).sum() + 1)
        return {"loss": total / len(images), "iou": iou, "counted": images.new_tensor(share)}

    def _memorize(self, image: Tensor, masks: list[Tensor]) -> list[Any]:
        """Keys and values ``[B, ., 1, h, w]`` of each object, the other object in the third plane."""
        out = []
        for i, mask in enumerate(masks):
            other = masks[1 - i] if len(masks) == 2 else torch.zeros_like(mask)
            key, value = self.net.memorize_with(image, mask, other)
            out.append((key[:, :, None], value[:, :, None]))
        return out

    def _segment(self, image: Tensor, memory: list[Any], exists: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """Logits ``[K, B, H, W]`` and the joined masks ``[B, 1, H, W]`` of each object."""
        query: Query = self.net.query(image)
        found = []
        for (keys, values), there in zip(memory, exists, strict=True):
            joined = torch.cat([read_together(keys, values, query.key), query.value], 1)
            logit = self.net.decoder(joined, query.f8, query.f4)
            found.append(torch.sigmoid(logit)[:, 0] * there[:, None, None])
        classes, logits = aggregate(torch.stack(found))
        return logits, [c[:, None] for c in classes[1:]]

    def checkpoint(self) -> dict[str, Any]:
        """A plain state dict under the released files' keys."""
        return {k: v.cpu() for k, v in self.net.state_dict().items()}
