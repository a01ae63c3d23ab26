"""What a network being trained sees, as pictures: CRW's walks, and the attention of MAST and LIIR."""

from __future__ import annotations

import math

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from corrbench.pretraining import reconstruction as rec
from corrbench.pretraining.watching import Picture

SIDE = 192
"""Pixels of one picture in a row."""
POINTS = ((0.5, 0.5), (0.3, 0.3), (0.7, 0.65))
"""Places whose attention is shown, as shares of height and width."""


def heat(image: NDArray[np.uint8], weights: NDArray[np.float32]) -> Picture:
    """An RGB image with weights ``[h, w]`` over it, the largest as the strongest color."""
    size = (image.shape[1], image.shape[0])
    strength = cv2.resize(weights / max(float(weights.max()), 1e-12), size, interpolation=cv2.INTER_NEAREST)
    colors = cv2.applyColorMap((strength * 255).astype(np.uint8), cv2.COLORMAP_INFERNO)[:, :, ::-1]
    share = 0.25 + 0.6 * strength[..., None]
    return np.asarray(image * (1 - share) + colors * share, np.uint8)


def mark(image: Picture, y: float, x: float) -> Picture:
    """A cross at a place, as shares of height and width, in the image at `SIDE` pixels."""
    height = width = SIDE
    out = cv2.resize(np.ascontiguousarray(image), (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    for color, thick in (((0, 0, 0), 5), ((255, 255, 255), 2)):
        cv2.drawMarker(out, (round(x * width), round(y * height)), color, cv2.MARKER_CROSS, 18, thick, cv2.LINE_AA)
    return np.asarray(out, np.uint8)


def titled(image: Picture, text: str) -> Picture:
    """An image below a line of text, at `SIDE` pixels."""
    scaled = cv2.resize(np.ascontiguousarray(image), (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    line = np.full((24, SIDE, 3), 255, np.uint8)
    cv2.putText(line, text, (4, 17), cv2.FONT_HERSHEY_SIMPLEX, 0.45, (0, 0, 0), 1, cv2.LINE_AA)
    return np.vstack([line, scaled])


def grid(rows: list[list[Picture]]) -> Picture:
    """Pictures of equal size in rows, with white space between them."""
    gap = np.full((rows[0][0].shape[0], 6, 3), 255, np.uint8)
    lines = [np.hstack([part for picture in row for part in (picture, gap)]) for row in rows]
    return np.vstack(lines)


def walk_picture(q: Tensor, patches: Tensor, temperature: float) -> Picture:
    """Where walks from three nodes of the first frame lead, frame by frame, and where they end after going back.

    q: unit nodes ``[C, T, N]`` of one clip; patches: ``[T, P, 3, h, w]`` uint8, all patches of each frame or the frame
    itself (P = 1). In each row the cross marks the node where the walk begins; a good walk ends there.
    """
    side = math.isqrt(q.shape[2])
    images = [_montage(frame) for frame in patches]
    affinity = torch.einsum("ctn,ctm->tnm", q[:, :-1], q[:, 1:]) / temperature  # [T-1, N, N]
    there, back = affinity.softmax(2), affinity.transpose(1, 2).softmax(2)
    rows = []
    for y, x in POINTS:
        cell = int(y * side) * side + int(x * side)
        at = ((cell // side + 0.5) / side, (cell % side + 0.5) / side)
        place = torch.eye(q.shape[2], device=q.device)[cell]
        row = [titled(mark(images[0], *at), "start")]
        for t, step in enumerate(there):
            place = place @ step
            row.append(titled(heat(images[t + 1], _map(place, side)), f"{t + 1} frame{'s' * (t > 0)} later"))
        for step in back.flip(0):
            place = place @ step
        row.append(titled(mark(heat(images[0], _map(place, side)), *at), f"back: {float(place[cell]):.0%} at home"))
        rows.append(row)
    return grid(rows)


def attention_picture(frames: Tensor, weights: Tensor, channel: int) -> Picture:
    """Reconstruction of a color channel and where it was copied from.

    frames: reference and target ``[2, 3, S, S]`` as the network reads them (Lab, normalized); weights ``[P^2, h, w]``
    over the window of the reference around each place of the target; channel: 1 (a) or 2 (b).
    """
    reference, target = frames.float().cpu()
    small = reference[None, channel : channel + 1, ::4, ::4]
    copied = rec.copy_colors(weights.float().cpu()[None], small)
    full = torch.nn.functional.interpolate(copied, target.shape[1:], mode="bilinear", align_corners=False)[0, 0]
    made = target.clone()
    made[channel] = full
    first = [
        titled(to_rgb(reference), "reference"),
        titled(to_rgb(target), "target"),
        titled(to_rgb(made), f"target, {'ab'[channel - 1]} reconstructed"),
    ]
    error = (full - target[channel]).abs().numpy().astype(np.float32)
    first.append(titled(heat(to_rgb(target), error), "error"))
    radius = math.isqrt(weights.shape[0]) // 2
    height, width = weights.shape[1:]
    second = []
    for y, x in POINTS:
        row, column = int(y * height), int(x * width)
        at = ((row + 0.5) / height, (column + 0.5) / width)
        window = weights[:, row, column].float().cpu().view(2 * radius + 1, 2 * radius + 1)
        whole = torch.zeros(height + 2 * radius, width + 2 * radius)
        whole[row : row + 2 * radius + 1, column : column + 2 * radius + 1] = window
        inside = whole[radius : radius + height, radius : radius + width].numpy()
        second.append(titled(mark(heat(to_rgb(reference), inside), *at), f"attention of ({row}, {column})"))
    second.append(np.full_like(second[0], 255))
    return grid([first, second])


def to_rgb(lab: Tensor) -> Picture:
    """``[3, H, W]`` Lab as `augment.to_lab` normalizes it, to ``[H, W, 3]`` uint8 RGB."""
    pixels = lab.numpy().transpose(1, 2, 0) * np.array([50, 127, 127], np.float32) + np.array([50, 0, 0], np.float32)
    rgb = cv2.cvtColor(pixels.astype(np.float32), cv2.COLOR_LAB2RGB)
    return np.asarray(np.clip(rgb * 255, 0, 255), np.uint8)


def _map(place: Tensor, side: int) -> NDArray[np.float32]:
    return np.asarray(place.view(side, side).float().cpu().numpy(), np.float32)


def _montage(patches: Tensor) -> Picture:
    """Patches ``[P, 3, h, w]`` of one frame, side by side in their grid."""
    side = math.isqrt(len(patches))
    pixels = patches.cpu().numpy().transpose(0, 2, 3, 1)
    return np.vstack([np.hstack(list(pixels[row * side : (row + 1) * side])) for row in range(side)])
