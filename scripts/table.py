"""All scores of a config as results/table.csv and table.md; refuses results that the config did not make."""

import argparse
import hashlib

from corrbench.config import Config
from corrbench.errors import run_program
from corrbench.files import atomic, digest, write_record
from corrbench.outputs import claim
from corrbench.provenance import code_version
from corrbench.reading import user_path
from corrbench.report.provenance import build_provenance
from corrbench.report.results import load_results
from corrbench.report.shown import targets_version
from corrbench.report.table import build_table, to_csv, to_markdown
from corrbench.waiting import note
from corrbench.workflow import Notes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", required=True, help="config file, or the config as JSON")
    parser.add_argument("--csv", type=user_path, required=True)
    parser.add_argument("--markdown", type=user_path, required=True)
    parser.add_argument("--provenance", type=user_path, required=True, help="JSON: where every row came from")
    args = parser.parse_args()

    config = Config.from_argument(args.config)
    results = load_results(config)
    table = build_table(config, results)
    texts = {"csv": to_csv(table), "markdown": to_markdown(table, config.waiting)}
    made = {
        "code": code_version("scripts/table.py"),
        "waiting": digest(note(config.waiting)),
        "targets": targets_version(config, Notes(config.results / ".versions")),
        **{name: hashlib.sha256(text.encode()).hexdigest() for name, text in texts.items()},
    }
    with claim(args.csv, args.markdown, args.provenance):
        for name, path in (("csv", args.csv), ("markdown", args.markdown)):
            with atomic(path) as temporary:
                temporary.write_bytes(texts[name].encode())
        write_record(
            args.provenance, {**build_provenance(config, results), "made": made}
        )  # last: it vouches for the others
    print(texts["markdown"])


if __name__ == "__main__":
    run_program(main)
