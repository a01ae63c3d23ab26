"""The paper tables and the leaderboard page."""

import argparse
from pathlib import Path

from corrbench.config import Config
from corrbench.errors import run_program
from corrbench.files import atomic
from corrbench.report.leaderboard import write_page
from corrbench.report.paper import paper_markdown, paper_tables
from corrbench.report.table import read_table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", required=True, help="config file, or the config as JSON")
    parser.add_argument("--table", type=Path, required=True, help="table.csv")
    parser.add_argument("--paper", type=Path, required=True, help="folder for the paper tables")
    parser.add_argument("--page", type=Path, required=True, help="HTML page to write")
    args = parser.parse_args()

    config = Config.from_argument(args.config)
    table = read_table(args.table)
    papers = paper_tables(config, table)
    with atomic(args.paper) as folder:
        folder.mkdir()
        for name, frame in papers.items():
            frame.to_csv(folder / f"{name}.csv", index=False, float_format="%.2f")
            (folder / f"{name}.md").write_text(paper_markdown(name, frame))
    with atomic(args.page) as temporary:
        write_page(temporary, config, table, list(papers))


if __name__ == "__main__":
    run_program(main)
