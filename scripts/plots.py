"""Plots of one benchmark: leaderboard, per-sequence heat map, quality against cost."""

import argparse
from pathlib import Path

from corrbench.config import Config
from corrbench.errors import run_program
from corrbench.files import atomic, read_json
from corrbench.report.plots import heat_map, leaderboard, quality_against_cost, save, sequence_frame
from corrbench.report.table import entry_folder, read_table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", required=True, help="config file, or the config as JSON")
    parser.add_argument("--table", type=Path, required=True, help="table.csv")
    parser.add_argument("--benchmark", required=True)
    parser.add_argument("--out", type=Path, required=True, help="folder for the pictures")
    args = parser.parse_args()

    config = Config.from_argument(args.config)
    row = config.benchmarks.get(args.benchmark, "--benchmark")
    label = config.benchmark_label(row)
    table = read_table(args.table)
    table = table[table["benchmark"] == label]
    entries = [e for e in config.entries if e.benchmark["name"] == args.benchmark]
    by_sequence = {e.id: read_json(entry_folder(config, e) / "scores" / "scores.json")["sequences"] for e in entries}
    pictures = {
        "leaderboard": lambda: leaderboard(table, label),
        "sequences": lambda: heat_map(sequence_frame(by_sequence), label),
        "cost": lambda: quality_against_cost(table, label),
    }
    for name, draw in pictures.items():
        for suffix in (".png", ".svg"):
            with atomic(args.out / f"{name}{suffix}") as temporary:
                save(draw(), temporary)


if __name__ == "__main__":
    run_program(main)
