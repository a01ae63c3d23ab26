"""Score one method on your DAVIS: writes a config, runs the workflow on it, prints the table.

    python -m scripts.score --method crw-r18 --checkpoint pretrained.pth --benchmark davis2017-val --data /data/DAVIS-2017

Beside the method, the table has its untrained network under the same protocol and the identity baseline. The config and
all results stay below --results, so the same command run again only does what is missing.
"""

import argparse
import copy
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import yaml

from corrbench.config import Config
from corrbench.errors import Refusal, few, run_program
from corrbench.files import atomic
from corrbench.provenance import ROOT
from corrbench.weights.convert import convert


def check_before_running(args: argparse.Namespace, values: dict[str, Any]) -> None:
    """Refuse in seconds what would otherwise fail in a job: names, the data root, the checkpoint. Completes `values`."""
    config = Config(copy.deepcopy(values), "command line")
    row = config.rows.benchmarks.get(args.benchmark, "--benchmark")
    values["data"] = config.values["data"] = {row["data"]: str(args.data.resolve())}
    if not args.data.is_dir():
        raise Refusal(f"{args.data}: no such folder", expected=f"the root of {row['title']}", do="correct --data")
    images = args.data / "JPEGImages" / row["resolution"]
    missing = [n for n in config.sequences(row) if not (images / n).is_dir()]
    if missing:
        raise Refusal(
            f"{images}: {len(missing)} of {len(row['sequences'])} sequences are missing: {few(missing)}",
            expected=f"every sequence of {row['title']}",
            do="complete the data set, choose another --benchmark, or add --subset to score what is there",
        )
    if args.checkpoint:
        method = config.rows.methods.get(args.method, "--method")
        found = convert(
            args.checkpoint, encoder=method["encoder"], method=args.method, trust_pickle=args.trust_pickle
        ).meta["family"]
        own = method.get("released", {}).get("family", found)
        if found != own:
            print(
                f"note: {args.checkpoint} is a {found} checkpoint; it is scored with the network surgery of {args.method}",
                file=sys.stderr,
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--method", required=True, help="row of config/methods/: the network and its surgery")
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--checkpoint", type=Path, help="your file, of any known checkpoint family")
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
        "--data", type=Path, required=True, help="root of the data set (has JPEGImages/); never written to"
    )
    parser.add_argument(
        "--subset", action="store_true", help="score the sequences that are there; the table will say so"
    )
    parser.add_argument("--name", default="mine", help="name of the checkpoint in the table")
    parser.add_argument("--device", default="auto", choices=["auto", "cpu", "cuda"])
    parser.add_argument("--rows", type=Path, nargs="*", default=[], help="folders with rows of your own")
    parser.add_argument(
        "--results", type=Path, default=Path("results/score"), help="folder for everything that is written"
    )
    parser.add_argument("--dry-run", action="store_true", help="show what would run")
    args = parser.parse_args()

    weights = ["random"]
    if args.checkpoint:
        weights.append(args.name)
    elif args.released:
        weights.append("released")
    run = {"benchmarks": [args.benchmark]}
    values = {
        "results": str(args.results),
        "device": args.device,
        "rows": [str(p) for p in args.rows],
        "files": {args.name: {"path": str(args.checkpoint.resolve()), "trust_pickle": args.trust_pickle}} if args.checkpoint else {},
        "subsets": {args.benchmark: "present"} if args.subset else {},
        "runs": [
            {"methods": ["identity"], "weights": ["none"], **run},
            {"methods": [args.method], "weights": weights, "protocols": [args.protocol], **run},
        ],
    }  # fmt: skip
    check_before_running(args, values)
    with atomic(args.results / "config.yaml") as temporary:
        temporary.write_text("# written by scripts/score.py\n" + yaml.safe_dump(values, sort_keys=False))
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "Snakefile"), "--profile", str(ROOT / "profiles/local"),
               "--configfile", str(args.results / "config.yaml"), "--quiet", "rules"]  # fmt: skip
    start = time.time()
    status = subprocess.run([*command, *(["--dry-run"] if args.dry_run else [])], check=False).returncode
    if status:
        # the reason stands in the log of the job; bring it to where the user looks
        for log in (args.results / "logs").rglob("*.log"):
            if log.stat().st_mtime >= start and "refused:" in log.read_text():
                print(f"\n{log}:\n{log.read_text()}", file=sys.stderr)
        sys.exit(status)
    if not args.dry_run:
        print((args.results / "table.md").read_text())
        print(f"page: {args.results}/report.html   table: {args.results}/table.csv")


if __name__ == "__main__":
    run_program(main)
