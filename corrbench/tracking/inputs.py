"""From crops to a backbone's input."""

from __future__ import annotations

import cv2
import numpy as np
import torch
from torch import Tensor

MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
"""RGB on 0..255, applied after cropping in training and in tracking (VFS siamfc/default_config_base.py)."""
LAB_MEAN, LAB_STD = (50.0, 0.0, 0.0), (50.0, 127.0, 127.0)
"""As the encoders of MAST and LIIR are trained."""


def normalize(crops: Tensor, colour: str) -> Tensor:
    """RGB crops ``[B, 3, s, s]`` uint8 to the backbone's input, float32."""
    if colour == "lab":
        pixels = crops.permute(0, 2, 3, 1).cpu().numpy().astype(np.float32) / 255
        lab = np.stack([cv2.cvtColor(p, cv2.COLOR_RGB2LAB) for p in pixels])
        images, mean, std = torch.from_numpy(lab).permute(0, 3, 1, 2).to(crops.device), LAB_MEAN, LAB_STD
    else:
        images, mean, std = crops.float(), MEAN, STD
    shape = (1, 3, 1, 1)
    return (images - images.new_tensor(mean).reshape(shape)) / images.new_tensor(std).reshape(shape)
