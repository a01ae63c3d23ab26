"""From class scores on the feature grid to a mask at annotation size."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from corrbench.propagation.labels import Mask
from corrbench.propagation.protocol import Decode


@dataclass(frozen=True)
class Sizes:
    """Heights and widths in pixels of one sequence."""

    image: tuple[int, int]
    """Of the annotation; masks have this size."""
    network: tuple[int, int]
    """Of the encoder's input after resizing or padding."""
    padded: bool
    """True: the network's input holds the image in its top-left corner; False: it is the image resized."""


def mask_of(t: int, scores: Tensor, first: Mask, ids: list[int], sizes: Sizes, rule: Decode) -> Mask:
    """The mask of frame `t` from its scores ``[K, h, w]``; that of the first frame may be the annotation itself."""
    if t == 0 and rule.first_frame == "annotation":
        return first
    return decode(scores, ids, sizes, rule)


def decode(scores: Tensor, ids: list[int], sizes: Sizes, rule: Decode) -> Mask:
    """Upsample ``scores [K, h, w]`` bilinearly (half-pixel centers), normalize, argmax, ids: ``[H, W]``.

    The lowest class wins ties. Sources: CRW ``dump_predictions``, VFS ``vanilla_tracker.py``, DINO
    ``eval_video_segmentation.py``, MAST and LIIR ``benchmark.py`` / ``evaluate_davis.py``.
    """
    classes = decode_classes(scores, sizes, rule)
    if rule.upsample_to == "network":
        classes = fit_to_image(classes, sizes)
    return np.asarray(ids, np.uint8)[classes]


def decode_classes(scores: Tensor, sizes: Sizes, rule: Decode) -> Mask:
    """The argmax over classes at the size that the rule names: ``[H, W]`` class indices."""
    size = sizes.image if rule.upsample_to == "image" else sizes.network
    if tuple(scores.shape[1:]) != size:
        scores = torch.nn.functional.interpolate(scores[None], size=size, mode="bilinear", align_corners=False)[0]
    if rule.minmax != "none":
        low, high = scores.amin((1, 2), keepdim=True), scores.amax((1, 2), keepdim=True)
        if rule.minmax == "epsilon":
            stretched = (scores - low) / (high - low + 1e-12)
            scores = torch.where(high > 0, stretched, scores)
        else:
            stretched = (scores - low) / (high - low)
            scores = torch.where(high - low > 0, stretched, scores - low)
    return scores.argmax(0).to(torch.uint8).cpu().numpy()


def fit_to_image(classes: Mask, sizes: Sizes) -> Mask:
    """From network size to annotation size: crop if it was padded, PIL nearest if it was resized."""
    if sizes.padded:
        return classes[: sizes.image[0], : sizes.image[1]]
    if sizes.image == sizes.network:
        return classes
    return np.asarray(Image.fromarray(classes).resize(sizes.image[::-1], Image.Resampling.NEAREST))
