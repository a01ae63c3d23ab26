"""Annotations to labels on the feature grid, and back to what is remembered."""

from __future__ import annotations

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from corrbench.errors import Refusal
from corrbench.propagation.protocol import Labels

Mask = NDArray[np.uint8]
"""``[H, W]`` object ids, 0 is background."""


def first_labels(mask: Mask, grid: tuple[int, int], rule: Labels, *, stride: int) -> tuple[Tensor, list[int]]:
    """Labels of the first frame on the feature grid and the object id of every class.

    mask ``[H, W]`` ids at annotation (for LIIR padded) size; returns ``[h, w, K]`` float32 and K ids. Raises Refusal
    when the frame shows no object, or an id that the protocol cannot hold.
    """
    if not mask.any():
        raise Refusal(
            "the first frame has no object: every pixel is background",
            expected="at least one id above 0",
            do="check the annotation of the first frame",
        )
    if rule.classes == "seven" and mask.max() > 6:
        raise Refusal(
            f"object id {mask.max()} in the first frame",
            expected="ids up to 6: MAST and LIIR hold 7 classes",
            do="use another protocol for this sequence",
        )
    if rule.downsample == "bilinear":
        ids = [int(i) for i in np.unique(mask)]
        onehot = (mask[:, :, None] == np.array(ids, np.uint8)).astype(np.float32)
        # all channels in one call, as CRW does: for 2 channels and for more than 4 OpenCV rounds otherwise than for one
        soft = cv2.resize(onehot, grid[::-1], interpolation=cv2.INTER_LINEAR)
        return torch.from_numpy(soft.reshape(*grid, len(ids))), ids  # of one channel OpenCV drops the axis
    small = shrink(mask, grid, rule, stride=stride)
    count = 7 if rule.classes == "seven" else int(small.max()) + 1
    ids = list(range(count))
    return one_hot(small, count), ids


def shrink(mask: Mask, grid: tuple[int, int], rule: Labels, *, stride: int) -> Mask:
    """Ids on the feature grid ``[h, w]``: PIL nearest, or the top-left pixel of every cell."""
    if rule.downsample == "stride":
        small = mask[::stride, ::stride]
        if small.shape != grid:
            raise Refusal(
                f"labels taken every {stride} pixels form a {small.shape} grid, the features a {grid} grid",
                expected="equal grids",
                do="use an encoder whose grid is ceil(size / stride)",
            )
        return np.ascontiguousarray(small)
    return np.asarray(Image.fromarray(mask).resize(grid[::-1], Image.Resampling.NEAREST))


def one_hot(ids: Mask, count: int) -> Tensor:
    """``[h, w]`` ids below `count` to ``[h, w, count]`` float32."""
    return torch.nn.functional.one_hot(torch.from_numpy(ids.astype(np.int64)), count).float()
