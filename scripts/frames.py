"""Frame folders and an index table from videos; or the index of frame folders or videos that stay where they are.

python -m scripts.frames --data kinetics400 --root /data/kinetics --out frames       # extract, short side 256
python -m scripts.frames --data youtube-vos --root /data/YouTube-VOS --out index     # frame folders: only the index
python -m scripts.frames --data bl30k --root /data/BL30K --out index                 # clips with masks
python -m scripts.frames --data got10k --root /data/GOT-10k --out index              # tracks: the usable frames and boxes
Finished folders are kept, so an interrupted call goes on. Videos that cannot be read are listed in skipped.csv.
"""

import argparse
import csv
import json
import os
from pathlib import Path

from corrbench.datasets.clips import build_clip_index
from corrbench.datasets.got10k import build_track_index
from corrbench.datasets.videos import build_index, check_skipped, write_ytvos_csv
from corrbench.errors import Refusal, run_program
from corrbench.files import atomic
from corrbench.rows import AllRows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--data", help="row of config/datasets/ with `videos:`")
    which.add_argument("--settings", help="JSON of the row's `videos:` (used by the workflow)")
    parser.add_argument("--rows", type=Path, nargs="*", default=[], help="further folders with datasets/ rows")
    parser.add_argument("--root", type=Path, help="data root; never written to")
    parser.add_argument(
        "--roots", type=json.loads, default={}, help="JSON: roots by data set, of a mixture of clips with masks"
    )
    parser.add_argument("--out", type=Path, required=True, help="folder for index.csv, skipped.csv and frame folders")
    parser.add_argument("--most-skipped", type=float, help="largest share of unreadable videos (default: the row's)")
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="threads")
    args = parser.parse_args()

    if args.settings:
        videos = json.loads(args.settings)
    else:
        row = AllRows(args.rows).datasets.get(args.data, "--data")
        if "videos" not in row:
            raise Refusal(
                f"{args.data} is no data set of videos",
                expected="a row with `videos:`",
                do="see workflow/schemas/dataset.schema.yaml",
            )
        videos = row["videos"]
    if videos["kind"] == "masks":
        own = args.data or "own"
        roots = {name: Path(path) for name, path in args.roots.items()} | ({own: args.root} if args.root else {})
        lacking = {part.get("data") or own for part in videos["parts"]} - roots.keys()
        if lacking:
            raise Refusal(
                f"no root of {', '.join(sorted(lacking))}", expected="--root, or --roots as JSON", do="name every root"
            )
        clips = build_clip_index(videos["parts"], roots, own, args.out)
        clips.write(args.out / "index.csv")
        print(
            f"{len(clips.videos)} clips or images, {sum(c.frames for c in clips.videos)} frames, fingerprint {clips.fingerprint}"
        )
        return
    if args.root is None:
        raise Refusal("no --root", expected="the root of the data set", do="add --root")
    if videos["kind"] == "tracks":
        tracks = build_track_index(args.root, args.workers, count=videos.get("count"))
        tracks.write(args.out / "index.csv")
        print(f"{len(tracks.names)} sequences, {len(tracks.frames)} usable frames, fingerprint {tracks.fingerprint}")
        return
    extract = videos["kind"] == "videos" and videos["extract"]
    index, skipped = build_index(
        args.root, videos["files"], videos["kind"], out=args.out if extract else None, short_side=videos["short_side"],
        fps=videos["fps"], workers=args.workers,
    )  # fmt: skip
    with atomic(args.out / "skipped.csv") as temporary, temporary.open("w", newline="") as file:
        csv.writer(file).writerows([("video", "reason"), *skipped])
    check_skipped(index, skipped, most=videos["most_skipped"] if args.most_skipped is None else args.most_skipped)
    if videos["kind"] == "frames" and all(v.first >= 0 for v in index.videos):
        write_ytvos_csv(index, args.out / "ytvos.csv")
    index.write(args.out / "index.csv")  # last: its presence says that all is there
    frames = sum(v.frames for v in index.videos)
    print(f"{len(index.videos)} videos, {frames} frames, {len(skipped)} skipped, fingerprint {index.fingerprint}")
    for name, reason in skipped[:20]:
        print(f"  skipped {name}: {reason}")


if __name__ == "__main__":
    run_program(main)
