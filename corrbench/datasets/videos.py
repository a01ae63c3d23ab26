"""Videos for pretraining: frame folders made from video files, and their index (`video_reader` reads both)."""

from __future__ import annotations

import csv
import errno
import os
import zlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import cv2

from corrbench.datasets.frame_folders import folder_names, foreign_in, kept_note, write_note
from corrbench.datasets.source import find, said
from corrbench.datasets.video_reader import IMAGES, Index, Kind, Reader, Video, read_video
from corrbench.errors import DiskFull, Refusal, few
from corrbench.files import atomic, check_room
from corrbench.images import check_ending, decode_image
from corrbench.outputs import MANIFEST
from corrbench.parallel import threads
from corrbench.progress import Progress
from corrbench.reading import is_litter, list_files, missing_numbers, read_bytes, read_text, regular, what_lies_in

__all__ = ["Index", "Reader", "Video", "build_index", "check_skipped", "write_skipped", "write_ytvos_csv"]

SAMPLE = 50
"""Videos after which the size of the whole is known well enough."""


def _origin(path: Path, short_side: int) -> dict[str, int]:
    """What frames are extracted from: another size or file means other frames."""
    stat = regular(path).stat()
    return {"short_side": short_side, "bytes": stat.st_size, "mtime_ns": stat.st_mtime_ns}


def extract_video(path: Path, folder: Path, *, short_side: int) -> Video:
    """Write every frame as ``00000.jpg``, ... (short side at most `short_side`); the folder appears when complete, with the
    record of its frames.

    Raises Refusal when nothing can be decoded. A video that ends early keeps the frames that came.
    """
    origin = _origin(path, short_side)
    capture = cv2.VideoCapture(str(path))
    try:
        fps = _fps(capture)
        with atomic(folder) as temporary:
            temporary.mkdir(parents=True)
            size = (0, 0)
            sizes: list[int] = []
            crcs: list[int] = []
            while True:
                read, image = capture.read()
                if not read:
                    break
                scale = short_side / min(image.shape[:2])
                if scale < 1:
                    wanted = (round(image.shape[1] * scale), round(image.shape[0] * scale))
                    image = cv2.resize(image, wanted, interpolation=cv2.INTER_AREA)
                data = cv2.imencode(".jpg", image)[1].tobytes()
                (temporary / f"{len(sizes):05d}.jpg").write_bytes(data)
                size = (image.shape[1], image.shape[0])
                sizes.append(len(data))
                crcs.append(zlib.crc32(data))
            if not sizes:
                raise Refusal(f"{path}: no frame can be decoded", expected="a video", do="fetch it again")
            note = {"frames": len(sizes), "fps": fps, "width": size[0], "height": size[1]}
            write_note(temporary, note, origin, sizes, crcs)
    finally:
        capture.release()
    return Video(folder.name, len(sizes), fps, *size)


def _fps(capture: cv2.VideoCapture) -> float:
    """Frames a second as the container says; 0 where it says nothing that can be."""
    fps = float(capture.get(cv2.CAP_PROP_FPS) or 0)
    return fps if 0 < fps < float("inf") else 0.0


def probe_video(path: Path) -> Video:
    """Count and size of a video file that is read in place. Raises Refusal when its first frame cannot be decoded.

    Containers often promise a few frames more than there are: the count is that of frames that can be reached.
    """
    capture = cv2.VideoCapture(str(regular(path)))
    try:
        count = int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
        fps = _fps(capture)
        read, image = capture.read()
    finally:
        capture.release()
    if not read or count < 1:
        raise Refusal(f"{path}: no frame can be decoded", expected="a video", do="fetch it again")
    for _ in range(max(count // 10, 5)):
        try:
            read_video(path, [count - 1])
            break
        except Refusal:
            count = max(count - 1, 1)
    return Video(path.name, count, fps, image.shape[1], image.shape[0])


def probe_folder(path: Path, fps: float) -> Video:
    """Count and size of a frame folder. Raises Refusal when it is empty or its first image cannot be read."""
    names = [p.name for p in list_files(path, IMAGES)]
    if not names:
        raise Refusal(f"{path}: no readable frame in {what_lies_in(path)}", expected="images", do="extract it again")
    data = read_bytes(path / names[0])
    check_ending(path / names[0], data)
    image = decode_image(path / names[0], data, rotation=False)
    stem = Path(names[0]).stem
    first = int(stem) if stem.isdecimal() else -1
    counted = all(name == f"{first + i:05d}.jpg" for i, name in enumerate(names))
    if gone := missing_numbers([Path(name).stem for name in names]):
        print(f"look at {path}: between its frames the numbers {few(gone)} are missing", flush=True)
    return Video(path.name, len(names), fps, image.shape[1], image.shape[0], first if counted else -1)


def build_index(
    root: Path,
    pattern: str | Sequence[str],
    kind: Kind,
    *,
    out: Path | None = None,
    short_side: int = 256,
    fps: float = 0,
    workers: int = 1,
    listed: Path | None = None,
) -> tuple[Index, list[tuple[str, str]]]:
    """Index the videos or frame folders that fit the glob `pattern` below `root` (of several globs the first that anything
    fits); with `out`, extract video files first. `listed`: a file that names them instead, see `read_list`.

    Frame folders that an earlier, interrupted call finished are kept. Returns the index and (name, reason) of what was
    skipped. Raises Refusal when nothing fits, and before anything is written when a folder to be replaced holds files of
    others.
    """
    if listed is not None:
        paths = read_list(listed, root, kind)
    else:
        paths = [p for p in find(root, pattern) if p.is_dir() == (kind == "frames")] if root.is_dir() else []
        paths = [p for p in paths if not (is_litter(p.name) if kind == "frames" else p.name == MANIFEST)]
    if not paths:
        if not root.is_dir():
            raise Refusal(f"{root}: no such folder", expected="the root of the videos", do="correct the data root")
        wanted = "video files" if kind == "videos" else "frame folders (the pattern names folders)"
        raise Refusal(
            f"{root}: nothing fits {said(pattern)}; there lies {what_lies_in(root)}",
            expected=f"{wanted} below it",
            do="correct the root, or give your data set a row with `files:` as it lies",
        )
    folders: dict[str, str] = {}
    kept: dict[Path, Video] = {}
    if out is not None:
        usable = [_name(p, root) for p in paths if not _unusable_name(p, root)]
        folders = folder_names(usable)
        kept = _kept(paths, root, out, folders, short_side, workers)

    def one(path: Path) -> Video:
        if reason := _unusable_name(path, root):
            raise Refusal(f"{path}: {reason}")
        name = _name(path, root)
        if kind == "frames":
            return replace(probe_folder(path, fps), video=name)
        if out is None:
            return replace(probe_video(path), video=name)
        if path in kept:
            return kept[path]
        return replace(extract_video(path, out / folders[name], short_side=short_side), video=folders[name])

    found, skipped = _each(paths, one, root, workers, out)
    return Index(tuple(sorted(found, key=lambda v: v.video))), skipped


def read_list(path: Path, root: Path, kind: Kind) -> list[Path]:
    """The videos or frame folders that a text file names, one in each line, as absolute paths or below `root`.

    What follows the name in its line (CRW's and TimeCycle's lists have the number of frames there) is not read: frames are
    counted. Raises Refusal for a list without names, for a name that is not there or not below `root`, and for one that
    stands there twice.
    """
    names = [line.strip() for line in read_text(path).splitlines() if line.strip()]
    found: list[Path] = []
    for name in names:
        whole = root / name  # an absolute name stays as it is
        # a name may have spaces; a number at its end is then no part of it
        choices = [whole, root / name.rsplit(maxsplit=1)[0]]
        there = next((p for p in choices if p.is_dir() == (kind == "frames") and p.exists()), None)
        what = "a folder of frames" if kind == "frames" else "a video file"
        if there is None:
            raise Refusal(
                f"{path}: {name}: nothing at {whole}",
                expected=f"{what} below {root}",
                do="correct the list or the root",
            )
        # links stay as they are: only the name decides where it is
        place, base = os.path.abspath(there), os.path.abspath(root)
        if os.path.commonpath([place, base]) != base or place == base:
            raise Refusal(
                f"{path}: {name}: not below {root}", expected=f"{what} below the root", do="name another root"
            )
        found.append(root / os.path.relpath(place, base))
    twice = [str(p) for p, count in Counter(found).items() if count > 1]
    if twice or not found:
        raise Refusal(
            f"{path}: " + (f"{few(twice)} more than once" if twice else "no names"),
            expected="one name in each line, every one once",
            do="correct the list",
        )
    return found


def _name(path: Path, root: Path) -> str:
    return path.relative_to(root).as_posix()


def _unusable_name(path: Path, root: Path) -> str:
    """Why a video of this name cannot stand in a table; empty if it can."""
    name = _name(path, root)
    try:
        name.encode()
    except UnicodeError:
        return "its name is not UTF-8: rename it"
    if "\r" in name:
        return "a line end in its name: rename it"
    return "a hidden file: rename it to use it" if path.name.startswith(".") else ""


def _kept(
    paths: list[Path], root: Path, out: Path, folders: dict[str, str], short_side: int, workers: int
) -> dict[Path, Video]:
    """The videos whose folders of frames are whole. Raises Refusal when another one holds files that are not ours."""
    made = (out / MANIFEST).is_file()

    def state(path: Path) -> Video | list[str] | None:
        if (folder := folders.get(_name(path, root))) is None or not (out / folder).exists():
            return None
        try:
            note = kept_note(out / folder, _origin(path, short_side))
        except Refusal:  # the video is gone: it will be listed as skipped
            return None
        if note is not None:
            return Video(folder, **note.video)
        return [f"{folder}/{name}" for name in foreign_in(out / folder, made)]

    with threads(workers) as pool:
        states = dict(zip(paths, pool.map(state, paths), strict=True))
    if foreign := [name for found in states.values() if isinstance(found, list) for name in found]:
        raise Refusal(
            f"{out}: holds files that corrbench did not write ({few(foreign)}) where frames are to be written",
            expected="folders of frames of an earlier run and nothing else",
            do="name another folder, or move these files elsewhere",
        )
    return {path: found for path, found in states.items() if isinstance(found, Video)}


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
            reason = str(refusal).splitlines()[0].partition(": ")[2]
        except cv2.error as error:
            reason = " ".join(str(error).split())
        except OSError as error:
            if error.errno != errno.ENAMETOOLONG:
                raise
            reason = "its name is too long for a folder of frames: rename it"
        return _name(path, root).encode("utf-8", "backslashreplace").decode(), reason

    cv2.setNumThreads(1)
    # threads: decoding and encoding leave the interpreter alone
    with threads(workers) as pool, Progress("frames", len(paths), unit="video") as bar:
        try:
            for result in pool.map(safe, paths):
                if isinstance(result, Video):
                    found.append(result)
                else:
                    skipped.append(result)
                bar.advance(note=f"{len(skipped)} skipped" if skipped else "")
                if out is not None and len(found) == SAMPLE:
                    _check_room(out, found, len(paths))
        except Exception:
            pool.shutdown(cancel_futures=True)  # those at work remove what they had begun
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


def write_skipped(skipped: list[tuple[str, str]], path: Path) -> None:
    """``video,reason`` of what could not be read."""
    with atomic(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("video", "reason"), *skipped])


def write_ytvos_csv(index: Index, path: Path) -> None:
    """``folder,first_frame,count`` without a header, as SFC's, MAST's and LIIR's ``ytvos.csv``."""
    with atomic(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        rows = [(Path(v.video).name, v.first, v.frames) for v in index.videos]
        csv.writer(file, lineterminator="\n").writerows(rows)
