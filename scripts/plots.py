"""Plots of one benchmark: leaderboard, per-sequence heat map, quality against cost; for boxes success and precision too."""

import argparse
import shutil
from pathlib import Path

from corrbench.benchmarks.registry import benchmark_of
from corrbench.config import Config
from corrbench.entries import Entry
from corrbench.errors import Refusal, run_program
from corrbench.files import atomic, write_record
from corrbench.outputs import claim, made_folder
from corrbench.reading import user_path
from corrbench.report.boxes import curve_figure
from corrbench.report.plots import heat_map, leaderboard, quality_against_cost, save, sequence_frame
from corrbench.report.records import read_intact
from corrbench.report.results import entry_folder
from corrbench.report.table import check_rows, read_checked_table
from corrbench.report.targets import main_metric
from corrbench.tracking.folder import read_tracked


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", required=True, help="config file, or the config as JSON")
    parser.add_argument("--table", type=user_path, required=True, help="table.csv")
    parser.add_argument("--benchmark", required=True)
    parser.add_argument("--out", type=user_path, required=True, help="folder for the pictures")
    args = parser.parse_args()

    config = Config.from_argument(args.config)
    row = config.rows.benchmarks.get(args.benchmark, "--benchmark")
    label = config.benchmark_label(row)
    table, sha256 = read_checked_table(args.table)
    check_rows(config, table, args.table)
    table = table[table["benchmark"] == label]
    entries = [e for e in config.entries if e.benchmark["name"] == args.benchmark]
    if not entries or not benchmark_of(row).scored_here:
        raise Refusal(
            f"{args.benchmark}: {'nothing of it is scored here' if entries else 'no entry of the config is measured on it'}",
            expected="a benchmark whose rows have numbers",
            do="name another --benchmark",
        )
    scores = {e.id: read_intact(entry_folder(config, e) / "scores" / "scores.json", "scores") for e in entries}
    by_sequence = sequence_frame({name: found["sequences"] for name, found in scores.items()})
    pictures = {
        "leaderboard": lambda: leaderboard(table, label),
        "sequences": lambda: heat_map(by_sequence, label, main_metric(table)),
        "cost": lambda: quality_against_cost(table, label),
    }
    if benchmark_of(row).metric.curves:
        pictures["curves"] = lambda: curve_figure(scores, label)
        toolkit(config, entries, args.out / "toolkit")
    with claim(args.out):
        for name, draw in pictures.items():
            for suffix in (".png", ".svg"):
                with atomic(args.out / f"{name}{suffix}") as temporary:
                    save(draw(), temporary)
        write_record(args.out / "record.json", {"table": sha256, "pictures": list(pictures)})


def toolkit(config: Config, entries: list[Entry], folder: Path) -> None:
    """Copies of all boxes as got10k expects them, so that `ExperimentOTB(result_dir=folder).report([...])` reads them.

    Raises Refusal for boxes and times that are not those that were tracked.
    """
    with made_folder(folder, "toolkit") as temporary:
        for entry in entries:
            place, out = entry_folder(config, entry), temporary / "OTB2015" / entry.id
            summary = place / entry.summary
            tracking = read_intact(summary, "a summary of tracking")
            (out / "times").mkdir(parents=True)
            for name in tracking["sequences"]:
                read_tracked(place / "boxes", name, tracking, summary)
                shutil.copy2(place / "boxes" / f"{name}.txt", out)
                if (times := place / "boxes/times" / f"{name}_time.txt").is_file():
                    shutil.copy2(times, out / "times")


if __name__ == "__main__":
    run_program(main)
