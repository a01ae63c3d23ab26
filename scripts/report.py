"""The paper tables and the leaderboard page."""

import argparse

from corrbench.config import Config
from corrbench.errors import run_program
from corrbench.files import atomic
from corrbench.outputs import claim, made_folder
from corrbench.reading import user_path
from corrbench.report.leaderboard import write_page
from corrbench.report.paper import paper_markdown, paper_tables
from corrbench.report.table import check_rows, read_checked_table, to_csv


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", required=True, help="config file, or the config as JSON")
    parser.add_argument("--table", type=user_path, required=True, help="table.csv")
    parser.add_argument("--paper", type=user_path, required=True, help="folder for the paper tables")
    parser.add_argument("--page", type=user_path, required=True, help="HTML page to write")
    args = parser.parse_args()

    config = Config.from_argument(args.config)
    table, sha256 = read_checked_table(args.table)
    check_rows(config, table, args.table)
    papers = paper_tables(config, table)
    with made_folder(args.paper, "paper tables") as folder:
        for name, frame in papers.items():
            (folder / f"{name}.csv").write_text(to_csv(frame), encoding="utf-8")
            (folder / f"{name}.md").write_text(paper_markdown(name, frame), encoding="utf-8")
    with claim(args.page), atomic(args.page) as temporary:
        measured = {row["name"] for row in config.all_benchmarks()} | {
            w.entry.benchmark["name"] for w in config.waiting
        }
        write_page(temporary, config, table, [name for name in papers if name in measured], sha256)


if __name__ == "__main__":
    run_program(main)
