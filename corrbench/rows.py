"""Rows of YAML: reading, inheritance, validation with messages that name the nearest valid word."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import yaml

from corrbench.errors import Refusal, nearest
from corrbench.reading import is_litter
from corrbench.resources import HOME
from corrbench.yamls import read_yaml

SCHEMAS = HOME / "workflow" / "schemas"


@cache
def _schema(name: str) -> dict[str, Any]:
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # libyaml is 10 times as fast, where it is installed
    return yaml.load((SCHEMAS / f"{name}.schema.yaml").read_text(), loader)


def validate(value: Any, schema: str, where: str) -> Any:
    """Check `value` against ``workflow/schemas/<schema>.schema.yaml`` and fill in defaults; returns it.

    Raises Refusal that names the place, what stood there and the nearest valid word.
    """
    validator = jsonschema.Draft202012Validator(_schema(schema))
    error = jsonschema.exceptions.best_match(validator.iter_errors(value), key=_weight)
    if error is not None:
        raise _explain(_of_alternatives(error), where)
    _fill(value, _schema(schema))
    return value


def _weight(error: Any) -> Any:
    """What makes an error the one to tell: one that is no choice of alternatives, then one that stands high."""
    return error.validator not in ("anyOf", "oneOf"), -len(error.path)


def _of_alternatives(error: Any) -> Any:
    """Of a value that fits none of several schemas, the error in the one that it was meant for, if that is clear; else the error itself."""
    while error.validator in ("anyOf", "oneOf") and error.context:
        groups: dict[int, list[Any]] = {}
        for inner in error.context:
            groups.setdefault(inner.schema_path[0], []).append(inner)

        def misfit(found: list[Any]) -> tuple[bool, bool, int]:
            # another type, or another word for what tells the alternatives apart, means another alternative
            other_type = any(not e.path and e.validator in ("type", "const", "enum") for e in found)
            return (
                other_type,
                any(e.validator in ("const", "enum") and list(e.path) == ["arch"] for e in found),
                len(found),
            )

        ranked = sorted(groups.values(), key=misfit)
        if misfit(ranked[0])[0] or (len(ranked) > 1 and misfit(ranked[0]) == misfit(ranked[1])):
            return error
        error = jsonschema.exceptions.best_match(ranked[0], key=_weight)
    return error


def _words(schema: Mapping[str, Any]) -> str:
    """What a schema allows, in words."""
    if "const" in schema:
        return repr(schema["const"])
    if "enum" in schema:
        return " or ".join(map(str, schema["enum"]))
    if schema.get("type") == "array":
        inner = schema.get("items", {})
        return f"a list, each {inner.get('title') or inner.get('type', 'value')}"
    if "required" in schema and schema.get("type", "object") == "object":
        return f"{' and '.join(schema['required'])}"
    return {"null": "null", "object": "a mapping"}.get(str(schema.get("type")), str(schema.get("type")))


def _explain(error: Any, where: str) -> Refusal:
    if error.validator in ("anyOf", "oneOf"):
        place = f"{where}: " + ".".join(map(str, error.absolute_path)) if error.absolute_path else where
        return Refusal(
            f"{place}: {_short(error.instance)}",
            expected="one of: " + "; ".join(map(_words, error.validator_value)),
            do="correct the value",
        )
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
            f"{place}: {_short(error.instance)}",
            expected=f"one of {', '.join(words)} ({nearest(str(error.instance), words)})",
            do="correct the value",
        )
    if error.validator == "type":
        wanted = error.validator_value if isinstance(error.validator_value, str) else " or ".join(error.validator_value)
        return Refusal(
            f"{place}: {_short(error.instance)} is a {type(error.instance).__name__}",
            expected=f"a value of type {wanted}",
            do="put it in quotes: YAML takes yes, no, on, off and bare numbers for something else than text"
            if "string" in wanted and isinstance(error.instance, bool | int | float)
            else "correct the value",
        )
    if error.validator == "pattern":
        return Refusal(
            f"{place}: {_short(error.instance)}",
            expected=error.schema.get("title") or f"text of the form {error.validator_value}",
            do="correct the name",
        )
    if error.validator == "uniqueItems":
        twice = next(v for i, v in enumerate(error.instance) if v in error.instance[:i])
        return Refusal(f"{place}: {_short(twice)} stands twice", expected="every one once", do="remove one")
    if error.validator == "required" and isinstance(error.instance, dict):
        missing = [k for k in error.validator_value if k not in error.instance]
        return Refusal(f"{place}: missing {', '.join(missing)}", expected="every required key", do="add it")
    return Refusal(
        f"{place}: {_short(error.message, str)}",
        expected=f"what its schema says ({error.validator})",
        do="correct the value",
    )


def _short(value: Any, say: Callable[[Any], str] = repr) -> str:
    text = say(value)
    return text if len(text) < 300 else f"{text[:200]} ... ({len(text)} characters)"


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
            for odd in (p for p in (folder / kind).glob("*.yml") if not is_litter(p.name)):
                raise Refusal(
                    f"{odd}: not read", expected="files that end in .yaml", do=f"rename it to {odd.stem}.yaml"
                )
            for path in sorted(p for p in (folder / kind).glob("*.yaml") if not is_litter(p.name)):
                row = read_yaml(path)
                if not isinstance(row, dict) or row.get("name") != path.stem:
                    raise Refusal(
                        f"{path}: "
                        + (
                            f"the row is named {_short(row.get('name'))}"
                            if isinstance(row, dict)
                            else f"a {type(row).__name__}, not a row"
                        ),
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
        if not isinstance(base, str):
            raise Refusal(
                f"{self._path[name]}: base: {_short(base)}", expected="the name of one row", do="correct `base:`"
            )
        if base not in self._raw:
            raise Refusal(
                f"{self._path[name]}: no base row {base!r} in {self.kind}",
                expected=nearest(base, self._raw),
                do="correct `base:`",
            )
        start = self._inherit(base, (*chain, name))
        if self.kind == "recipes" and "data" in row:  # its own data at every tier, not what the base has at some
            tiers = start.get("tiers", {})
            if not (isinstance(tiers, Mapping) and all(isinstance(part, Mapping) for part in tiers.values())):
                raise Refusal(
                    f"{self._path[base]}: tiers: {_short(tiers)}", expected="a mapping of mappings", do="correct it"
                )
            without = {t: {k: v for k, v in part.items() if k != "data"} for t, part in tiers.items()}
            start = {**start, "tiers": without}
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
        self.folders = [HOME / "config", *folders]
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
        self.masks = Rows(self.folders, "masks", "masks")
