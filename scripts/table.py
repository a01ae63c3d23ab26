"""All scores of a config as results/table.csv and table.md; refuses results that the config did not make."""

import argparse
from pathlib import Path

from corrbench.config import Config
from corrbench.errors import run_program
from corrbench.files import atomic, write_json
from corrbench.report.provenance import build_provenance
from corrbench.report.results import load_results
from corrbench.report.table import build_table, to_csv, to_markdown


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", required=True, help="config file, or the config as JSON")
    parser.add_argument("--csv", type=Path, required=True)
    parser.add_argument("--markdown", type=Path, required=True)
    parser.add_argument("--provenance", type=Path, required=True, help="JSON: where every row came from")
    args = parser.parse_args()

    config = Config.from_argument(args.config)
    results = load_results(config)
    table = build_table(config, results)
    write_json(args.provenance, build_provenance(config, results))
    for path, text in ((args.csv, to_csv(table)), (args.markdown, to_markdown(table))):
        with atomic(path) as temporary:
            temporary.write_text(text)
    print(to_markdown(table))


if __name__ == "__main__":
    run_program(main)
