"""CRW, contrastive random walk (ajabri/videowalk code/{train,model,resnet}.py, utils/augs.py).

Where this departs: a clip that cannot be read is replaced with the run's own random numbers; the backward edge mask may be
drawn on its own (`edge_dropout: independent`), the default writes into the shared affinity as the reference does.
`zero_diagonal` works, which the reference reads from its command line and forgets; `targets: sinkhorn` is its experimental
code with the one name in it that does not exist taken for the affinities.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.random import Generator
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from corrbench.datasets.videos import Index, Reader, Video
from corrbench.errors import Refusal
from corrbench.pretraining import augment
from corrbench.pretraining.drawing import walk_picture
from corrbench.pretraining.method import Method
from corrbench.pretraining.networks import Trunk, kept_statistics
from corrbench.pretraining.watching import Picture

DROPPED = -1e20
EPS = 1e-20


_WORDS = {
    "edge_dropout": ("shared", "independent"),
    "frames": ("grid", "none"),
    "targets": ("home", "sinkhorn"),
    "padding": ("reflect", "zeros"),
}


@dataclass(frozen=True)
class Options:
    """Figures of the method; the defaults are the published command's."""

    clip: int = 4
    """Frames of a clip; at least 3."""
    fps: float = 8.0
    """Rate at which a clip's frames are taken; without a known rate of the video, a gap of as many frames."""
    clips_per_video: int = 5
    image: int = 256
    patch: int = 64
    stride: int = 32
    temperature: float = 0.05
    dropout: float = 0.1
    edge_dropout: str = "shared"
    """`shared`: an edge dropped forward is dropped backward too (19 % in all); `independent`: 10 % each way."""
    frames: str = "grid"
    """`grid`: a node is a patch; `none` (``--frame-aug none``): a node is a cell of the whole frame's map, 1024 of them at 256 pixels."""
    transforms: Sequence[str] = ("crop",)
    """Of whole frames (``--frame-transforms``), in the reference's order: `crop` (else the frame is resized), `cj` (color jitter
    of 0.1), `flip`."""
    patch_transforms: Sequence[str] = ()
    """Of every patch, or of the frame for `frames: none`: `cj`, `flip` (``--frame-aug grid-cj-flip``)."""
    featdrop: float = 0.0
    """Share of the values of feature maps that is dropped."""
    head_depth: int = 0
    """Hidden layers of the head; -1: no head, nodes are the encoder's features."""
    flip: bool = False
    """Multiply the transitions in the opposite order (``--flip``, which its help calls a bug)."""
    zero_diagonal: bool = False
    """A node does not meet the node of its own place: affinity 0."""
    targets: str = "home"
    """`home`: walks must return to where they began. `sinkhorn` (``--sk-targets``): walks go one way, to where the optimal
    transport between the frames leads."""
    padding: str = "reflect"
    """Of the encoder's convolutions; `zeros` as ``--model-type scratch_zeropad``."""
    bn_clips: int | None = None
    """Clips per batch-norm batch within a process; 10 is what each of the author's two GPUs saw, whose first one's running
    statistics were kept. None: all together."""

    def __post_init__(self) -> None:
        if self.clip < 3:
            raise Refusal(
                f"clip: {self.clip}", expected="at least 3: two frames make no palindrome", do="use longer clips"
            )
        if self.frames == "grid" and (min(self.image, self.patch, self.stride) < 1 or len(self.corners) < 2):
            raise Refusal(
                f"image: {self.image}, patch: {self.patch}, stride: {self.stride}: at most one patch in an image",
                expected="two patches or more along a side: a walk over one node always ends at home, with loss 0",
                do="use smaller patches or a smaller stride (the published recipe: 64 and 32 of 256)",
            )
        for name, known in _WORDS.items():
            if getattr(self, name) not in known:
                raise Refusal(f"{name}: {getattr(self, name)!r}", expected=" or ".join(known), do="correct it")
        for name, words in (("transforms", ("crop", "cj", "flip")), ("patch_transforms", ("cj", "flip"))):
            value = getattr(self, name)
            if isinstance(value, str) or not set(value) <= set(words):
                raise Refusal(f"{name}: {value!r}", expected=f"a list of {', '.join(words)}", do="correct it")
        if self.head_depth < -1 or not 0 <= self.featdrop < 1:
            raise Refusal(
                f"head_depth: {self.head_depth}, featdrop: {self.featdrop}",
                expected="a depth from -1 on, a share of 0 to 1",
                do="correct it",
            )

    @property
    def corners(self) -> range:
        """Where patches begin along a side of the image; each pair of two is a node."""
        return range(0, self.image - self.patch + 1, self.stride)

    def check_share(self, clips: int) -> None:
        """Refuse a share of the batch per process that the batch-norm batches do not divide."""
        if self.bn_clips and clips % self.bn_clips:
            raise Refusal(
                f"{clips} clips per process, {self.bn_clips} per batch-norm batch (bn_clips)",
                expected="a multiple", do="use fewer GPUs (two for the published recipe), or change bn_clips and say so",
            )  # fmt: skip


def walk(
    q: Tensor,
    *,
    temperature: float,
    dropout: float,
    independent: bool = False,
    flip: bool = False,
    zero_diagonal: bool = False,
    targets: str = "home",
    generator: torch.Generator | None = None,
) -> list[Tensor]:
    """Loss of every palindrome walk. `q`: unit nodes ``[B, C, T, N]``; returns T - 2 scalars, each near ln N untrained.

    Edges are dropped by writing into one affinity matrix that both directions share, so the backward walk misses the
    forward walk's edges too; `independent` gives each direction its own mask (code/model.py). The others: see `Options`.
    """
    affinity = torch.einsum("bctn,bctm->btnm", q[:, :, :-1], q[:, :, 1:])  # [B, T-1, N, N]
    if zero_diagonal:
        affinity = affinity * (1 - torch.eye(affinity.shape[-1], device=q.device))
    forward_mask = _edges(affinity, dropout, generator)
    backward_mask = _edges(affinity, dropout, generator)
    forward = affinity.masked_fill(forward_mask, DROPPED)
    backward = (affinity if independent else forward).transpose(2, 3).masked_fill(backward_mask, DROPPED)
    there = torch.softmax(forward / temperature, dim=-1)
    if targets == "sinkhorn":
        return _one_way(there, affinity if independent else forward, temperature)
    back = torch.softmax(backward / temperature, dim=-1)
    batch, hops, nodes, _ = affinity.shape
    target = torch.arange(nodes, device=q.device).repeat(batch)
    losses, out, home = [], there[:, 0], back[:, 0]
    for i in range(1, hops):  # the one-hop cycle is never used
        if flip:
            out, home = there[:, i] @ out, home @ back[:, i]
            walked = home @ out
        else:
            out, home = out @ there[:, i], back[:, i] @ home
            walked = out @ home
        losses.append(nn.functional.cross_entropy(torch.log(walked + EPS).flatten(0, 1), target))
    return losses


def _one_way(there: Tensor, affinity: Tensor, temperature: float) -> list[Tensor]:
    """Loss of walks from the first frame to each later one, against the transport between them (``--sk-targets``)."""
    walked = there[:, 0]
    with torch.no_grad():
        transport = sinkhorn((affinity[:, 0] / temperature).exp(), tolerance=0.01, most=100)
    losses = []
    for i in range(1, there.shape[1]):
        walked = walked @ there[:, i]
        with torch.no_grad():
            transport = sinkhorn((affinity[:, i] / temperature).exp(), tolerance=0.01, most=100) @ transport
            target = sinkhorn(transport, tolerance=0.001, most=10).argmax(-1).flatten()
        losses.append(nn.functional.cross_entropy(torch.log(walked + EPS).flatten(0, 1), target))
    return losses


def sinkhorn(mass: Tensor, *, tolerance: float, most: int) -> Tensor:
    """Scale columns and rows of ``[B, N, N]`` in turn until the column sums agree (code/utils/__init__.py); rows sum to 1."""
    mass = mass / mass.sum((-2, -1), keepdim=True)
    for step in range(most):
        if step and mass.sum(-2).std() <= tolerance:
            break
        mass = nn.functional.normalize(mass, p=1, dim=-2)
        mass = nn.functional.normalize(mass, p=1, dim=-1)
    return mass


def _edges(affinity: Tensor, share: float, generator: torch.Generator | None) -> Tensor:
    drawn = torch.rand(affinity.shape, generator=generator, device=generator.device if generator else affinity.device)
    return (drawn < share).to(affinity.device)


class Model(Method):
    """Encoder, one linear layer, and the walk."""

    def __init__(self, options: Options) -> None:
        super().__init__()
        self.options = options
        self.encoder = nn.Module()
        self.encoder.model = Trunk("resnet18", strides=(1, 2, 1, 1), padding=options.padding)
        sizes = [512] * (options.head_depth + 1) + [128] if options.head_depth >= 0 else []
        layers = [layer for a, b in pairwise(sizes) for layer in (nn.Linear(a, b), nn.ReLU())]
        self.selfsim_fc = nn.Sequential(*layers[:-1])

    def nodes(self, patches: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """``[B, T, N, 3, h, w]`` uint8 to unit vectors ``[B, C, T, N]``; of whole frames, N = 1, every cell is a node."""
        batch, frames, count = patches.shape[:3]
        pixels = augment.normalize(patches.flatten(0, 2), augment.CIFAR_MEAN, augment.CIFAR_STD)
        per = (self.options.bn_clips or batch) * frames * count
        first, *others = pixels.split(per)
        maps = [self.encoder.model(first)]  # type: ignore[operator]
        with kept_statistics(self.encoder):  # the checkpoint has those of the first GPU
            maps += [self.encoder.model(part) for part in others]  # type: ignore[operator]
        if self.options.featdrop and self.training:
            maps = [_dropped(m, self.options.featdrop, generator) for m in maps]
        if count == 1:
            found = torch.cat([m.flatten(2).transpose(1, 2) for m in maps])  # [B*T, cells, C]
            count, found = found.shape[1], found.flatten(0, 1)
        else:
            found = torch.cat([m.mean((2, 3)) for m in maps])
        nodes = self.selfsim_fc(found)
        nodes = nn.functional.normalize(nodes.float(), dim=1)
        return nodes.view(batch, frames, count, -1).permute(0, 3, 1, 2)

    def forward(self, batch: dict[str, Tensor], generator: torch.Generator) -> dict[str, Tensor]:
        q, o = self.nodes(batch["patches"], generator), self.options
        with torch.autocast(q.device.type, enabled=False):  # -1e20 / temperature overflows half precision
            independent = o.edge_dropout == "independent"
            cycles = walk(
                q, temperature=o.temperature, dropout=o.dropout, independent=independent, flip=o.flip,
                zero_diagonal=o.zero_diagonal, targets=o.targets, generator=generator,
            )  # fmt: skip
        parts = {f"cycle{i + 1}": c.detach() for i, c in enumerate(cycles)}
        return {"loss": torch.stack(cycles).mean(), **parts}

    def picture(self, batch: dict[str, Tensor]) -> Picture:
        """Walks from three nodes of a clip."""
        patches = batch["patches"][:1]
        return walk_picture(self.nodes(patches)[0], patches[0], self.options.temperature)

    def load_init(self, raw: Mapping[str, Any]) -> None:
        """Start from another recipe's checkpoint, or from the weights of a whole ResNet-18, of ImageNet or a released file.

        The head starts anew if it is not among them.
        """
        if "meta" not in raw:  # of another recipe of CRW
            self.load_state_dict(raw["model"], strict=True)
            return
        arch = raw["meta"]["arch"]
        if arch != "resnet18":
            raise Refusal(f"weights of a {arch}", expected="weights of a resnet18", do="correct `start:` of the recipe")
        self.encoder.model.load_state_dict(raw["state_dict"], strict=True)  # type: ignore[union-attr]
        head = {k.removeprefix("selfsim_fc."): v for k, v in raw["extra"].items() if k.startswith("selfsim_fc.")}
        if head and head.keys() == self.selfsim_fc.state_dict().keys():
            self.selfsim_fc.load_state_dict(head, strict=True)

    def checkpoint(self) -> dict[str, Any]:
        """As the reference's ``model_<epoch>.pth``."""
        return {"model": self.state_dict()}


class Source:
    """Clips at a fixed rate, at most a few per video and epoch, cut into grids of patches."""

    def __init__(self, options: Options) -> None:
        self.options = options

    def epoch(self, index: Index, rng: Generator) -> NDArray[np.int64]:
        """Rows (video, first resampled frame): a random subset of the clips of every video, shuffled."""
        rows = []
        for i, video in enumerate(index.videos):
            starts = self._clips(video)
            chosen = rng.permutation(starts)[: self.options.clips_per_video]
            rows += [(i, start) for start in chosen]
        found = np.array(rows, np.int64).reshape(-1, 2)
        return found[rng.permutation(len(found))]

    def _clips(self, video: Video) -> int:
        """As torchvision's VideoClips counts: frames left at the option's rate, of which a clip takes some in a row."""
        left = video.frames
        if video.fps:
            step = video.fps / self.options.fps
            # a whole step is a slice, which takes a frame of the last, incomplete step too
            left = -(-left // int(step)) if step.is_integer() else int(left * self.options.fps / video.fps)
        return max(left - self.options.clip + 1, 0)

    def frames(self, video: Video, start: int) -> list[int]:
        """Numbers of a clip's frames: floor(i * fps / rate) (torchvision VideoClips); without fps a gap that fits."""
        o = self.options
        if video.fps:
            step = video.fps / o.fps
            if step.is_integer():
                return [int(i * step) for i in range(start, start + o.clip)]
            return [min(int(i * step), video.frames - 1) for i in range(start, start + o.clip)]
        gap = max(min(int(o.fps), (video.frames - 1 - start) // (o.clip - 1)), 1)
        return [min(start + gap * i, video.frames - 1) for i in range(o.clip)]

    def load(self, reader: Reader, sample: NDArray[np.int64], rng: Generator) -> dict[str, Tensor]:
        """patches ``[T, N, 3, patch, patch]`` uint8."""
        number, start = int(sample[0]), int(sample[1])
        frames = reader.read(number, self.frames(reader.index.videos[number], start))
        return {"patches": torch.stack([self._patches(frame, rng) for frame in frames])}

    def _patches(self, frame: NDArray[np.uint8], rng: Generator) -> Tensor:
        o = self.options
        image = augment.to_pil(frame)
        whole = (0, 0, image.width, image.height)
        crops = "crop" in o.transforms
        box = augment.random_box(rng, image.width, image.height, (0.8, 0.95), (0.7, 1.3)) if crops else whole
        image = _changed(augment.crop_pil(image, box, o.image), o.transforms, rng)
        if o.frames == "none":
            return augment.as_tensor(_changed(image, o.patch_transforms, rng))[None]
        patches = []
        for top in o.corners:
            for left in o.corners:
                x, y, w, h = augment.random_box(rng, o.patch, o.patch, (0.7, 0.9), (3 / 4, 4 / 3))
                patch = augment.crop_pil(image, (left + x, top + y, w, h), o.patch)
                patches.append(augment.as_tensor(_changed(patch, o.patch_transforms, rng)))
        return torch.stack(patches)


def _changed(image: Image.Image, transforms: Sequence[str], rng: Generator) -> Image.Image:
    """Color jitter and flip, where they are asked for."""
    if "cj" in transforms:
        pixels = augment.color_jitter(rng, np.asarray(image), brightness=0.1, contrast=0.1, saturation=0.1, hue=0)
        image = Image.fromarray(pixels)
    if "flip" in transforms and rng.random() < 0.5:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    return image


def _dropped(maps: Tensor, share: float, generator: torch.Generator | None) -> Tensor:
    """Dropout with the run's own random numbers."""
    return maps * ~_edges(maps, share, generator) / (1 - share)
