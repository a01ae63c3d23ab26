"""Score one method on your DAVIS: writes a config, runs the workflow on it, prints the table.

    python -m scripts.score --method crw-r18 --checkpoint pretrained.pth --benchmark davis2017-val --data /data/DAVIS-2017

Several checkpoints, or a folder of them, make a row each and a curve over them, in the order of the numbers in their names:

    python -m scripts.score --method vfs-r18 --checkpoint runs/vfs/epoch_*.pth --data /data/DAVIS-2017

Beside the method, the table has its untrained network under the same protocol and the identity baseline. The config and
all results stay below --results, so the same command run again only does what is missing, and another method or checkpoint
is added to the same table.
"""

import argparse
import copy
import os
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any

import yaml

from corrbench.benchmarks.base import PROPAGATE
from corrbench.benchmarks.registry import benchmark_of
from corrbench.config import Config
from corrbench.controller import PARENT
from corrbench.datasets.davis import other_layout
from corrbench.errors import Refusal, few, run_program
from corrbench.files import atomic
from corrbench.outputs import claim
from corrbench.reading import is_litter, natural, user_path, what_lies_in
from corrbench.report.shown import audit_shown
from corrbench.resources import HOME
from corrbench.scoring import add, earlier, leave_out_lost, plain_name

CHECKPOINTS = (".pth", ".pt", ".ckpt", ".tar", ".bin", ".safetensors")
"""Ends of the names of checkpoints in a folder."""
PATIENCE = 20
"""Seconds that Snakemake and its jobs have to end after a signal, before they are killed."""


def check_before_running(args: argparse.Namespace, values: dict[str, Any]) -> None:
    """Refuse in seconds what would otherwise fail in a job: names, the data root, the checkpoint. Completes `values`."""
    config = Config(copy.deepcopy({**values, "data": {}, "subsets": {}}), "command line")
    row = config.rows.benchmarks.get(args.benchmark, "--benchmark")
    if PROPAGATE not in benchmark_of(row).stages:
        raise Refusal(
            f"--benchmark {args.benchmark}: {row['title']}, which this program does not measure",
            expected="a benchmark in the layout of DAVIS",
            do="write a config with `runs:` for it, and give it to snakemake with --configfile: docs/probe.md for boxes "
            "(a layer is trained first), docs/mask-propagation.md for YouTube-VOS",
        )
    root = args.data.expanduser().resolve()
    if not root.is_dir():
        raise Refusal(f"{args.data}: no such folder", expected=f"the root of {row['title']}", do="correct --data")
    values["data"] = {row["data"]: str(root)}
    if said := other_layout(root, row["year"], row["resolution"]):
        raise Refusal(
            f"--data {args.data}: not laid out as {row['title']}{said}",
            expected=f"the root of {row['title']}",
            do="correct --benchmark or --data",
        )
    config = Config(copy.deepcopy(values), "command line")
    images = root / "JPEGImages" / row["resolution"]
    missing = [n for n in config.sequences(row) if not (images / n).is_dir()]
    if missing:
        raise Refusal(
            f"{images}: {len(missing)} of {len(row['sequences'])} sequences are missing: {few(missing)}",
            expected=f"every sequence of {row['title']}",
            do="complete the data set, choose another --benchmark, or add --subset to score what is there",
        )
    for path in args.checkpoint:
        from corrbench.weights.convert import convert  # it imports torch

        method = config.rows.methods.get(args.method, "--method")
        found = convert(
            path, encoder=method["encoder"], method=args.method, trust_pickle=args.trust_pickle,
            container=args.container,
        ).meta["family"]  # fmt: skip
        own = method.get("released", {}).get("family", found)
        if found != own:
            print(
                f"note: {path} is a {found} checkpoint; it is scored with the network surgery of {args.method}",
                file=sys.stderr,
            )


def run_workflow(config: Path, *more: str) -> int:
    """Snakemake's exit status. A signal to this program ends Snakemake and its jobs, too, and is then raised."""
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(HOME / "Snakefile"), "--profile", str(HOME / "profiles/local"),
               "--configfile", str(config), *(more or ("--quiet", "rules"))]  # fmt: skip
    # a group of its own: a key press reaches this program alone, which then ends all of them in order
    child = subprocess.Popen(command, process_group=0, env={**os.environ, PARENT: str(os.getpid())})
    try:
        return child.wait()
    except KeyboardInterrupt:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        _end(child.pid, signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            child.wait(PATIENCE)
        raise
    finally:
        _end(
            child.pid, signal.SIGTERM if child.poll() is not None else signal.SIGKILL
        )  # jobs of a Snakemake that was killed


def _end(group: int, number: int) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)


def said_by_jobs(results: Path, since: float) -> str:
    """The logs of jobs in which something was refused, which is where the reason stands."""
    texts = []
    for log in sorted((results / "logs").rglob("*.log")):
        with suppress(OSError):
            text = log.read_text(errors="replace")
            if log.stat().st_mtime >= since and "refused:" in text:
                texts.append(f"\n{log}:\n{text}")
    return "\n".join(texts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--method", required=True, help="row of config/methods/: the network and its surgery")
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument(
        "--checkpoint",
        type=user_path,
        nargs="+",
        default=[],
        help="your file, of any known checkpoint family; several, or a folder, make a curve",
    )
    source.add_argument("--released", action="store_true", help="download the file that the authors released")
    source.add_argument("--random", action="store_true", help="only the untrained network")
    parser.add_argument(
        "--trust-pickle",
        action="store_true",
        help="the checkpoint holds more than tensors and I know its origin",
    )
    parser.add_argument("--protocol", default="own", help="row of config/protocols/; own is that of the method")
    parser.add_argument("--benchmark", default="davis2017-val", help="row of config/benchmarks/")
    parser.add_argument(
        "--data", type=user_path, required=True, help="root of the data set (has JPEGImages/); never written to"
    )
    parser.add_argument(
        "--subset", action="store_true", help="score the sequences that are there; the table will say so"
    )
    parser.add_argument("--name", help="name of the checkpoint in the table; by default the stem of its file")
    parser.add_argument(
        "--container",
        metavar="NAME",
        help="entry of the checkpoint to take (teacher, state_dict_ema, ...) where several fit",
    )
    parser.add_argument("--device", default="auto", choices=["auto", "cpu", "cuda"])
    parser.add_argument("--rows", type=user_path, nargs="*", default=[], help="folders with rows of your own")
    parser.add_argument(
        "--results", type=user_path, default=Path("results/score"), help="folder for everything that is written"
    )
    parser.add_argument("--dry-run", action="store_true", help="show what would run")
    args = parser.parse_args()
    if not args.checkpoint:
        for option in ("name", "container", "trust_pickle"):
            if getattr(args, option):
                parser.error(f"--{option.replace('_', '-')} is for a --checkpoint")
    if args.results.exists() and not args.results.is_dir():
        raise Refusal(f"--results {args.results}: a file", expected="a folder, or nothing", do="name another folder")

    args.checkpoint = checkpoints_of(args.checkpoint)
    names = names_of(args.checkpoint, args.name, args.container)
    files: dict[str, dict[str, Any]] = {}
    for name, path in names.items():
        files[name] = {"path": str(path), "trust_pickle": args.trust_pickle}
        if args.container:
            files[name]["container"] = args.container
    run = {"protocols": [args.protocol], "benchmarks": [args.benchmark]}
    source = [*names] if args.checkpoint else ["released"] if args.released else []
    values = {
        "results": str(args.results.expanduser()),
        "device": args.device,
        "rows": [str(p.expanduser().absolute()) for p in args.rows],
        "files": files,
        "subsets": {args.benchmark: "present"} if args.subset else {},
        "runs": [
            {"methods": ["identity"], "weights": ["none"], "benchmarks": [args.benchmark]},
            {"methods": [args.method], "weights": ["random", *source], **run},
        ],
    }  # fmt: skip
    check_before_running(args, values)
    results = Path(values["results"])
    kept = results / "config.yaml"
    with nullcontext() if args.dry_run else claim(kept):  # two calls at once must not lose each other's rows
        values, notes = add(earlier(kept), values, str(kept))
        notes += leave_out_lost(values)
        Config(copy.deepcopy(values), "command line").check_data()
        for note in notes:
            print(f"note: {note}", file=sys.stderr)
        text = "# written by scripts/score.py, which adds to it\n" + yaml.safe_dump(
            values, sort_keys=False, allow_unicode=True
        )
        if not args.dry_run:
            before = kept.read_bytes() if kept.exists() else None
            with atomic(kept) as temporary:
                temporary.write_text(text, encoding="utf-8")
    if args.dry_run:
        with tempfile.TemporaryDirectory() as scratch:
            config = Path(scratch) / "config.yaml"
            config.write_text(text, encoding="utf-8")
            sys.exit(run_workflow(config, "--dry-run"))
    start = time.time()
    status = run_workflow(kept)
    if status < 0:
        raise Refusal(
            f"snakemake was killed by signal {-status}",
            expected="that it ends by itself",
            do="run the same command again to go on",
        )
    if status:
        print(said_by_jobs(results, start), file=sys.stderr)
        if (
            not (results / args.benchmark / "data" / "inputs.json").exists()
            and kept.read_text(encoding="utf-8") == text
        ):
            forget(kept, before)  # data that the doctor refuses must not stand in the way of the next call
        sys.exit(1)
    check_answer(Config(copy.deepcopy(values), str(kept)))
    print((results / "table.md").read_text(encoding="utf-8"))
    if len(names) > 1:
        print(f"curve: {draw_curve(results, args.method, list(names))}")
    print(f"page: {results}/report.html   table: {results}/table.csv")


def checkpoints_of(given: list[Path]) -> list[Path]:
    """The files that `--checkpoint` names, a folder's in place of the folder, by the numbers in their names.

    Raises Refusal for a folder without checkpoints.
    """
    found: list[Path] = []
    for path in given:
        place = path.expanduser().absolute()
        if place.is_dir():
            inside = [p for p in place.iterdir() if p.suffix in CHECKPOINTS and not is_litter(p.name)]
            if not inside:
                raise Refusal(
                    f"--checkpoint {path}: {what_lies_in(place)}",
                    expected=f"a folder of checkpoints, files that end in {', '.join(CHECKPOINTS)}",
                    do="name the files",
                )
            found += inside
        else:
            found.append(place)
    return sorted(dict.fromkeys(found), key=lambda p: (str(p.parent), natural(p.name))) if len(found) > 1 else found


def names_of(paths: list[Path], name: str | None, container: str | None) -> dict[str, Path]:
    """A name in the table for every checkpoint. Raises Refusal for one name of several files."""
    if name and len(paths) > 1:
        raise Refusal(f"--name {name} for {len(paths)} checkpoints", expected="one checkpoint", do="leave --name out")
    found: dict[str, Path] = {}
    for path in paths:
        stem = f"{path.stem}.{container}{path.suffix}" if container else path.name
        plain = name or plain_name(Path(stem))
        if plain in found:
            raise Refusal(
                f"{found[plain]} and {path}: both would be called {plain} in the table",
                expected="files of different names",
                do="score them one by one, with --name",
            )
        found[plain] = path
    return found


def draw_curve(results: Path, method: str, names: list[str]) -> Path:
    """The score of every checkpoint, in order, with the untrained network as a line."""
    from corrbench.report.plots import checkpoint_curve, save
    from corrbench.report.table import read_table

    path = results / "checkpoints.png"
    with atomic(path) as temporary:
        save(checkpoint_curve(read_table(results / "table.csv"), method, names), temporary)
    return path


def forget(kept: Path, before: bytes | None) -> None:
    """Put back the config of before this call."""
    if before is None:
        kept.unlink()
    else:
        with atomic(kept) as temporary:
            temporary.write_bytes(before)


def check_answer(config: Config) -> None:
    """Refuse to print a table that does not belong to what was asked."""
    wrong = audit_shown(config)
    if wrong:
        lines = "\n    ".join(f"{path}: {why}" for path, why in wrong.items())
        raise Refusal(
            f"the results do not belong to what was asked:\n    {lines}",
            expected="a table of these weights, data and settings",
            do="run the same command again, while nothing else writes into the results folder or the data",
        )


if __name__ == "__main__":
    run_program(main)
