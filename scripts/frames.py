"""Frame folders and an index table from videos; or the index of frame folders or videos that stay where they are.

python -m scripts.frames --data kinetics400 --root /data/kinetics --out frames       # extract, short side 256
python -m scripts.frames --data youtube-vos --root /data/YouTube-VOS --out index     # frame folders: only the index
python -m scripts.frames --data bl30k --root /data/BL30K --out index                 # clips with masks
python -m scripts.frames --data got10k --root /data/GOT-10k --out index              # tracks: the usable frames and boxes
Finished folders are kept, so an interrupted call goes on. Videos that cannot be read are listed in skipped.csv. A folder
with files of others is refused as --out before anything is written.
"""

import argparse
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from corrbench.datasets.clips import build_clip_index
from corrbench.datasets.frame_folders import frames_output
from corrbench.datasets.got10k import build_track_index
from corrbench.datasets.videos import build_index, check_skipped, write_skipped, write_ytvos_csv
from corrbench.errors import Refusal, run_program
from corrbench.files import json_option, path_options
from corrbench.reading import positive, user_path
from corrbench.rows import AllRows, validate


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--data", help="row of config/datasets/ with `videos:`")
    which.add_argument("--settings", help="JSON of the row's `videos:` (used by the workflow)")
    parser.add_argument("--rows", type=user_path, nargs="*", default=[], help="further folders with datasets/ rows")
    parser.add_argument("--root", type=user_path, help="data root; never written to")
    parser.add_argument("--roots", default="{}", help="JSON: roots by data set, of a mixture of clips with masks")
    parser.add_argument(
        "--out", type=user_path, required=True, help="folder for index.csv, skipped.csv and frame folders"
    )
    parser.add_argument("--most-skipped", type=float, help="largest share of unreadable videos (default: the row's)")
    parser.add_argument("--workers", type=positive, default=os.cpu_count(), help="threads")
    args = parser.parse_args()
    if args.workers < 1:
        parser.error(f"--workers {args.workers}: at least 1")
    if args.most_skipped is not None and not 0 <= args.most_skipped <= 1:
        parser.error(f"--most-skipped {args.most_skipped}: a share from 0 to 1")

    videos = _settings(args.settings) if args.settings is not None else _of_row(AllRows(args.rows), args.data)
    roots = path_options(args.roots, "--roots")
    if args.root is None and videos["kind"] != "masks":
        raise Refusal("no --root", expected="the root of the data set", do="add --root")
    with frames_output(args.out) as out:
        if videos["kind"] == "masks":
            _clips(videos, roots, args.root, args.data or "own", out)
        elif videos["kind"] == "tracks":
            tracks = build_track_index(args.root, args.workers, count=videos.get("count"))
            tracks.write(out / "index.csv")
            print(
                f"{len(tracks.names)} sequences, {len(tracks.frames)} usable frames, fingerprint {tracks.fingerprint}"
            )
        else:
            most = videos["most_skipped"] if args.most_skipped is None else args.most_skipped
            _videos(videos, args.root, out, args.workers, most)


def _videos(videos: Mapping[str, Any], root: Path, out: Path, workers: int, most: float) -> None:
    extract = videos["kind"] == "videos" and videos["extract"]
    index, skipped = build_index(
        root, videos.get("files", ""), videos["kind"], out=out if extract else None, short_side=videos["short_side"],
        fps=videos["fps"], workers=workers, listed=root / videos["list"] if "list" in videos else None,
    )  # fmt: skip
    write_skipped(skipped, out / "skipped.csv")
    check_skipped(index, skipped, most=most)
    if videos["kind"] == "frames" and all(v.first >= 0 for v in index.videos):
        write_ytvos_csv(index, out / "ytvos.csv")
    index.write(out / "index.csv")  # last: its presence says that all is there
    frames = sum(v.frames for v in index.videos)
    print(f"{len(index.videos)} videos, {frames} frames, {len(skipped)} skipped, fingerprint {index.fingerprint}")
    for name, reason in skipped[:20]:
        print(f"  skipped {name}: {reason}")


def _clips(videos: Mapping[str, Any], roots: dict[str, Path], root: Path | None, own: str, out: Path) -> None:
    roots = roots | ({own: root} if root else {})
    parts = videos.get("parts", [])
    lacking = {part.get("data") or own for part in parts} - roots.keys()
    if lacking or not parts:
        raise Refusal(
            f"no root of {', '.join(sorted(lacking))}" if lacking else "no `parts:` that say where clips and masks lie",
            expected="--root, or --roots as JSON, and a row with `parts:`",
            do="name every root",
        )
    clips = build_clip_index(parts, roots, own, out)
    clips.write(out / "index.csv")
    print(
        f"{len(clips.videos)} clips or images, {sum(c.frames for c in clips.videos)} frames, fingerprint {clips.fingerprint}"
    )


def _of_row(rows: AllRows, name: str) -> Mapping[str, Any]:
    row = rows.datasets.get(name, "--data")
    if "videos" not in row:
        raise Refusal(
            f"{name} is no data set of videos",
            expected="a row with `videos:`",
            do="see workflow/schemas/dataset.schema.yaml",
        )
    return row["videos"]


def _settings(text: str) -> Mapping[str, Any]:
    row = {"name": "settings", "title": "settings", "layout": [{"files": "*", "what": "files"}]}
    return validate({**row, "videos": json_option(text, "--settings")}, "dataset", "--settings")["videos"]


if __name__ == "__main__":
    run_program(main)
