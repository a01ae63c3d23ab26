"""Any `nn.Module` as an encoder: checked at every call, and left as it was found."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from corrbench.encoders.preprocess import Preprocess
from corrbench.errors import Refusal


class UserEncoder(nn.Module):
    """Wraps a model that maps normalized images ``[B, 3, H, W]`` to features ``[B, C, h, w]``."""

    def __init__(self, model: nn.Module, preprocess: Preprocess, stride: int | None = None) -> None:
        """`stride`: pixels of a cell; None: found from the first image."""
        super().__init__()
        self.model, self.preprocess = model, preprocess
        self._stride = stride

    @property
    def stride(self) -> int:
        """Pixels of a cell."""
        if self._stride is None:
            raise RuntimeError("the stride is known after the first image")
        return self._stride

    def forward(self, images: Tensor) -> Tensor:
        features = self.model(images)
        if not isinstance(features, Tensor):
            raise Refusal(
                f"the model returned a {type(features).__name__}",
                expected="one tensor of dense features [batch, channels, height, width]",
                do="wrap the model so that it returns the feature map alone",
            )
        if features.ndim != 4 or features.shape[0] != images.shape[0]:
            raise Refusal(
                f"the model returned a tensor of shape {tuple(features.shape)} for images of shape {tuple(images.shape)}",
                expected="[batch, channels, height, width]; tokens must be reshaped to their grid, without class tokens",
                do="wrap the model so that it returns the feature map",
            )
        (height, width), (h, w) = images.shape[2:], features.shape[2:]
        if self._stride is None:
            self._stride = max(round(height / h), 1)
        if abs(height / self._stride - h) >= 1 or abs(width / self._stride - w) >= 1:
            raise Refusal(
                f"a grid of {h}x{w} cells for an image of {height}x{width} pixels",
                expected=f"cells of {self._stride} pixels that cover the image: {-(-height // self._stride)}x{-(-width // self._stride)}",
                do="correct stride=, or let the model pad or resize the image to a multiple of it",
            )
        return features


@contextmanager
def borrowed(model: nn.Module, device: torch.device | None) -> Iterator[torch.device]:
    """A model in eval mode on a device while the block lasts; afterwards every module is in the mode that it was in.

    Gives the device: that of the model's tensors, if `device` is None. TF32 is off meanwhile: its rounding moves scores.
    """
    modes = [(module, module.training) for module in model.modules()]
    tensors = [*model.parameters(), *model.buffers()]
    home = tensors[0].device if tensors else torch.device("cpu")
    flags = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    there = device or home
    try:
        model.eval()
        if there != home:
            model.to(there)
        yield there
    finally:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = flags
        if there != home:
            model.to(home)
        for module, training in modes:
            module.training = training
