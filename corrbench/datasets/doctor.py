"""Check a data root before anything is computed from it, and fingerprint what will be read."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from corrbench.datasets.davis import Davis, Sequence, check_first_ids, is_soft, objects_of, other_layout
from corrbench.datasets.otb import Otb, Track
from corrbench.datasets.youtube_vos import Video, YoutubeVos
from corrbench.errors import Refusal, few
from corrbench.images import VOID, Kind, Pixels, check_picture, decode_ids, palette_doubt
from corrbench.parallel import parallel_map
from corrbench.progress import Progress
from corrbench.reading import missing_numbers, read_bytes, what_lies_in


@dataclass
class Finding:
    """What the doctor found in one sequence."""

    name: str
    frames: int = 0
    objects: int = 0
    size: tuple[int, int] = (0, 0)
    problems: list[str] = field(default_factory=list)
    doubts: list[str] = field(default_factory=list)
    """What looks odd but may be so."""
    inputs: str = ""
    """sha256 over everything propagation reads: images and the first annotation."""
    annotations: str = ""
    """sha256 over everything the metric reads."""
    files: dict[str, dict[str, str]] = field(default_factory=lambda: {"inputs": {}, "annotations": {}})
    """sha256 of every file by its path below the root, of what networks read and of what the metric reads."""


@dataclass
class Diagnosis:
    """The doctor's result for a whole split."""

    findings: list[Finding]
    problems: list[str]

    @property
    def healthy(self) -> bool:
        """True when nothing is wrong anywhere."""
        return not self.problems and not any(f.problems for f in self.findings)

    def lines(self) -> list[str]:
        """The report: a line per sequence and the totals."""
        out = [f"{'sequence':<22}{'frames':>7}{'objects':>9}{'size':>12}"]
        for f in self.findings:
            size = f"{f.size[1]}x{f.size[0]}" if f.frames else "-"
            out.append(
                f"{f.name:<22}{f.frames:>7}{f.objects:>9}{size:>12}  {'' if not f.problems else 'WRONG'}".rstrip()
            )
        totals = f"{len(self.findings)} sequences, {sum(f.frames for f in self.findings)} frames, {sum(f.objects for f in self.findings)} objects"
        out += ["", totals]
        out += [f"  look at {f.name}: {doubt}" for f in self.findings for doubt in f.doubts]
        if self.healthy:
            doubts = sum(len(f.doubts) for f in self.findings)
            out.append("  nothing is wrong" + (f"; {doubts} points to look at, above" if doubts else ""))
        return out

    def wrong(self, most: int = 20) -> list[str]:
        """What is wrong, a line each; after `most` lines how many more there are."""
        every = [*self.problems, *(f"{f.name}: {p}" for f in self.findings for p in f.problems)]
        more = [f"and {len(every) - most} more; see WRONG in the report"] if len(every) > most else []
        return [*every[:most], *more]

    def fingerprint(self, kind: str) -> str:
        """sha256 over the `inputs` or `annotations` of all sequences in order."""
        text = "".join(f"{f.name}:{getattr(f, kind)}\n" for f in self.findings)
        return hashlib.sha256(text.encode()).hexdigest()

    def files(self, kind: Kind) -> dict[str, str]:
        """sha256 of every file that networks (`inputs`) or the metric (`annotations`) read, by path below the root."""
        return {name: sha for f in self.findings for name, sha in f.files[kind].items()}

    def refuse_if_ill(self) -> None:
        """Raise Refusal with the problems when something is wrong."""
        if not self.healthy:
            raise Refusal(
                "the data set is not as it should be:\n  " + "\n  ".join(self.wrong()),
                expected="a complete, readable data set",
                do="unpack the archive again, or take the part that you have: --subset by hand, `subsets:` in a config",
            )


def diagnose(davis: Davis, row: dict[str, Any], *, subset: bool, workers: int = 1) -> Diagnosis:
    """Check every sequence of `davis.sequences`: present, in step, decodable, one size, objects in frame 0.

    `row` is the benchmark row; without `subset` the list file must name the row's sequences and the counts must fit.
    """
    problems = []
    if said := other_layout(davis.root, davis.year, davis.resolution):
        raise Refusal(  # nothing else that is wrong then matters
            f"{davis.root}: not laid out as DAVIS-{davis.year}{said}",
            expected=f"ImageSets/, JPEGImages/{davis.resolution}/ and Annotations/{davis.resolution}/ of DAVIS-{davis.year}",
            do="name the benchmark or the root that fits",
        )
    images = davis.root / "JPEGImages" / davis.resolution
    present = [name for name in davis.sequences if (images / name).is_dir()]
    if missing := [name for name in davis.sequences if name not in present]:
        problems.append(
            f"{len(missing)} of {len(davis.sequences)} sequences are missing below {images}: {few(missing)}; "
            f"there lies: {what_lies_in(images)}"
        )
    try:
        listed = davis.listed()
        unlisted = [name for name in davis.sequences if name not in listed]
        if unlisted:
            problems.append(f"{davis.image_set} does not list {', '.join(unlisted)}")
    except Refusal as refusal:
        problems.append(str(refusal).replace("\n", ";"))
    single = row["scoring"] == "single-object"
    arguments = [(davis, name, single) for name in present]
    findings = []
    with Progress("doctor", len(arguments), unit="sequence") as bar:
        for finding in parallel_map(_examine, arguments, workers):
            findings.append(finding)
            bar.advance(note=finding.name)
    if not subset and not missing:
        problems += _wrong_totals(findings, row)
    return Diagnosis(findings, problems)


def diagnose_otb(otb: Otb, row: dict[str, Any], *, subset: bool, workers: int = 1) -> Diagnosis:
    """Check every target of `otb.sequences`: present, as many boxes as images and as the row says, decodable, one size.

    A box without area is wrong in the first frame only: OTB-100 has none, but a tracker can do without later ones.
    """
    findings = []
    with Progress("doctor", len(otb.sequences), unit="target") as bar:
        for finding in parallel_map(_examine_track, [(otb, name) for name in otb.sequences], workers):
            findings.append(finding)
            bar.advance(note=finding.name)
    return Diagnosis(findings, [] if subset else _wrong_totals(findings, row))


def diagnose_youtube_vos(data: YoutubeVos, *, workers: int = 1) -> Diagnosis:
    """Check every video of `data.sequences`: parts complete and in step, all images and annotations decode in one size.

    `frames` of a finding counts what the server wants: scored frames from the first annotation on.
    """
    findings = []
    with Progress("doctor", len(data.sequences), unit="video") as bar:
        for finding in parallel_map(_examine_video, [(data, name) for name in data.sequences], workers):
            findings.append(finding)
            bar.advance(note=finding.name)
    return Diagnosis(findings, [])


class _Reader:
    """Reads the files of one sequence once: checks each, remembers its hash, and compares sizes."""

    def __init__(self, finding: Finding, root: Path) -> None:
        self.finding, self.root = finding, root
        self.hashes: dict[Path, bytes] = {}

    def bytes_of(self, path: Path) -> bytes:
        data = read_bytes(path)
        self.hashes[path] = hashlib.sha256(data).digest()
        return data

    def image(self, path: Path) -> None:
        """Check that a frame decodes as a whole and has the size of the first one."""
        shape = check_picture(path, self.bytes_of(path))
        finding = self.finding
        finding.size = finding.size if any(finding.size) else shape
        if shape != finding.size:
            finding.problems.append(
                f"{path.name} is {shape[1]}x{shape[0]}, the first frame {finding.size[1]}x{finding.size[0]}"
            )

    def ids(self, path: Path) -> Pixels:
        """The stored values of an annotation; notes a size other than that of the images, and an odd palette."""
        data = self.bytes_of(path)
        ids = decode_ids(path, data)
        if (doubt := palette_doubt(path, data)) and not any("palette" in d for d in self.finding.doubts):
            self.finding.doubts.append(doubt)
        if ids.shape != self.finding.size:
            size = self.finding.size
            self.finding.problems.append(
                f"annotation {path.name} is {ids.shape[1]}x{ids.shape[0]}, the images {size[1]}x{size[0]}"
            )
        return ids

    def note_numbers(self, names: list[str]) -> None:
        if gone := missing_numbers(names):
            self.finding.doubts.append(f"frame numbers leave out {few(gone)}: are frames missing?")

    def fingerprint(self, rule: str, paths: list[Path], kind: Kind) -> str:
        """sha256 over a rule and the files read; their hashes go into the finding."""
        hasher = hashlib.sha256(rule.encode())
        for path in paths:
            hasher.update(f"{path.name}:".encode())
            hasher.update(self.hashes[path])
            self.finding.files[kind][path.relative_to(self.root).as_posix()] = self.hashes[path].hex()
        return hasher.hexdigest()


def _examine_video(arguments: tuple[YoutubeVos, str]) -> Finding:
    data, name = arguments
    finding = Finding(name)
    reader = _Reader(finding, data.root)
    try:
        video = data.video(name)
        lost = [path.stem for t, path in video.annotations.items() if path.stem not in video.scored]
        if lost:
            finding.problems.append(f"annotated but not among the scored frames: {', '.join(lost)}")
        finding.doubts += _gaps(video)
        reader.note_numbers([path.stem for path in video.images])
        ids: set[int] = set()
        first = None
        for t, path in enumerate(video.images):
            reader.image(path)
            given = video.annotations.get(t)
            if given is not None:
                here = {int(v) for v in np.unique(objects_of(reader.ids(given), single_object=False))} - {0}
                first = t if first is None and here else first  # a blank annotation starts nothing
                ids |= here
        finding.objects = len(ids)
        finding.frames = 0 if first is None else sum(path.stem in video.scored for path in video.images[first:])
        if not ids:
            finding.problems.append("no object in any annotation")
    except Refusal as refusal:
        finding.problems.append(str(refusal).replace("\n", ";"))
        return finding
    given_all = list(video.annotations.values())
    finding.inputs = reader.fingerprint(",".join(sorted(video.scored)), [*video.images, *given_all], "inputs")
    finding.annotations = reader.fingerprint("", given_all, "annotations")
    return finding


def _gaps(video: Video) -> list[str]:
    """What may show that scored frames are missing: most videos have every fifth."""
    at = [t for t, path in enumerate(video.images) if path.stem in video.scored]
    steps = np.diff(at)
    if len(steps) and (steps.max() >= 2 * steps.min() or len(video.images) - at[-1] > 2 * steps.min()):
        return [
            f"scored frames {steps.min()} to {steps.max()} apart, the last {len(video.images) - 1 - at[-1]} before the end: are some missing?"
        ]
    return []


def _wrong_totals(findings: list[Finding], row: dict[str, Any]) -> list[str]:
    got = {"frames": sum(f.frames for f in findings), "objects": sum(f.objects for f in findings)}
    return [f"{n} {k} in all, the split has {row[k]}" for k, n in got.items() if row.get(k) is not None and n != row[k]]


def _examine_track(arguments: tuple[Otb, str]) -> Finding:
    otb, name = arguments
    finding = Finding(name)
    reader = _Reader(finding, otb.root)
    try:
        track = otb.track(name)
        finding.frames, finding.objects = len(track.images), 1
        if not (track.boxes[0, 2:] > 0).all():
            finding.problems.append(f"the first box is {track.boxes[0].tolist()}, without area")
        reader.note_numbers([path.stem for path in track.images])
        for path in track.images:
            reader.image(path)
        annotation = otb.annotation(name)
        reader.bytes_of(annotation)
        finding.doubts += _odd_boxes(track, finding.size, annotation.name)
    except Refusal as refusal:
        finding.problems.append(str(refusal).replace("\n", ";"))
        return finding
    finding.inputs = reader.fingerprint(f"box {track.boxes[0].tolist()}", list(track.images), "inputs")
    for kind in ("inputs", "annotations"):  # the first box is an input too
        reader.fingerprint("", [annotation], kind)
    finding.annotations = hashlib.sha256(track.boxes.tobytes()).hexdigest()
    return finding


def _odd_boxes(track: Track, size: tuple[int, int], name: str) -> list[str]:
    """Boxes of the truth that no tracker can meet: they count as its failures."""
    x, y, w, h = track.boxes[1:].T
    empty = np.flatnonzero(~((w > 0) & (h > 0))) + 2
    away = np.flatnonzero((w > 0) & (h > 0) & ((x > size[1]) | (y > size[0]) | (x + w < 1) | (y + h < 1))) + 2
    said = ((empty, "without area"), (away, "outside the picture"))
    return [f"{name}: {len(at)} boxes {what}, the first in line {at[0]}" for at, what in said if len(at)]


def _examine(arguments: tuple[Davis, str, bool]) -> Finding:
    davis, name, single = arguments
    finding = Finding(name)
    reader = _Reader(finding, davis.root)
    try:
        sequence = davis.sequence(name)
        finding.frames = len(sequence.images)
        if finding.frames < 3:
            finding.problems.append(
                f"{finding.frames} frames; the metric drops the first and the last, so 3 are needed"
            )
        for path in sequence.images:
            reader.image(path)
        _examine_annotations(sequence, single, reader)
    except Refusal as refusal:
        finding.problems.append(str(refusal).replace("\n", ";"))
        return finding
    reader.note_numbers(sequence.frames)
    if (start := sequence.frames[0]).isdecimal() and int(start) != 0:
        finding.doubts.append(f"the first frame is {start}; DAVIS counts from 0: are frames missing at the start?")
    rule = "single" if single else "multi"  # how ids are read decides labels and scores as the bytes do
    finding.inputs = reader.fingerprint(rule, [*sequence.images, sequence.annotations[0]], "inputs")
    finding.annotations = reader.fingerprint(rule, list(sequence.annotations), "annotations")
    return finding


def _examine_annotations(sequence: Sequence, single: bool, reader: _Reader) -> None:
    finding, later, void = reader.finding, {}, []
    for i, path in enumerate(sequence.annotations):
        ids = reader.ids(path)
        if i == 0:
            check_first_ids(path, ids, single_object=single, gaps=sequence.id_gaps)
        present = {int(v) for v in np.unique(objects_of(ids, single_object=single))} - {0}
        if i == 0:
            finding.objects = max(present, default=0)
            if not present:
                finding.problems.append("no object in the first frame")
        elif not single and (ids == VOID).any():
            void.append(path.name)
            if not present:
                finding.problems.append(
                    f"annotation {path.name} holds 255 (void) and no object: a mask of 0 and 255, not of ids?"
                )
        if i and is_soft(ids, single_object=single):
            finding.problems.append(
                f"annotation {path.name} holds {len(np.unique(ids))} values: smoothed edges, not ids?"
            )
        for number in sorted(n for n in present if n > finding.objects and n not in later):
            later[number] = path.name
    finding.doubts += [
        f"object {number} first appears in {where}; the metric counts it as background"
        for number, where in list(later.items())[:5]
    ]
    if void:
        finding.doubts.append(
            f"{len(void)} annotations after the first hold 255 (void, background), the first {void[0]}"
        )
