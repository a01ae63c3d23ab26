"""Entries: what is measured, with stable ids and content hashes.

An entry is weights x protocol x benchmark; on a benchmark of boxes the protocol is a probe. Its id (``crw-r18.released.crw``) is readable and stable; together with the
benchmark it names one row of the table.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, cast

from corrbench.benchmarks.base import Benchmark
from corrbench.benchmarks.registry import benchmark_of, code_of
from corrbench.files import digest
from corrbench.given import GivenMasks
from corrbench.pretraining.recipe import PRETRAINED
from corrbench.propagation.protocol import Protocol
from corrbench.provenance import code_version
from corrbench.segmentation.protocol import MaskPropagation
from corrbench.tracking.protocol import Probe

RANDOM = re.compile(r"random(\d*)$")


@dataclass(frozen=True)
class WeightsId:
    """One weights file: a method row and where its numbers come from."""

    method: str
    source: str
    """`released`, `random`, `random<seed>`, a tier (`smoke`, `short-seed1`), or a name of `files:` in the config."""

    @property
    def seed(self) -> int | None:
        """Seed of random weights; None for others."""
        found = RANDOM.match(self.source)
        return int(found[1] or 0) if found else None

    @property
    def tier(self) -> tuple[str, int] | None:
        """Tier and seed of pretrained weights; None for others."""
        found = PRETRAINED.match(self.source)
        return (found[1], int(found[2] or 0)) if found else None

    @property
    def path(self) -> str:
        """``<method>/<source>``, the folder below ``weights/``."""
        return f"{self.method}/{self.source}"


@dataclass(frozen=True)
class Entry:
    """One row of the table."""

    method: Mapping[str, Any]
    source: str
    protocol: Protocol | Probe | MaskPropagation | GivenMasks
    """How it is measured: label propagation, mask propagation (STM), a probe on a benchmark of boxes, or masks made elsewhere."""
    benchmark: Mapping[str, Any]
    weights: tuple[WeightsId, ...]
    """The weights files: none for identity, two for a fusion."""
    encoder: Mapping[str, Any]
    """The encoder row as the protocol loads it; for a fusion with the members' encoders in place of their names."""

    @property
    def id(self) -> str:
        """``<method>.<weights>.<protocol>``."""
        return f"{self.method['name']}.{self.source}.{self.protocol.name}"

    @property
    def tier(self) -> str | None:
        """Tier and seed of pretrained weights as tables show them: ``paper``, ``short (seed 1)``."""
        found = PRETRAINED.match(self.source)
        return None if found is None else found[1] + (f" (seed {found[2]})" if found[2] else "")

    @property
    def trained_here(self) -> bool:
        """True if a recipe made its weights, or the layer of its probe."""
        return self.tier is not None or (self.probe is not None and self.probe.head == "trained")

    @property
    def key(self) -> tuple[str, str]:
        """(benchmark, id), unique in a config."""
        return self.benchmark["name"], self.id

    @cached_property
    def hash(self) -> str:
        """12 hex digits over protocol, encoder, weights and benchmark."""
        return digest([self.protocol.settings(), self.encoder, [w.path for w in self.weights], self.benchmark["name"]])

    def propagate_settings(self) -> dict[str, Any]:
        """Everything of the config that the propagate stage reads."""
        protocol = cast(Protocol, self.protocol)
        return {"encoder": self.encoder, "protocol": protocol.propagate_settings(), "copy": protocol.copy}

    def postprocess_settings(self) -> dict[str, Any]:
        """Everything of the config that the postprocess stage reads."""
        return {"decode": self.protocol.settings()["decode"]}

    @property
    def stage(self) -> str:
        """The stage that runs the network, or takes in what was made elsewhere; the name of its program in scripts/."""
        if self.given is not None:
            return "import_masks"
        return "track" if self.probe is not None else "segment" if self.segmenter is not None else "propagate"

    @property
    def stage_code(self) -> str:
        """Code version of that stage; of stages that read videos through the benchmark's object with its layout's."""
        if self.stage in ("segment", "import_masks"):
            return code_of(self.stage, self.benchmark)
        return code_version(f"scripts/{self.stage}.py")

    @property
    def stage_settings(self) -> dict[str, Any]:
        """What that stage reads of the config."""
        if self.probe is not None:
            return self.probe.track_settings()
        return self.propagate_settings() if self.stage == "propagate" else self.protocol.settings()

    @property
    def summary(self) -> str:
        """The file that says how labels were propagated, or targets tracked."""
        return "propagation.json" if self.probe is None else "tracking.json"

    @cached_property
    def measured_on(self) -> Benchmark:
        """The benchmark as an object."""
        return benchmark_of(self.benchmark)

    @property
    def probe(self) -> Probe | None:
        """The probe of an entry on a benchmark of boxes; None for label propagation."""
        return self.protocol if isinstance(self.protocol, Probe) else None

    @property
    def given(self) -> GivenMasks | None:
        """Masks that were made elsewhere; None for other entries."""
        return self.protocol if isinstance(self.protocol, GivenMasks) else None

    @property
    def segmenter(self) -> MaskPropagation | None:
        """The rules of an STM network; None for other entries."""
        return self.protocol if isinstance(self.protocol, MaskPropagation) else None
