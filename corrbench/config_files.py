"""Config files as the command line names them: read strictly, several joined into one."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from corrbench.errors import Refusal, explain
from corrbench.yamls import read_yaml

SUFFIXES = (".yaml", ".yml", ".json")


def read_config(path: Path) -> dict[str, Any]:
    """The keys of a config file."""
    values = read_yaml(path)
    if not isinstance(values, dict):
        found = "an empty file" if values is None else f"a {type(values).__name__}, not a mapping"
        raise Refusal(f"{path}: {found}", expected="keys such as runs and data", do="see config/config.yaml")
    return values


def join_configs(parts: Sequence[tuple[str, Mapping[str, Any]]]) -> dict[str, Any]:
    """One config of several, each with its name: all their runs, masks and rows, and what else they say, in which they must agree."""
    joined: dict[str, Any] = {}
    said: dict[str, str] = {}

    def put(into: dict[str, Any], key: str, value: Any, place: str, where: str) -> None:
        if isinstance(value, Mapping) and isinstance(into.get(key, {}), dict):
            inner = into.setdefault(key, {})
            for name in value:
                put(inner, name, value[name], f"{place}.{name}", where)
        elif place in ("runs", "rows", "masks") and isinstance(value, list) and isinstance(into.get(key, []), list):
            into[key] = [*into.get(key, []), *(v for v in value if place == "runs" or v not in into.get(key, []))]
        elif key in into and into[key] != value:
            raise Refusal(
                f"{where}: {place}: {value!r}, and {into[key]!r} in {said.get(place, 'another file')}",
                expected="config files that agree in all but `runs`, `masks` and `rows`, which are joined",
                do="say it in one of them, or run them one after the other",
            )
        else:
            into[key] = value
        said.setdefault(place, where)

    for where, values in parts:
        for key, value in values.items():
            put(joined, key, value, key, where)
    return joined


def named_files(arguments: Sequence[str]) -> list[str]:
    """What a command line of snakemake names as config files: everything between ``--configfile`` and the next option."""
    found: list[str] = []
    open_list = False
    for argument in arguments:
        name, equals, value = argument.partition("=")
        if name in ("--configfile", "--configfiles"):
            open_list = not equals
            found += [value] if equals else []
        elif argument.startswith("-"):
            open_list = False
        elif open_list:
            found.append(argument)
    return found


def check_files(arguments: Sequence[str]) -> None:
    """Raise Refusal for config files of a command line that are none, before Snakemake reads them in its own way."""
    for name in named_files(arguments):
        if not name.endswith(SUFFIXES):
            raise Refusal(
                f"{name}: named by --configfile, which takes all words up to the next option",
                expected="config files there, whose names end in " + ", ".join(SUFFIXES),
                do=f"put -- before targets:  --configfile FILE -- {name}",
            )
        read_config(Path(name))


def check_command_line(arguments: Sequence[str]) -> None:
    """`check_files` for the process of snakemake itself: prints a refusal and ends it."""
    try:
        check_files(arguments)
    except Exception as error:
        print(f"refused: {explain(error) or error}", file=sys.stderr)
        sys.exit(1)
