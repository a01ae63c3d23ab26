"""How two settings differ, in words: ``selection.temperature: 0.07 -> 0.05``."""

from __future__ import annotations

import json
from typing import Any


def differences(then: Any, now: Any) -> list[str]:
    """One phrase for every value that differs between two nested settings, with its place; empty if they are equal."""
    old, new = _flat(then), _flat(now)
    return [f"{key or 'value'}: {_value(old, key)} -> {_value(new, key)}" for key in sorted(old.keys() | new.keys())
            if old.get(key) != new.get(key)]  # fmt: skip


def plain(value: Any) -> Any:
    """A value as it comes back from JSON: tuples are lists, keys are text."""
    return json.loads(json.dumps(value))


def _flat(value: object, place: str = "") -> dict[str, object]:
    if isinstance(value, dict) and value:
        return {k: v for key, inner in value.items() for k, v in _flat(inner, f"{place}.{key}".strip(".")).items()}
    return {place: value}


def _value(settings: dict[str, object], key: str) -> str:
    return json.dumps(settings[key], ensure_ascii=False) if key in settings else "(none)"
