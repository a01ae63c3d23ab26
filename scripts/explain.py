"""How was this number made, and how do I make it again?  python -m scripts.explain crw-r18.released.crw

Reads provenance.json beside the table.
"""

import argparse
from pathlib import Path

from corrbench.errors import Refusal, run_program
from corrbench.reading import user_path
from corrbench.report.provenance import explain, find_row
from corrbench.report.records import read_intact


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("entry", help="first column of the table")
    parser.add_argument("--benchmark", help="where the entry was measured on several")
    parser.add_argument("--results", type=user_path, default=Path("results"), help="folder of the table")
    args = parser.parse_args()

    path = args.results / "provenance.json"
    if not path.exists():
        raise Refusal(
            f"{path}: no such file",
            expected="a finished table",
            do="make the table first, or say --results FOLDER, the `results:` of its config",
        )
    try:
        print("\n".join(explain(find_row(read_intact(path, "where every row came from"), args.entry, args.benchmark))))
    except (KeyError, TypeError, AttributeError) as error:
        raise Refusal(
            f"{path}: not a record of a table ({type(error).__name__}: {error})",
            expected="provenance.json as the table wrote it",
            do="make the table again",
        ) from error


if __name__ == "__main__":
    run_program(main)
