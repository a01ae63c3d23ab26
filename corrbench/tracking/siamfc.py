"""SiamFC tracking of one target with a frozen backbone and a trained layer (VFS siamfc/siamfc_tracker_base.py).

No template update, no clipping of position or size. A target keeps its state; the network is shared, so the crops of many
targets can go through it together.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from corrbench.errors import Refusal, few
from corrbench.files import digest
from corrbench.tracking.crops import Image, center_of, crop, crop_sides
from corrbench.tracking.head import Head
from corrbench.tracking.inputs import normalize
from corrbench.tracking.probe import Options
from corrbench.tracking.protocol import Figures
from corrbench.weights.trained import read_trained


class Network:
    """Backbone and layer on a device."""

    def __init__(self, backbone: nn.Module, head: Head, device: torch.device) -> None:
        self.backbone = backbone.to(device).eval()
        self.head = head.to(device).eval().requires_grad_(False)
        self.device = device

    def _features(self, crops: Sequence[Image]) -> Tensor:
        pixels = torch.from_numpy(np.stack(crops).transpose(0, 3, 1, 2).copy()).to(self.device)
        return self.backbone(normalize(pixels, self.backbone.preprocess))  # type: ignore[arg-type]

    @torch.inference_mode()
    def kernels(self, crops: Sequence[Image]) -> Tensor:
        """Exemplar crops ``[120, 120, 3]`` of N targets to kernels ``[N, C, 15, 15]``."""
        return self.head.kernel(self._features(crops))

    @torch.inference_mode()
    def responses(self, kernels: Tensor, crops: Sequence[Image]) -> NDArray[np.float32]:
        """N kernels and the ``N * scales`` search crops ``[255, 255, 3]`` to responses ``[N * scales, 18, 18]``."""
        found = self.head.respond(kernels, self._features(crops))
        if not torch.isfinite(found).all():
            raise Refusal(
                "responses that are not finite",
                expected="finite responses",
                do="check the weights and the trained layer",
            )
        return found.float().cpu().numpy()


class Target:
    """Position and size of one target."""

    def __init__(self, image: Image, box: NDArray[np.float64], options: Options, figures: Figures) -> None:
        """`box`: x, y, w, h in pixels, 1-based, of the first frame. Raises Refusal for a box without area."""
        if not (np.isfinite(box).all() and box[2] > 0 and box[3] > 0):
            raise Refusal(
                f"a first box of {box.tolist()}", expected="positive width and height", do="check the annotation"
            )
        self.options, self.figures = options, figures
        self.center = center_of(box)  # y, x
        self.size = np.array([box[3], box[2]], np.float32)  # h, w
        self.exemplar_side, self.search_side = crop_sides(
            float(box[2]), float(box[3]), exemplar=options.exemplar, instance=options.instance, context=options.context
        )
        self.factors = figures.step ** np.arange(-(figures.scales // 2), figures.scales // 2 + 1)
        self.exemplar = crop(image, self.center, self.exemplar_side, options.exemplar)
        size = figures.response * figures.upsample
        hann = np.outer(np.hanning(size), np.hanning(size))
        self._hann = hann / hann.sum()

    def search(self, image: Image) -> list[Image]:
        """The search crops of a frame, one for each scale, small to large."""
        return [crop(image, self.center, self.search_side * f, self.options.instance) for f in self.factors]

    def update(self, responses: NDArray[np.float32]) -> NDArray[np.float64]:
        """Move to the peak of the responses ``[scales, r, r]``; returns the new box x, y, w, h, 1-based."""
        f, size = self.figures, len(self._hann)
        maps = np.stack([cv2.resize(r, (size, size), interpolation=cv2.INTER_CUBIC) for r in responses])
        changed = np.arange(len(maps)) != len(maps) // 2
        maps[changed] *= f.penalty
        best = int(maps.reshape(len(maps), -1).max(axis=1).argmax())
        peak = maps[best] - maps[best].min()
        peak = peak / (peak.sum() + 1e-16)
        peak = (1 - f.window) * peak + f.window * self._hann
        at = np.array(np.unravel_index(int(peak.argmax()), peak.shape)) - (size - 1) / 2
        pixels = at * self.options.stride / f.upsample * self.search_side * self.factors[best] / self.options.instance
        self.center = (self.center + pixels).astype(np.float32)
        grown = (1 - f.rate) + f.rate * float(self.factors[best])
        self.size = (self.size * grown).astype(np.float32)
        self.exemplar_side, self.search_side = self.exemplar_side * grown, self.search_side * grown
        (cy, cx), (h, w) = self.center, self.size
        return np.array([cx + 1 - (w - 1) / 2, cy + 1 - (h - 1) / 2, w, h], np.float64)


def read_head(path: Path) -> dict[str, Any]:
    """A probe's checkpoint: ``{state_dict, weights_sha256}``. Raises Refusal for one that is damaged or no probe's."""
    raw = read_trained(path, "the checkpoint.pth of a trained probe")
    state, sha256 = raw.get("state_dict"), raw.get("weights_sha256")
    if not (isinstance(state, dict) and isinstance(sha256, str) and all(map(torch.is_tensor, state.values()))):
        raise Refusal(
            f"{path}: entries {few([str(k) for k in raw])}",
            expected="state_dict and weights_sha256, as a probe writes them",
            do="name the checkpoint.pth of a probe, or train it again",
        )
    return raw


def head_hash(path: Path) -> str:
    """12 hex digits over the tensors of a probe's checkpoint."""
    return hash_of(read_head(path))


def hash_of(raw: Mapping[str, Any]) -> str:
    """The same of its content, as `read_head` gives it."""
    tensors = raw["state_dict"]
    return digest([[name, hashlib.sha256(tensors[name].numpy().tobytes()).hexdigest()] for name in sorted(tensors)])


def load_head(raw: dict[str, Any], options: Options, where: str) -> Head:
    """The trained layer from tensors ``head.z_convs.0.weight``, ...

    Raises Refusal when it is missing, of another width than the backbone, or not finite.
    """
    head = Head(options.channels, options.scale)
    own = {k.removeprefix("head."): v for k, v in raw.items() if k.startswith("head.")}
    if not own:
        raise Refusal(
            f"{where}: holds no layer of a tracker",
            expected="head.z_convs.0.weight, head.x_convs.0.weight and their biases",
            do="use a probe with `head: trained`, or a released tracking checkpoint",
        )
    for name, value in own.items():
        if not (value.is_floating_point() and bool(torch.isfinite(value).all())):
            raise Refusal(
                f"{where}: head.{name} holds values that are not finite numbers",
                expected="finite floating-point numbers",
                do="train the probe again",
            )
    try:
        head.load_state_dict(own, strict=True)
    except RuntimeError as error:
        shape = tuple(next(iter(own.values())).shape)
        raise Refusal(
            f"{where}: a layer of another backbone ({shape}): {str(error).splitlines()[-1].strip()}",
            expected=f"a layer of {options.channels} channels for {options.layer} of {options.arch}",
            do="use the probe of that network; ResNet-50 needs channels 2048 and scale 1e-5",
        ) from error
    return head
