"""YAML files of users: what two readers could take in two ways is refused by name, with the line."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import yaml

from corrbench.errors import Refusal
from corrbench.reading import read_text

DEPTH, NODES = 60, 200_000
"""Levels and values, with everything that ``*names`` stand for, that no honest file has."""
_DEEP = re.compile(r"(?:[-?:]\s+){60}")
_INTEGER = re.compile(r"[-+]?(0|[1-9][0-9_]*|0x[0-9a-fA-F_]+)$")


class _Strict:
    """Refuses values that YAML reads otherwise than they look."""

    path: Path

    def construct_object(self, node: Any, deep: bool = False) -> Any:
        if not isinstance(node, yaml.MappingNode | yaml.SequenceNode) or node.tag.rpartition(":")[2] in (
            "set",
            "omap",
            "pairs",
        ):
            kind, text, why = node.tag.rpartition(":")[2], node.value, None
            if kind == "int" and (not _INTEGER.match(text) or len(text) > 18):
                why = "a whole number that is too large, or that some read to another base"
            elif kind == "float" and not math.isfinite(float(super().construct_object(node))):  # type: ignore[misc]
                why = "not a finite number"
            elif kind in ("timestamp", "binary", "set", "omap", "pairs"):
                why = f"what YAML calls a {kind}"
            if why is not None:
                raise Refusal(
                    f"{self.path}: line {node.start_mark.line + 1}: {text if isinstance(text, str) else ''} is {why}",
                    expected="numbers, text, lists and mappings",
                    do="write the number in full, or put text in quotes",
                )
        return super().construct_object(node, deep=deep)  # type: ignore[misc]


class _Fast(_Strict, getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    pass


class _Careful(_Strict, yaml.SafeLoader):
    """In Python alone: what nests without end is an error there, and would break libyaml."""


def read_yaml(path: Path) -> Any:
    """Parse a YAML file. Raises Refusal, with the line where there is one, for anything that is not clearly one document."""
    text = read_text(path)
    try:
        return _parse(text, path)
    except RecursionError as error:
        raise _too_much(path) from error
    except (
        yaml.YAMLError,
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
    ) as error:  # a tag that its value does not fit
        mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
        said = " ".join((getattr(error, "problem", None) or str(error)).split())
        place = f"line {mark.line + 1}: " if mark else ""
        lines = text.splitlines()
        for number in {mark.line, mark.line - 1} if mark else ():
            if 0 <= number < len(lines) and "\t" in lines[number][: len(lines[number]) - len(lines[number].lstrip())]:
                raise Refusal(
                    f"{path}: line {number + 1} is indented with a tab",
                    expected="spaces, as YAML demands",
                    do="replace the tab by spaces",
                ) from error
        raise Refusal(
            f"{path}: {place}not valid YAML ({said})", expected="one YAML document", do="correct that line"
        ) from error


def _parse(text: str, path: Path) -> Any:
    deepest = depth = 0
    for bracket in re.findall(r"[\[\]{}]", text):
        depth += 1 if bracket in "[{" else -1
        deepest = max(deepest, depth)
    if deepest > 4 * DEPTH:
        raise _too_much(path)
    odd = deepest > DEPTH or len(text) > 1_000_000 or _DEEP.search(text)
    loader = (_Careful if odd else _Fast)(text)
    loader.path = path
    try:
        node = loader.get_single_node()
        if node is None:
            return None
        _check_size(node, path)
        _check_keys(node, path)
        return loader.construct_document(node)
    finally:
        loader.dispose()


def _check_size(root: Any, path: Path) -> None:
    """Refuse what contains itself, and what grows beyond all measure when names are replaced by what they stand for."""
    sizes: dict[int, int] = {}
    open_nodes: set[int] = set()

    def size(node: Any, depth: int) -> int:
        if id(node) in open_nodes or depth > DEPTH:
            raise _too_much(path, node.start_mark.line + 1)
        if id(node) not in sizes:
            open_nodes.add(id(node))
            inner = [n for pair in node.value for n in pair] if isinstance(node, yaml.MappingNode) else node.value
            parts = [size(n, depth + 1) for n in inner] if not isinstance(node, yaml.ScalarNode) else []
            sizes[id(node)] = 1 + sum(parts)
            open_nodes.discard(id(node))
        if sizes[id(node)] > NODES:
            raise _too_much(path, node.start_mark.line + 1)
        return sizes[id(node)]

    size(root, 0)


def _check_keys(root: Any, path: Path) -> None:
    """Refuse keys that are no text or stand twice, before ``<<`` puts the keys of other mappings beside them."""
    todo, known = [root], {id(root)}
    while todo:
        node = todo.pop()
        if isinstance(node, yaml.ScalarNode):
            continue
        inner = [n for pair in node.value for n in pair] if isinstance(node, yaml.MappingNode) else node.value
        todo += [n for n in inner if id(n) not in known]
        known |= {id(n) for n in inner}
        seen: dict[str, int] = {}
        for key, _ in node.value if isinstance(node, yaml.MappingNode) else []:
            line = key.start_mark.line + 1
            if not isinstance(key, yaml.ScalarNode) or key.tag not in (
                "tag:yaml.org,2002:str",
                "tag:yaml.org,2002:merge",
            ):
                said = key.value if isinstance(key, yaml.ScalarNode) else "a list or mapping"
                raise Refusal(
                    f"{path}: line {line}: the key {said!r} is no text",
                    expected="text as a key",
                    do="put it in quotes if it is meant as text",
                )
            if key.value in seen and key.tag.endswith(":str"):
                raise Refusal(
                    f"{path}: the key {key.value!r} stands twice, in line {seen[key.value]} and in line {line}",
                    expected="every key once",
                    do="join the two, or remove one",
                )
            seen[key.value] = line


def _too_much(path: Path, line: int | None = None) -> Refusal:
    return Refusal(
        f"{path}: {f'line {line}: ' if line else ''}nests without end, or stands for more than {NODES} values",
        expected="a file that a person wrote",
        do="write out what &names and *names stand for",
    )
