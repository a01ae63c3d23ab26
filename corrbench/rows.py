"""Rows of YAML: reading, inheritance, validation with messages that name the nearest valid word."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import yaml

from corrbench.errors import Refusal, nearest
from corrbench.provenance import ROOT

SCHEMAS = ROOT / "workflow" / "schemas"


def read_yaml(path: Path) -> Any:
    """Parse a YAML file. Raises Refusal with the line that does not parse."""
    try:
        return yaml.safe_load(path.read_text())
    except OSError as error:
        raise Refusal(f"{path}: {error.strerror}", expected="a readable YAML file", do="correct the path") from error
    except yaml.YAMLError as error:
        raise Refusal(f"{path}: not valid YAML: {error}", expected="a YAML file", do="correct that line") from error


@cache
def _schema(name: str) -> dict[str, Any]:
    return yaml.safe_load((SCHEMAS / f"{name}.schema.yaml").read_text())


def validate(value: Any, schema: str, where: str) -> Any:
    """Check `value` against ``workflow/schemas/<schema>.schema.yaml`` and fill in defaults; returns it.

    Raises Refusal that names the place, what stood there and the nearest valid word.
    """
    validator = jsonschema.Draft202012Validator(_schema(schema))
    error = jsonschema.exceptions.best_match(validator.iter_errors(value))
    if error is not None:
        raise _explain(error, where)
    _fill(value, _schema(schema))
    return value


def _explain(error: Any, where: str) -> Refusal:
    place = f"{where}: " + ".".join(str(p) for p in error.absolute_path) if error.absolute_path else where
    properties = error.schema.get("properties", {}) if isinstance(error.schema, dict) else {}
    if error.validator == "additionalProperties" and isinstance(error.instance, dict):
        unknown = str(next(k for k in error.instance if k not in properties))
        groups = [k for k, inner in properties.items() if unknown in inner.get("properties", {})]
        return Refusal(
            f"{place}: unknown key {unknown!r}",
            expected=f"did you mean {' or '.join(f'{g}.{unknown}' for g in groups)}?"
            if groups
            else nearest(unknown, properties),
            do="correct or remove the key",
        )
    if error.validator in ("enum", "const"):
        known = error.validator_value if error.validator == "enum" else [error.validator_value]
        words = [str(v) for v in known]
        return Refusal(
            f"{place}: {error.instance!r}",
            expected=f"one of {', '.join(words)} ({nearest(str(error.instance), words)})",
            do="correct the value",
        )
    if error.validator == "type":
        wanted = error.validator_value if isinstance(error.validator_value, str) else " or ".join(error.validator_value)
        return Refusal(
            f"{place}: {error.instance!r} is a {type(error.instance).__name__}",
            expected=f"a value of type {wanted}",
            do="correct the value",
        )
    if error.validator == "required" and isinstance(error.instance, dict):
        missing = [k for k in error.validator_value if k not in error.instance]
        return Refusal(f"{place}: missing {', '.join(missing)}", expected="every required key", do="add it")
    return Refusal(
        f"{place}: {error.message}",
        expected=f"what its schema says ({error.validator})",
        do="correct the value",
    )


def _fill(value: Any, schema: Mapping[str, Any]) -> None:
    """Write the schema's defaults into `value`, so that a default and the same value spelt out are one thing."""
    if isinstance(value, dict):
        for key, inner in schema.get("properties", {}).items():
            if key not in value and "default" in inner:
                value[key] = yaml.safe_load(yaml.safe_dump(inner["default"]))  # a fresh copy
            if key in value:
                _fill(value[key], inner)
        extra = schema.get("additionalProperties")
        if isinstance(extra, dict):
            for key in value.keys() - schema.get("properties", {}).keys():
                _fill(value[key], extra)
    elif isinstance(value, list) and "items" in schema:
        for item in value:
            _fill(item, schema["items"])


class Rows:
    """The rows of one kind (``methods``, ``protocols``, ``benchmarks``) from one or more config folders."""

    def __init__(self, folders: Iterable[Path], kind: str, schema: str) -> None:
        self.kind, self.schema = kind, schema
        self._raw: dict[str, dict[str, Any]] = {}
        self._path: dict[str, Path] = {}
        self._resolved: dict[str, dict[str, Any]] = {}
        for folder in folders:
            for odd in (folder / kind).glob("*.yml"):
                raise Refusal(
                    f"{odd}: not read", expected="files that end in .yaml", do=f"rename it to {odd.stem}.yaml"
                )
            for path in sorted((folder / kind).glob("*.yaml")):
                row = read_yaml(path)
                if not isinstance(row, dict) or row.get("name") != path.stem:
                    raise Refusal(
                        f"{path}: the row is named {row.get('name') if isinstance(row, dict) else None!r}",
                        expected=f"name: {path.stem}, as the file",
                        do="correct the name",
                    )
                if path.stem in self._raw:
                    raise Refusal(
                        f"{path}: a row of that name is in {self._path[path.stem]}",
                        expected="one row per name",
                        do="rename it; use `base:` to start from the other",
                    )
                self._raw[path.stem], self._path[path.stem] = row, path

    def __iter__(self) -> Iterator[str]:
        return iter(self._raw)

    def get(self, name: str, where: str) -> dict[str, Any]:
        """The row with inheritance applied and checked. `where` says who asked, for the message."""
        if name not in self._raw:
            raise Refusal(
                f"{where}: no row {name!r} in {self.kind}",
                expected=nearest(name, self._raw),
                do="correct the name, or add the row; a folder of yours is named by `rows:` in a config, by --rows for a program",
            )
        if name not in self._resolved:
            self._resolved[name] = validate(self._inherit(name, ()), self.schema, str(self._path[name]))
        return self._resolved[name]

    def _inherit(self, name: str, chain: tuple[str, ...]) -> dict[str, Any]:
        if name in chain:
            raise Refusal(
                f"{self._path[name]}: base rows go round in a circle: {' -> '.join((*chain, name))}",
                expected="a base that does not lead back",
                do="correct `base:`",
            )
        row = dict(self._raw[name])
        base = row.pop("base", None)
        if base is None:
            return row
        if base not in self._raw:
            raise Refusal(
                f"{self._path[name]}: no base row {base!r} in {self.kind}",
                expected=nearest(base, self._raw),
                do="correct `base:`",
            )
        start = self._inherit(base, (*chain, name))
        if self.kind == "recipes" and "data" in row:  # its own data at every tier, not what the base has at some
            tiers = start.get("tiers", {}).items()
            start = {**start, "tiers": {t: {k: v for k, v in part.items() if k != "data"} for t, part in tiers}}
        return merge(start, row)


def merge(base: Mapping[str, Any], change: Mapping[str, Any]) -> dict[str, Any]:
    """`base` with the keys of `change` put over it, nested mappings likewise; lists are replaced."""
    out = dict(base)
    for key, value in change.items():
        both = isinstance(value, Mapping) and isinstance(out.get(key), Mapping)
        out[key] = merge(out[key], value) if both else value
    return out


class AllRows:
    """The rows of every kind: those of the project and those of further folders."""

    def __init__(self, folders: Iterable[Path], where: str = "config") -> None:
        self.folders = [ROOT / "config", *folders]
        for folder in self.folders:
            if not folder.is_dir():
                raise Refusal(
                    f"{where}: rows: no folder {folder}",
                    expected="a folder with methods/, protocols/, ...",
                    do="correct the path",
                )
        self.methods = Rows(self.folders, "methods", "method")
        self.protocols = Rows(self.folders, "protocols", "protocol")
        self.benchmarks = Rows(self.folders, "benchmarks", "benchmark")
        self.datasets = Rows(self.folders, "datasets", "dataset")
        self.recipes = Rows(self.folders, "recipes", "recipe")
        self.probes = Rows(self.folders, "probes", "probe")
        self.segmentation = Rows(self.folders, "segmentation", "segmentation")
