"""Videos for pretraining: frame folders made from video files, their index, and one reader for folders and files.

The index is a table ``video,frames,fps,width,height``; `video` is the path of a frame folder or a video file below a root.
fps is 0 where nobody knows it (frame folders).
"""

from __future__ import annotations

import csv
import shutil
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import astuple, dataclass, fields
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import cv2
from numpy.typing import NDArray

from corrbench.errors import Refusal, few
from corrbench.files import atomic, digest, read_json, write_json
from corrbench.progress import Progress

Frame = NDArray[Any]
"""``[H, W, 3]`` uint8 BGR."""
Kind = Literal["videos", "frames"]
IMAGES = (".jpg", ".jpeg", ".png")


@dataclass(frozen=True)
class Video:
    """One row of the index."""

    video: str
    frames: int
    fps: float
    width: int
    height: int


@dataclass(frozen=True)
class Index:
    """The videos of a data set, in a stable order."""

    videos: tuple[Video, ...]

    @property
    def fingerprint(self) -> str:
        """12 hex digits over names, counts, rates and sizes."""
        return digest([astuple(v) for v in self.videos])

    def write(self, path: Path) -> None:
        """Write the table, atomically."""
        with atomic(path) as temporary, temporary.open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow([f.name for f in fields(Video)])
            writer.writerows(astuple(v) for v in self.videos)

    @classmethod
    def read(cls, path: Path) -> Index:
        """Read a table that `write` made."""
        with path.open(newline="") as file:
            rows = [Video(r["video"], int(r["frames"]), float(r["fps"]), int(r["width"]), int(r["height"])) for r in csv.DictReader(file)]  # fmt: skip
        return cls(tuple(rows))


@dataclass(frozen=True)
class Reader:
    """Frames of indexed videos, from folders of images or from video files."""

    root: Path
    index: Index
    kind: Kind

    def read(self, video: int, numbers: Sequence[int]) -> list[Frame]:
        """Frames ``[H, W, 3]`` uint8 BGR with these numbers, counted from 0. Raises Refusal for what cannot be read."""
        path = self.root / self.index.videos[video].video
        if self.kind == "videos":
            return _read_video(path, numbers)
        names = _listing(path)
        if not names or max(numbers) >= len(names):
            raise Refusal(
                f"{path}: {len(names)} frames, number {max(numbers)} is asked for",
                expected=f"{self.index.videos[video].frames} frames as in the index",
                do="make the index again",
            )
        found = []
        for number in numbers:
            image = cv2.imread(str(path / names[number]), cv2.IMREAD_COLOR)
            if image is None:
                raise Refusal(
                    f"{path / names[number]}: not a readable image", expected="a frame", do="extract it again"
                )
            found.append(image)
        return found


@lru_cache(maxsize=4096)
def _listing(folder: Path) -> list[str]:
    if not folder.is_dir():
        return []
    return sorted(p.name for p in folder.iterdir() if p.suffix.lower() in IMAGES)


def _read_video(path: Path, numbers: Sequence[int]) -> list[Frame]:
    capture = cv2.VideoCapture(str(path))
    try:
        found: dict[int, Frame] = {}
        at = 0
        for number in sorted(set(numbers)):
            if number != at:
                capture.set(cv2.CAP_PROP_POS_FRAMES, number)
            read, image = capture.read()
            if not read:
                raise Refusal(
                    f"{path}: frame {number} cannot be decoded", expected="a whole video", do="index it again"
                )
            found[number], at = image, number + 1
        return [found[n] for n in numbers]
    finally:
        capture.release()


def extract_video(path: Path, folder: Path, *, short_side: int) -> Video:
    """Write every frame as ``00000.jpg``, ... (short side at most `short_side`); the folder appears when complete.

    Raises Refusal when nothing can be decoded. A video that ends early keeps the frames that came.
    """
    capture = cv2.VideoCapture(str(path))
    try:
        fps = float(capture.get(cv2.CAP_PROP_FPS) or 0)
        with atomic(folder) as temporary:
            temporary.mkdir(parents=True)
            count, size = 0, (0, 0)
            while True:
                read, image = capture.read()
                if not read:
                    break
                scale = short_side / min(image.shape[:2])
                if scale < 1:
                    wanted = (round(image.shape[1] * scale), round(image.shape[0] * scale))
                    image = cv2.resize(image, wanted, interpolation=cv2.INTER_AREA)
                if not cv2.imwrite(str(temporary / f"{count:05d}.jpg"), image, [cv2.IMWRITE_JPEG_QUALITY, 95]):
                    raise OSError(f"{temporary}: cannot write; is the disk full?")
                count, size = count + 1, (image.shape[1], image.shape[0])
            if not count:
                raise Refusal(f"{path}: no frame can be decoded", expected="a video", do="fetch it again")
            write_json(temporary / "video.json", {"frames": count, "fps": fps, "width": size[0], "height": size[1]})
    finally:
        capture.release()
    return Video(folder.name, count, fps, *size)


def probe_video(path: Path) -> Video:
    """Count and size of a video file that is read in place. Raises Refusal when its first or last frame cannot be decoded."""
    capture = cv2.VideoCapture(str(path))
    try:
        count = int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
        fps = float(capture.get(cv2.CAP_PROP_FPS) or 0)
        read, image = capture.read()
    finally:
        capture.release()
    if not read or count < 1:
        raise Refusal(f"{path}: no frame can be decoded", expected="a video", do="fetch it again")
    _read_video(path, [count - 1])
    return Video(path.name, count, fps, image.shape[1], image.shape[0])


def probe_folder(path: Path, fps: float) -> Video:
    """Count and size of a frame folder. Raises Refusal when it is empty or its first image cannot be read."""
    names = _listing(path)
    image = cv2.imread(str(path / names[0])) if names else None
    if image is None:
        raise Refusal(f"{path}: no readable frame", expected="images", do="extract the video again")
    return Video(path.name, len(names), fps, image.shape[1], image.shape[0])


def build_index(
    root: Path,
    pattern: str,
    kind: Kind,
    *,
    out: Path | None = None,
    short_side: int = 256,
    fps: float = 0,
    most_skipped: float = 0.05,
    workers: int = 1,
) -> tuple[Index, list[tuple[str, str]]]:
    """Index the videos or frame folders that fit the glob `pattern` below `root`; with `out`, extract video files first.

    Frame folders that an earlier, interrupted call finished are kept. Returns the index and (name, reason) of what was
    skipped. Raises Refusal when nothing fits, or when more than the share `most_skipped` cannot be read.
    """
    paths = sorted(p for p in root.glob(pattern) if p.is_dir() == (kind == "frames")) if root.is_dir() else []
    if not paths:
        raise Refusal(f"{root}: nothing fits {pattern}", expected=f"{kind} below it", do="correct the data root")

    def one(path: Path) -> Video:
        name = path.relative_to(root).as_posix()
        if kind == "frames":
            video = probe_folder(path, fps)
        elif out is None:
            video = probe_video(path)
        else:
            name = Path(name).with_suffix("").as_posix()
            note = out / name / "video.json"
            if note.is_file():
                return Video(name, **read_json(note))
            video = extract_video(path, out / name, short_side=short_side)
        return Video(name, video.frames, video.fps, video.width, video.height)

    found, skipped = _each(paths, one, root, workers)
    if out is not None:
        _remove_others(out, {v.video for v in found})
    share = len(skipped) / len(paths)
    if share > most_skipped:
        raise Refusal(
            f"{len(skipped)} of {len(paths)} videos below {root} cannot be read: {few([f'{n} ({w})' for n, w in skipped], 3)}",
            expected=f"at most {most_skipped:.0%}",
            do="fetch them again, or allow more with --most-skipped",
        )
    return Index(tuple(sorted(found, key=lambda v: v.video))), skipped


def _each(
    paths: list[Path], one: Callable[[Path], Video], root: Path, workers: int
) -> tuple[list[Video], list[tuple[str, str]]]:
    found, skipped = [], []

    def safe(path: Path) -> Video | tuple[str, str]:
        try:
            return one(path)
        except Refusal as refusal:
            return path.relative_to(root).as_posix(), str(refusal).splitlines()[0].partition(": ")[2]

    cv2.setNumThreads(1)
    # threads: decoding and encoding leave the interpreter alone
    with ThreadPoolExecutor(workers) as pool, Progress("frames", len(paths), unit="video") as bar:
        for result in pool.map(safe, paths):
            if isinstance(result, Video):
                found.append(result)
            else:
                skipped.append(result)
            bar.advance(note=f"{len(skipped)} skipped" if skipped else "")
    return found, skipped


def _remove_others(out: Path, names: set[str]) -> None:
    """Frame folders of videos that are gone."""
    for note in out.rglob("video.json"):
        if note.parent.relative_to(out).as_posix() not in names:
            shutil.rmtree(note.parent)


def write_ytvos_csv(index: Index, root: Path, path: Path) -> None:
    """``folder,first_frame,count`` without a header, as SFC's, MAST's and LIIR's ``ytvos.csv`` (pretraining.md 1.3)."""
    with atomic(path) as temporary:
        lines = [f"{Path(v.video).name},{int(Path(_listing(root / v.video)[0]).stem)},{v.frames}" for v in index.videos]
        temporary.write_text("\n".join(lines) + "\n")
