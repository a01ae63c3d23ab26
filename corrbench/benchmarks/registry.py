"""From a benchmark row to its object. The class of a layout is imported when it is asked for, so an edit in the file of one layout
is no part of the code of the others."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

from corrbench.benchmarks.base import Benchmark
from corrbench.provenance import code_version

LAYOUTS = {"davis": "DavisBenchmark", "youtube-vos": "YoutubeVosBenchmark", "otb": "OtbBenchmark"}
"""Class of every layout, by what `dataset:` of a row says; its file has the layout's name."""


def benchmark_of(row: Mapping[str, Any]) -> Benchmark:
    """The object of a checked benchmark row."""
    layout = row["dataset"]
    module = importlib.import_module(f"corrbench.benchmarks.{layout.replace('-', '_')}")
    found: Benchmark = getattr(module, LAYOUTS[layout])(row)
    return found


def code_of(program: str, row: Mapping[str, Any]) -> str:
    """Code version of a program that works on a benchmark through its object: its own, and that of the layout's file."""
    place = f"corrbench/benchmarks/{row['dataset'].replace('-', '_')}.py"
    return f"{code_version(f'scripts/{program}.py')}+{code_version(place)}"
