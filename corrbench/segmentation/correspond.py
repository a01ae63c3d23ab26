"""Dense correspondence between two images: where a point or a mask of the source lies in the target.

For STM as Mask-Propagation try_correspondence.py and model/corr_network.py do it (memory key of the source with empty masks against
the query key of the target); for every other encoder by the cosine of its features.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import interpolate, normalize, pad

from corrbench.encoders.stm import STM
from corrbench.errors import Refusal

Picture = NDArray[np.uint8]
"""``[H, W, 3]`` uint8 BGR."""
AT_ONCE = 2048
"""Cells of the target that are compared with all of the source at a time: 210 MB at 480p and stride 4."""


@dataclass(frozen=True)
class Cells:
    """Features of one padded image and where its pixels lie."""

    features: Tensor
    """``[C, h, w]``"""
    stride: int
    padding: tuple[int, int, int, int]
    """left, right, top, bottom"""
    size: tuple[int, int]
    """height, width of the image in pixels"""

    def cell(self, x: float, y: float) -> tuple[int, int]:
        """Row and column of the cell of a pixel. Raises Refusal for a point outside."""
        height, width = self.size
        if not (0 <= x < width and 0 <= y < height):
            raise Refusal(
                f"the point {x:g},{y:g}",
                expected=f"x below {width} and y below {height}",
                do="give a pixel of the source",
            )
        left, _, top, _ = self.padding
        return int((y + top) // self.stride), int((x + left) // self.stride)


def encode(net: nn.Module, image: Picture, device: torch.device, *, source: bool = True) -> Cells:
    """Features of one image. STM has a key for what is remembered (`source`) and one for what asks; others have one."""
    stride = int(net.stride)  # type: ignore[arg-type]
    height, width = image.shape[:2]
    x, y = -width % stride, -height % stride
    padding = (x // 2, x - x // 2, y // 2, y - y // 2)
    pixels = net.preprocess(image.astype(np.float32) / 255)  # type: ignore[operator]
    tensor = pad(torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)))[None], padding).to(device)
    with torch.inference_mode():
        if isinstance(net, STM):
            empty = torch.zeros_like(tensor[:, :1])
            found = net.memorize_with(tensor, empty, empty)[0] if source else net.query(tensor).key
            features = found[0] / math.sqrt(math.sqrt(found.shape[1]))  # both together: over the root of the channels
        else:
            features = normalize(net(tensor)[0].float(), dim=0)
    return Cells(features, stride, padding, (height, width))


def correspondence(source: Cells, target: Cells, part: slice, *, temperature: float) -> Tensor:
    """W ``[target cells of the part, source cells]``: for each of these cells of the target a distribution over those of the source."""
    return (target.features.flatten(1).T[part] @ source.features.flatten(1) / temperature).softmax(1)


def transfer(source: Cells, target: Cells, values: Tensor, *, temperature: float) -> tuple[NDArray[np.float32], float]:
    """Values ``[h, w]`` on the source's cells as a map ``[H, W]`` over the target's pixels whose largest value is 1, and that value
    before: the share of what a pixel reads. Near 0 nothing in the target corresponds, and the map says nothing.
    """
    wanted = values.flatten()
    count = target.features[0].numel()
    parts = (slice(i, i + AT_ONCE) for i in range(0, count, AT_ONCE))
    found = torch.cat([correspondence(source, target, part, temperature=temperature) @ wanted for part in parts])
    grid = found.reshape(1, 1, *target.features.shape[1:])
    big = interpolate(grid, scale_factor=float(target.stride), mode="bilinear", align_corners=False)[0, 0]
    left, _, top, _ = target.padding
    inner = big[top : top + target.size[0], left : left + target.size[1]]
    share = float(inner.max())
    return (inner / (share + 1e-6)).cpu().numpy(), share


def point_values(source: Cells, x: float, y: float) -> Tensor:
    """1 at the cell of a pixel of the source, 0 elsewhere."""
    values = torch.zeros(source.features.shape[1:], device=source.features.device)
    values[source.cell(x, y)] = 1
    return values


def mask_values(source: Cells, mask: NDArray[np.uint8]) -> Tensor:
    """Share of every cell of the source that a mask ``[H, W]`` covers. Raises Refusal for another size."""
    if mask.shape != source.size:
        raise Refusal(
            f"a mask of {mask.shape[1]}x{mask.shape[0]}",
            expected=f"{source.size[1]}x{source.size[0]}, as the source",
            do="give its mask",
        )
    covered = pad(torch.from_numpy((mask > 0).astype(np.float32))[None, None], source.padding)
    grid = source.features.shape[1:]
    return interpolate(covered, size=tuple(grid), mode="area")[0, 0].to(source.features.device)


def picture(
    source: Picture, target: Picture, heat: NDArray[np.float32], marks: list[tuple[float, float]], mask: Picture | None
) -> Picture:
    """Source with the marks or the mask, target with the heat and its peak, side by side."""
    left = source.copy()
    if mask is not None:
        left[mask > 0] = (0.5 * left[mask > 0] + 0.5 * np.array([0, 0, 255])).astype(np.uint8)
    strength = np.clip(heat, 0, 1)[:, :, None]
    colors = cv2.applyColorMap((np.clip(heat, 0, 1) * 255).astype(np.uint8), cv2.COLORMAP_JET)
    right = (target * (1 - 0.7 * strength) + colors * 0.7 * strength).astype(np.uint8)
    peak = np.unravel_index(int(heat.argmax()), heat.shape)
    for canvas, points in ((left, marks), (right, [(float(peak[1]), float(peak[0]))])):
        for x, y in points:
            for color, width in (((0, 0, 0), 4), ((255, 255, 255), 2)):
                cv2.drawMarker(canvas, (round(x), round(y)), color, cv2.MARKER_CROSS, 22, width, cv2.LINE_AA)
    height = max(len(left), len(right))
    sides = [cv2.copyMakeBorder(side, 0, height - len(side), 0, 0, cv2.BORDER_CONSTANT) for side in (left, right)]
    return np.concatenate([sides[0], np.full((height, 6, 3), 255, np.uint8), sides[1]], axis=1)
