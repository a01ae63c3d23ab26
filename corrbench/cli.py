"""The command `corrbench`: every program, the workflow, and lists of what there is.

corrbench score --method crw-r18 --checkpoint mine.pth --data /data/DAVIS-2017
corrbench run results/table.csv --configfile mine.yaml
corrbench list benchmarks
"""

from __future__ import annotations

import ast
import importlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from corrbench.errors import explain, nearest
from corrbench.resources import HOME, programs

KINDS = ("methods", "protocols", "segmentation", "probes", "benchmarks", "masks", "recipes", "datasets")
"""What `corrbench list` knows: the folders of rows."""
INSIDE = {"gather", "gpu_slot", "import_masks", "overlays", "overlays_boxes", "plots", "postprocess", "report", "segment", "table", "track"}  # fmt: skip
"""Programs that the workflow calls; they work from the command line, too, and are not in the help."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command. Its exit status is that of the program."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if not words or words[0] in ("-h", "--help"):
        print(overview())
        return
    command, rest = words[0], words[1:]
    name = command.replace("-", "_")
    if command == "run":
        run(rest)
    elif command == "list":
        list_rows(rest)
    elif command == "version":
        print(version())
    elif name in programs():
        start(name, rest)
    else:
        known = [*(n.replace("_", "-") for n in programs()), "run", "list", "version"]
        sys.exit(
            f"refused: no command {command!r}\n  expected: {nearest(command, known)}\n  what to do: corrbench --help"
        )


def overview() -> str:
    """The commands with a line about each."""
    lines = {name.replace("_", "-"): about(path) for name, path in programs().items() if name not in INSIDE}
    lines |= {
        "run": "Run the workflow: corrbench run [TARGET ...] [--configfile FILE ...] and any option of snakemake.",
        "list": f"List rows: corrbench list {'|'.join(KINDS)} [--rows FOLDER ...].",
        "version": "Print the version.",
    }
    width = max(map(len, lines))
    body = "\n".join(f"  {name:<{width}}  {text}" for name, text in sorted(lines.items()))
    return f"usage: corrbench COMMAND ...\n\n{body}\n\ncorrbench COMMAND --help tells more."


def about(path: Path) -> str:
    """The first sentence of a program's description, read without importing it."""
    text = ast.get_docstring(ast.parse(path.read_text())) or ""
    return " ".join(text.split("\n\n")[0].split()).split(". ")[0].rstrip(".") + "."


def start(name: str, arguments: Sequence[str]) -> None:
    """Run a program in this process, as ``python -m scripts.NAME`` does in a checkout."""
    sys.path.insert(0, str(HOME))
    # jobs and processes that it starts find the programs, too
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(HOME), os.environ.get("PYTHONPATH", "")]))
    sys.argv = [f"corrbench {name.replace('_', '-')}", *arguments]
    from corrbench.errors import run_program

    run_program(importlib.import_module(f"scripts.{name}").main)


def run(arguments: Sequence[str]) -> None:
    """Become snakemake with the workflow of this installation.

    On this machine with all cores, unless a profile or a number of cores is given. ``--profile slurm`` is the profile that
    comes along, and a config file that is not there is one of those that come along (``--configfile demo.yaml``).
    """
    words = [_profile(a, before) for before, a in zip(["", *arguments], arguments, strict=False)]
    words = _configs(words)
    chosen = {"--profile", "--cores", "-c", "--executor", "-e"}
    if not any(word.split("=")[0] in chosen for word in words):
        words = ["--profile", str(HOME / "profiles" / "local"), *words]
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(HOME / "Snakefile"), *words]
    os.execv(sys.executable, command)


def _profile(word: str, before: str) -> str:
    """A profile by its name: `slurm` and `local` come along."""
    known = {"slurm": HOME / "slurm", "local": HOME / "profiles" / "local"}
    if before == "--profile" and word in known and not Path(word).exists():
        return str(known[word])
    return word


def _configs(words: Sequence[str]) -> list[str]:
    """Names of config files, those that come along in full."""
    found, reading = [], False
    for word in words:
        if word.startswith("-"):
            reading = word in ("--configfile", "--configfiles")
        elif reading and not Path(word).exists() and (HOME / "config" / Path(word).name).is_file():
            word = str(HOME / "config" / Path(word).name)
        found.append(word)
    return found


def list_rows(arguments: Sequence[str]) -> None:
    """Print the names of rows of one kind, a title beside each."""
    import argparse

    from corrbench.api import rows_of

    parser = argparse.ArgumentParser(prog="corrbench list", description="List the rows of one kind.")
    parser.add_argument("kind", choices=KINDS)
    parser.add_argument("--rows", nargs="*", default=[], help="further folders with rows")
    args = parser.parse_args(list(arguments))
    try:
        found = rows_of(args.kind, args.rows)
    except Exception as error:
        refusal = explain(error)
        if refusal is None:
            raise
        sys.exit(f"refused: {refusal}")
    width = max(map(len, found), default=0)
    for name, text in found.items():
        print(f"{name:<{width}}  {text}".rstrip())


def version() -> str:
    """The version of the installed package, or of the checkout."""
    from importlib import metadata

    try:
        return metadata.version("corrbench")
    except metadata.PackageNotFoundError:
        import tomllib

        text = (HOME / "pyproject.toml").read_text()
        return f"{tomllib.loads(text)['project']['version']} (checkout)"


if __name__ == "__main__":
    main()
