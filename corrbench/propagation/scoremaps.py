"""The file between propagation and post-processing: one ``.npz`` of class scores per sequence.

It is an ordinary ``numpy.load``-able archive, but written and read frame by frame, so memory does not grow with the
length of the video. Members: ``scores`` float32 ``[F, K, h, w]``; ``ids`` ``[K]`` object id of each class;
``image_size``, ``network_size`` (height, width); ``padded``; ``grid`` (h, w); ``first_mask`` uint8 ``[H, W]``; ``frames`` (names);
``record`` (JSON: what made the file).
"""

from __future__ import annotations

import io
import json
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from corrbench.errors import Refusal
from corrbench.propagation.decode import Sizes
from corrbench.propagation.labels import Mask
from corrbench.reading import regular

LEVEL = 1
"""Of the compression: scores are noise to it, and a higher one costs time for little."""
_UNREADABLE = (
    OSError,
    KeyError,
    ValueError,
    TypeError,
    EOFError,
    RuntimeError,
    NotImplementedError,
    zipfile.BadZipFile,
    zlib.error,
)
"""What zipfile, numpy and json raise for files that are cut, damaged or of another kind."""


def _member(name: str) -> zipfile.ZipInfo:
    """A member without the time of day: equal scores give equal bytes."""
    info = zipfile.ZipInfo(f"{name}.npy")
    info.compress_type, info._compresslevel = zipfile.ZIP_DEFLATED, LEVEL  # type: ignore[attr-defined]
    return info


class ScoreWriter:
    """Write the scores of one sequence frame by frame; use as a context manager on a temporary name."""

    def __init__(
        self,
        path: Path,
        *,
        frames: list[str],
        ids: list[int],
        grid: tuple[int, int],
        sizes: Sizes,
        first_mask: Mask,
        record: dict[str, Any],
    ) -> None:
        self._shape = (len(ids), *grid)
        self._expected, self._written = len(frames), 0
        self._zip = zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=LEVEL)
        members: dict[str, NDArray[Any]] = {
            "ids": np.array(ids, np.uint8), "image_size": np.array(sizes.image), "network_size": np.array(sizes.network),
            "padded": np.array(sizes.padded), "first_mask": first_mask, "frames": np.array(frames), "grid": np.array(grid),
            "record": np.array(json.dumps(record)),
        }  # fmt: skip
        for name, value in members.items():
            self._add(name, value)
        header = io.BytesIO()
        fields = {"descr": "<f4", "fortran_order": False, "shape": (len(frames), *self._shape)}
        np.lib.format.write_array_header_1_0(header, fields)
        self._stream = self._zip.open(_member("scores"), "w", force_zip64=True)
        self._stream.write(header.getvalue())

    def _add(self, name: str, value: NDArray[Any]) -> None:
        buffer = io.BytesIO()
        np.lib.format.write_array(buffer, np.ascontiguousarray(value).reshape(value.shape), allow_pickle=False)
        self._zip.writestr(_member(name), buffer.getvalue())

    def write(self, scores: Tensor) -> None:
        """Append one frame, ``[h, w, K]`` on any device."""
        frame = scores.permute(2, 0, 1).to("cpu", torch.float32).contiguous().numpy()
        if frame.shape != self._shape:
            raise ValueError(f"scores of shape {frame.shape}, the file holds {self._shape}")
        self._stream.write(frame.tobytes())
        self._written += 1

    def __enter__(self) -> ScoreWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._stream.close()
        self._zip.close()
        if kind is None and self._written != self._expected:
            raise ValueError(f"{self._written} frames written, {self._expected} announced")


class ScoreReader:
    """Read a score file: the small members as attributes, the scores frame by frame."""

    def __init__(self, path: Path) -> None:
        self.path = regular(path)
        try:
            with zipfile.ZipFile(path) as archive:
                self.ids = [int(i) for i in self._small(archive, "ids")]
                self.frames = [str(f) for f in self._small(archive, "frames")]
                self.first_mask: Mask = self._small(archive, "first_mask")
                h, w = self._small(archive, "grid")
                self.grid = (int(h), int(w))
                image, network = self._small(archive, "image_size"), self._small(archive, "network_size")
                self.sizes = Sizes(
                    image=(int(image[0]), int(image[1])),
                    network=(int(network[0]), int(network[1])),
                    padded=bool(self._small(archive, "padded")),
                )
                self.record: dict[str, Any] = json.loads(str(self._small(archive, "record")))
                if not isinstance(self.record, dict):
                    raise ValueError("its record is no record")
        except _UNREADABLE as error:
            raise Refusal(
                f"{path}: not a readable score file ({error})",
                expected="a file that propagate.py wrote",
                do="remove it and run the propagate stage again",
            ) from error

    @staticmethod
    def _small(archive: zipfile.ZipFile, name: str) -> NDArray[Any]:
        return np.lib.format.read_array(io.BytesIO(archive.read(f"{name}.npy")), allow_pickle=False)

    def __iter__(self) -> Iterator[Tensor]:
        """Scores of each frame in order, ``[K, h, w]`` float32."""
        try:
            with zipfile.ZipFile(self.path) as archive, archive.open("scores.npy") as stream:
                np.lib.format.read_magic(stream)
                shape, _, dtype = np.lib.format.read_array_header_1_0(stream)
                count = int(np.prod(shape[1:])) * dtype.itemsize
                for _ in range(shape[0]):
                    block = stream.read(count)
                    if len(block) != count:
                        raise ValueError("the scores end early")
                    yield torch.from_numpy(np.frombuffer(block, dtype).reshape(shape[1:]).copy())
                if stream.read(1):  # to the end: the archive's checksum is compared there
                    raise ValueError("more scores than its header says")
        except _UNREADABLE as error:
            raise Refusal(
                f"{self.path}: damaged score file ({error})",
                expected="a file that propagate.py wrote",
                do="remove it and run the propagate stage again",
            ) from error
