"""Videos for pretraining: frame folders made from video files, their index, and one reader for folders and files.

The index is a table ``video,frames,fps,width,height,first``; `video` is the path of a frame folder or a video file below a root.
fps is 0 where nobody knows it (frame folders); `first` is the number of the first ``%05d.jpg``, -1 where files are named
otherwise.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import cv2
from numpy.typing import NDArray

from corrbench.datasets.index import Table
from corrbench.errors import DiskFull, Refusal, few
from corrbench.files import atomic, check_room, read_json, write_json
from corrbench.images import write_image
from corrbench.progress import Progress

Frame = NDArray[Any]
"""``[H, W, 3]`` uint8 BGR."""
Kind = Literal["videos", "frames"]
IMAGES = (".jpg", ".jpeg", ".png")
SAMPLE = 50
"""Videos after which the size of the whole is known well enough."""


@dataclass(frozen=True)
class Video:
    """One row of the index."""

    video: str
    frames: int
    fps: float
    width: int
    height: int
    first: int = 0


class Index(Table[Video]):
    """The videos of a data set."""

    row = Video


@dataclass(frozen=True)
class Reader:
    """Frames of indexed videos, from folders of images or from video files."""

    root: Path
    index: Index
    kind: Kind

    def read(self, video: int, numbers: Sequence[int]) -> list[Frame]:
        """Frames ``[H, W, 3]`` uint8 BGR with these numbers, counted from 0. Raises Refusal for what cannot be read."""
        row = self.index.videos[video]
        path = self.root / row.video
        try:
            if self.kind == "videos":
                return _read_video(path, numbers)
            # no listing where the names are known: on network file systems it costs more than the images
            names = _listing(path) if row.first < 0 else None
            if max(numbers) >= (row.frames if names is None else len(names)):
                raise Refusal(
                    f"{path}: {row.frames} frames, number {max(numbers)} is asked for",
                    expected="the frames of the index",
                    do="make the index again",
                )
            found = []
            for number in numbers:
                file = path / (f"{row.first + number:05d}.jpg" if names is None else names[number])
                image = cv2.imread(str(file), cv2.IMREAD_COLOR)
                if image is None:
                    raise Refusal(f"{file}: not a readable image", expected="a frame", do="extract it again")
                found.append(image)
            return found
        except (OSError, cv2.error) as error:
            raise Refusal(f"{path}: {error}", expected="readable frames", do="check the file system") from error


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


def _origin(path: Path, short_side: int) -> dict[str, int]:
    """What frames are extracted from: another size or file means other frames."""
    stat = path.stat()
    return {"short_side": short_side, "bytes": stat.st_size, "mtime_ns": stat.st_mtime_ns}


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
                write_image(temporary / f"{count:05d}.jpg", image)
                count, size = count + 1, (image.shape[1], image.shape[0])
            if not count:
                raise Refusal(f"{path}: no frame can be decoded", expected="a video", do="fetch it again")
            note = {"frames": count, "fps": fps, "width": size[0], "height": size[1]}
            write_json(temporary / "video.json", {"video": note, "from": _origin(path, short_side)})
    finally:
        capture.release()
    return Video(folder.name, count, fps, *size)


def probe_video(path: Path) -> Video:
    """Count and size of a video file that is read in place. Raises Refusal when its first frame cannot be decoded.

    Containers often promise a few frames more than there are: the count is that of frames that can be reached.
    """
    capture = cv2.VideoCapture(str(path))
    try:
        count = int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
        fps = float(capture.get(cv2.CAP_PROP_FPS) or 0)
        read, image = capture.read()
    finally:
        capture.release()
    if not read or count < 1:
        raise Refusal(f"{path}: no frame can be decoded", expected="a video", do="fetch it again")
    for _ in range(max(count // 10, 5)):
        try:
            _read_video(path, [count - 1])
            break
        except Refusal:
            count = max(count - 1, 1)
    return Video(path.name, count, fps, image.shape[1], image.shape[0])


def probe_folder(path: Path, fps: float) -> Video:
    """Count and size of a frame folder. Raises Refusal when it is empty or its first image cannot be read."""
    names = _listing(path)
    image = cv2.imread(str(path / names[0])) if names else None
    if image is None:
        raise Refusal(f"{path}: no readable frame", expected="images", do="extract the video again")
    stem = Path(names[0]).stem
    first = int(stem) if stem.isdecimal() else -1
    counted = all(name == f"{first + i:05d}.jpg" for i, name in enumerate(names))
    return Video(path.name, len(names), fps, image.shape[1], image.shape[0], first if counted else -1)


def build_index(
    root: Path,
    pattern: str,
    kind: Kind,
    *,
    out: Path | None = None,
    short_side: int = 256,
    fps: float = 0,
    workers: int = 1,
) -> tuple[Index, list[tuple[str, str]]]:
    """Index the videos or frame folders that fit the glob `pattern` below `root`; with `out`, extract video files first.

    Frame folders that an earlier, interrupted call finished are kept. Returns the index and (name, reason) of what was
    skipped. Raises Refusal when nothing fits.
    """
    paths = sorted(p for p in root.glob(pattern) if p.is_dir() == (kind == "frames")) if root.is_dir() else []
    if not paths:
        if not root.is_dir():
            raise Refusal(f"{root}: no such folder", expected="the root of the videos", do="correct the data root")
        wanted = "video files" if kind == "videos" else "frame folders (the pattern names folders)"
        raise Refusal(
            f"{root}: nothing fits {pattern}",
            expected=f"{wanted} below it",
            do="correct the root, or give your data set a row with `files:` as it lies",
        )

    def one(path: Path) -> Video:
        name = path.relative_to(root).as_posix()
        if kind == "frames":
            video = probe_folder(path, fps)
        elif out is None:
            video = probe_video(path)
        else:
            name = Path(name).with_suffix("").as_posix()
            note = out / name / "video.json"
            if note.is_file() and (made := read_json(note))["from"] == _origin(path, short_side):
                return Video(name, **made["video"])
            video = extract_video(path, out / name, short_side=short_side)
        return replace(video, video=name)

    found, skipped = _each(paths, one, root, workers, out)
    return Index(tuple(sorted(found, key=lambda v: v.video))), skipped


def check_skipped(index: Index, skipped: list[tuple[str, str]], *, most: float) -> None:
    """Raise Refusal when more than the share `most` could not be read."""
    every = len(index.videos) + len(skipped)
    if len(skipped) > most * every:
        raise Refusal(
            f"{len(skipped)} of {every} videos cannot be read: {few([f'{name} ({why})' for name, why in skipped], 3)}",
            expected=f"at most {most:.0%}",
            do="fetch them again (skipped.csv names all), or allow more (`most_skipped` of the data set's row)",
        )


def _each(
    paths: list[Path], one: Callable[[Path], Video], root: Path, workers: int, out: Path | None
) -> tuple[list[Video], list[tuple[str, str]]]:
    found, skipped = [], []

    def safe(path: Path) -> Video | tuple[str, str]:
        try:
            return one(path)
        except DiskFull:
            raise
        except Refusal as refusal:
            return path.relative_to(root).as_posix(), str(refusal).splitlines()[0].partition(": ")[2]
        except cv2.error as error:
            return path.relative_to(root).as_posix(), " ".join(str(error).split())

    cv2.setNumThreads(1)
    # threads: decoding and encoding leave the interpreter alone
    with ThreadPoolExecutor(workers) as pool, Progress("frames", len(paths), unit="video") as bar:
        try:
            for result in pool.map(safe, paths):
                if isinstance(result, Video):
                    found.append(result)
                else:
                    skipped.append(result)
                bar.advance(note=f"{len(skipped)} skipped" if skipped else "")
                if out is not None and len(found) == SAMPLE:
                    _check_room(out, found, len(paths))
        except DiskFull:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return found, skipped


def _check_room(out: Path, found: list[Video], videos: int) -> None:
    """Refuse an extraction that will not fit: after its first videos, not after a night."""
    size = sum(p.stat().st_size for video in found for p in (out / video.video).iterdir()) / len(found)
    needed = size * (videos - len(found))
    print(f"frames: about {size * videos / 1e9:.1f} GB for {videos} videos", flush=True)
    check_room(
        out,
        needed,
        f"{out}: {needed / 1e9:.1f} GB are still needed for {videos} videos",
        "use a larger disk, or `extract: false` in the data set's row",
    )


def write_ytvos_csv(index: Index, path: Path) -> None:
    """``folder,first_frame,count`` without a header, as SFC's, MAST's and LIIR's ``ytvos.csv`` (pretraining.md 1.3)."""
    with atomic(path) as temporary:
        lines = [f"{Path(v.video).name},{v.first},{v.frames}" for v in index.videos]
        temporary.write_text("\n".join(lines) + "\n")
