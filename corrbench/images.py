"""Pictures on disk."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
from numpy.typing import NDArray


def write_image(path: Path, image: NDArray[Any]) -> None:
    """Write a picture (BGR or grey) in the format of the name's end, JPEG with quality 95.

    ``cv2.imwrite`` can leave a cut file on a full disk and say that all is well; this raises OSError.
    """
    path.write_bytes(cv2.imencode(path.suffix, image)[1].tobytes())
