"""Score one method on your DAVIS: writes a config, runs the workflow on it, prints the table.

    python -m scripts.score --method crw-r18 --checkpoint pretrained.pth --benchmark davis2017-val --data /data/DAVIS-2017

Beside the method, the table has its untrained network under the same protocol and the identity baseline. The config and
all results stay below --results, so the same command run again only does what is missing.
"""

import argparse
import subprocess
import sys
from pathlib import Path

import yaml

from corrbench.entries import ROOT, Config
from corrbench.errors import run_program
from corrbench.files import atomic


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
    key = Config(dict(values), "command line").benchmarks.get(args.benchmark, "--benchmark")["data"]
    values["data"] = {key: str(args.data.resolve())}
    with atomic(args.results / "config.yaml") as temporary:
        temporary.write_text("# written by scripts/score.py\n" + yaml.safe_dump(values, sort_keys=False))
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "Snakefile"), "--profile", str(ROOT / "profiles/local"),
               "--configfile", str(args.results / "config.yaml"), "--quiet", "rules"]  # fmt: skip
    status = subprocess.run([*command, *(["--dry-run"] if args.dry_run else [])], check=False).returncode
    if status:
        sys.exit(status)
    if not args.dry_run:
        print((args.results / "table.md").read_text())
        print(f"page: {args.results}/report.html   table: {args.results}/table.csv")


if __name__ == "__main__":
    run_program(main)
