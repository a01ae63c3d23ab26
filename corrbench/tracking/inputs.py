"""From crops to a backbone's input."""

from __future__ import annotations

import cv2
import numpy as np
import torch
from torch import Tensor

from corrbench.encoders.preprocess import Preprocess


def normalize(crops: Tensor, preprocess: Preprocess) -> Tensor:
    """RGB crops ``[B, 3, s, s]`` uint8 to the backbone's input, float32.

    RGB is normalized on 0..255, after cropping, in training and in tracking (VFS siamfc/default_config_base.py).
    """
    if preprocess.color == "lab":
        pixels = crops.permute(0, 2, 3, 1).cpu().numpy().astype(np.float32) / 255
        lab = np.stack([cv2.cvtColor(p, cv2.COLOR_RGB2LAB) for p in pixels])
        images = torch.from_numpy(lab).permute(0, 3, 1, 2).to(crops.device)
        mean: tuple[float, ...] = preprocess.mean
        std: tuple[float, ...] = preprocess.std
    else:
        images = crops.float()
        mean, std = preprocess.on_255
    shape = (1, 3, 1, 1)
    return (images - images.new_tensor(mean).reshape(shape)) / images.new_tensor(std).reshape(shape)
