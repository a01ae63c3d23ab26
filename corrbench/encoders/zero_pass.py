"""The pass by which SFC's harness moves the batch norm statistics of every network that it loads."""

from __future__ import annotations

import torch
from torch import nn

SIDE = 256
"""Pixels of the image of zeros, along both sides."""


@torch.no_grad()
def zero_image_pass(net: nn.Module) -> None:
    """Send one image of zeros through `net` in training mode, on the CPU; the mode is restored.

    Every running mean and variance moves once towards the statistics of that image, by batch norm's momentum of 0.1
    (behind the first convolution, which has no bias, both become 0.9 of what they were). Source: SFC
    code/models/encoder.py, whose `make_encoder` loads a checkpoint, cuts the layers that are not used and then calls
    `infer_dims`, before the network goes to a GPU and before `eval()`.
    """
    training = net.training
    net.train()
    net(torch.zeros(1, 3, SIDE, SIDE))
    net.train(training)
