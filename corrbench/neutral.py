"""Settings of rules as plain data, without what is at its neutral default: a new field then moves no hash."""

from __future__ import annotations

from dataclasses import MISSING, asdict, fields
from typing import Any


def stated(rules: Any) -> dict[str, Any]:
    """The fields of a dataclass as plain data, those left out that have a default and are at it.

    A field that rows must state has no default. One that is added later has a default that changes nothing.
    """
    values = asdict(rules)
    for field in fields(rules):
        default = field.default_factory() if field.default_factory is not MISSING else field.default
        if default is not MISSING and getattr(rules, field.name) == default:
            del values[field.name]
    return values
