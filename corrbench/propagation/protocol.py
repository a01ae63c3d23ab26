"""A protocol: everything that decides how labels are propagated and decoded from given features.

One row of ``config/protocols/`` becomes one `Protocol`. Its hash covers every field that changes a number, and is
printed beside every score: two scores with different hashes were not measured by the same rules.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields
from typing import Any, Literal

from corrbench.errors import Refusal, nearest
from corrbench.files import digest
from corrbench.neutral import stated


@dataclass(frozen=True)
class Encoder:
    """What a harness does to every network that it loads, whatever its method."""

    zero_image_pass: bool = False
    """One pass of an image of zeros in training mode moves the batch norm statistics before they are used (SFC; see
    ``corrbench/encoders/zero_pass.py``). Rows that do not say it have none."""


@dataclass(frozen=True)
class Image:
    """How a frame is sized before the encoder sees it."""

    size: Literal["native", "short_side", "floor64", "pad"]
    """native: as read. short_side: uint8 bilinear so that the short side is `pixels` (VFS). floor64: short side
    `pixels`, long side cut down to a multiple of 64, aspect not kept (DINO). pad: zeros right and below to a
    multiple of `pixels`, after normalization (LIIR)."""
    pixels: int | None
    normalization: Literal["encoder", "dino"]
    """encoder: the encoder's own test normalization. dino: for RGB encoders DINO's constants (std[0] = 0.228)."""


@dataclass(frozen=True)
class Features:
    """What happens to the features before they are compared."""

    l2_normalize: bool
    precision: Literal["float32", "bfloat16", "float16"]
    """Number format of the encoder and of the dot products; softmax and label sums are always float32."""


@dataclass(frozen=True)
class Context:
    """Which earlier frames vote. Frame indices start at 0; the target is frame t."""

    long_term: tuple[int, ...]
    """Frames that stay in the context for ever, once they are in the past."""
    recent: int
    """How many recent frames: t-1, t-1-step, ..."""
    step: int
    first_frame_repeats: Literal["padded", "once", "never"]
    """What the recent list holds where it reaches frame 0 and below. padded: one copy of frame 0 per missing frame
    (CRW, SFC). once: frame 0 itself (VFS). never: nothing (DINO, MAST, LIIR)."""

    @property
    def repeats(self) -> bool:
        """True if a frame can be in the context more than once."""
        if self.first_frame_repeats == "padded":
            return self.recent > 1 or 0 in self.long_term
        return self.first_frame_repeats == "once" and 0 in self.long_term


@dataclass(frozen=True)
class Search:
    """Displaced window for old context frames (MAST's two-step memory)."""

    after: int
    """Frames older than this many steps are searched."""
    max_dilation: int
    shared_label_offset: bool
    """MAST samples the labels of all searched frames with the offset of the last one; LIIR uses one for each."""


@dataclass(frozen=True)
class Window:
    """Which cells of a context frame a query cell may look at, in feature cells."""

    shape: Literal["disc", "square", "none"]
    """disc: Euclidean distance < radius. square: |dy| <= radius and |dx| <= radius. none: every cell."""
    radius: int
    exempt_long_term: bool
    """True: long-term frames are searched everywhere (CRW, SFC); their copies in the recent list are not exempt."""
    outside: Literal["excluded", "zero"]
    """Cells of the window beyond the map: not candidates, or candidates with logit 0 and no label (MAST, LIIR)."""
    search: Search | None


@dataclass(frozen=True)
class Selection:
    """Which candidates count, and how much."""

    topk: int | None
    """Keep the k best over all context frames jointly, before the softmax; null keeps all."""
    keep_ties: bool
    """Keep every candidate that equals the k-th in exp(similarity / temperature), float32 (DINO)."""
    temperature: float


@dataclass(frozen=True)
class Readout:
    """Changes to the attention weights before labels are summed (LIIR's inference switches)."""

    compact: bool
    """Replace each sharp window of weights by two Gaussians at its two best cells (LIIR ``--compact``)."""
    foreground_gain: float
    """Factor on all foreground label channels (1.05 in LIIR ``--usemomen --compact``)."""


@dataclass(frozen=True)
class Labels:
    """How the first-frame annotation becomes labels on the feature grid, and what is remembered later."""

    downsample: Literal["bilinear", "nearest", "stride"]
    """bilinear: one-hot, then 2x2 bilinear: soft borders (CRW). nearest: PIL nearest of the ids (VFS, DINO).
    stride: top-left pixel of every cell (MAST)."""
    classes: Literal["present", "max_id", "seven"]
    """present: the ids of the full-size first frame. max_id: 0 .. largest id left after the shrink. seven: 0 .. 6."""
    memory: Literal["soft", "hard"]
    """soft: the propagated scores. hard: the argmax at full size, shrunk again (MAST, LIIR)."""


@dataclass(frozen=True)
class Decode:
    """How scores become a mask. Read by post-processing alone unless the memory is hard."""

    upsample_to: Literal["image", "network"]
    """image: straight to the annotation's size. network: to the encoder's input size, then crop (pad) or PIL nearest."""
    minmax: Literal["none", "epsilon", "exact"]
    """Per class over the frame (v-min)/(max-min) before the argmax: with 1e-12 in the denominator where the class has
    positive values (VFS), or exact (DINO)."""
    first_frame: Literal["decoded", "annotation"]
    """Mask written for frame 0: the shrunk and enlarged annotation (CRW), or the annotation itself."""


_PARTS: dict[str, type] = {
    "encoder": Encoder, "image": Image, "features": Features, "context": Context, "window": Window,
    "selection": Selection, "readout": Readout, "labels": Labels, "decode": Decode,
}  # fmt: skip


def _build(kind: type, row: Mapping[str, Any], where: str) -> Any:
    names = {f.name for f in fields(kind)}
    for key in row:
        if key not in names:
            raise Refusal(f"{where}: unknown key {key!r}", expected=nearest(key, names), do="correct the row")
    missing = sorted({f.name for f in fields(kind) if f.default is MISSING} - set(row))
    if missing:
        raise Refusal(
            f"{where}: missing {', '.join(missing)}",
            expected="every field of a protocol is stated",
            do="add the field, or inherit from another row with `base:`",
        )
    return kind(**row)


@dataclass(frozen=True)
class Protocol:
    """One named set of propagation rules; see the parts for every field."""

    name: str
    encoder: Encoder
    image: Image
    features: Features
    context: Context
    window: Window
    selection: Selection
    readout: Readout
    labels: Labels
    decode: Decode
    copy: bool = False
    """True: every frame gets the first mask at full size and no features are used (the identity baseline)."""

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> Protocol:
        """Build from a resolved row of ``config/protocols/`` (after `base:` was applied).

        Raises Refusal for an unknown, missing or contradictory field.
        """
        name = row["name"]
        parts: dict[str, Any] = {}
        for part, kind in _PARTS.items():
            values = dict(row.get(part) or {})
            if part == "window" and isinstance(values.get("search"), Mapping):
                values["search"] = _build(Search, values["search"], f"protocol {name}: window.search")
            if part == "context":
                values["long_term"] = tuple(values.get("long_term", ()))
            parts[part] = _build(kind, values, f"protocol {name}: {part}")
        protocol = cls(name=name, copy=bool(row.get("copy", False)), **parts)
        protocol._check()
        return protocol

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any]) -> Protocol:
        """Build from `propagate_settings()`. Where `decode` is left out, propagation never reads it; the same holds for
        its field `first_frame`."""
        decode = {
            "upsample_to": "image",
            "minmax": "none",
            "first_frame": "decoded",
            **settings.get("decode", {}),
        }
        return cls.from_row({"name": "settings", **settings, "decode": decode})

    def _check(self) -> None:
        def refuse(found: str, expected: str) -> None:
            raise Refusal(f"protocol {self.name}: {found}", expected=expected, do="correct the row")

        if self.copy and self.encoder.zero_image_pass:
            refuse("copy with encoder.zero_image_pass", "no network, or no copy")
        if self.image.size != "native" and not self.image.pixels:
            refuse(f"image.size {self.image.size} without image.pixels", "a number of pixels")
        if self.selection.topk is None and self.selection.keep_ties:
            refuse("selection.keep_ties without selection.topk", "keep_ties only together with a top-k")
        if self.selection.keep_ties and (self.window.exempt_long_term or self.context.first_frame_repeats != "never"):
            refuse(
                "selection.keep_ties with exempt or repeated frames",
                "exempt_long_term: false and first_frame_repeats: never",
            )
        if self.selection.keep_ties and (not self.features.l2_normalize or self.selection.temperature < 0.012):
            refuse(
                f"selection.keep_ties with temperature {self.selection.temperature}, l2_normalize: {self.features.l2_normalize}",
                "unit features and at least 0.012: exp(similarity / temperature) decides ties and must fit into float32",
            )
        if self.window.shape == "disc" and self.window.radius < 1:
            refuse("a disc of radius 0", "a radius of at least 1 (the distance stays strictly below it)")
        if 0 not in self.context.long_term and self.context.first_frame_repeats == "never":
            refuse("a context that can be empty at frame 1", "frame 0 in context.long_term, or repeats of it")
        if self.labels.memory == "hard" and self.labels.downsample == "bilinear":
            refuse("labels.memory: hard with downsample: bilinear", "downsample: nearest or stride")
        if self.labels.classes != "present" and self.labels.downsample == "bilinear":
            refuse(f"labels.classes: {self.labels.classes} with downsample: bilinear", "classes: present")
        if self.labels.classes == "present" and self.labels.downsample != "bilinear":
            refuse(f"labels.classes: present with downsample: {self.labels.downsample}", "classes: max_id or seven")
        windowed_softmax = self.selection.topk is None
        if (self.readout.compact or self.window.search) and not (windowed_softmax and self.window.shape == "square"):
            refuse("readout.compact or window.search with a top-k or without a square window",
                   "both act on the weights of a whole square window (selection.topk: null)")  # fmt: skip
        if self.window.outside == "zero" and self.selection.topk is not None:
            refuse("window.outside: zero with a top-k", "outside: excluded, or topk: null")
        if self.window.shape == "none" and (windowed_softmax or self.window.radius != 0):
            refuse("window.shape: none with a radius or without a top-k", "radius: 0 and a top-k")
        if windowed_softmax and self.window.exempt_long_term:
            refuse("window.exempt_long_term without a top-k", "a top-k")
        if windowed_softmax and self.context.repeats:
            refuse("repeated first frames without a top-k", "context.first_frame_repeats: never")
        if windowed_softmax and self.window.outside == "excluded":
            refuse("a softmax over a whole window that excludes outside cells", "window.outside: zero")
        if self.window.exempt_long_term and self.context.long_term != (0,):
            refuse("window.exempt_long_term with long-term frames other than [0]", "context.long_term: [0]")

    def settings(self) -> dict[str, Any]:
        """Every field that changes a number, as plain data (the name is left out, and what is at its neutral default)."""
        values: dict[str, Any] = {part: stated(getattr(self, part)) for part in _PARTS}
        values = {part: found for part, found in values.items() if found}
        values["copy"] = self.copy
        values["context"]["long_term"] = list(self.context.long_term)
        return values

    @property
    def hash(self) -> str:
        """12 hex digits over `settings()`."""
        return digest(self.settings())

    def encoder_row(self, encoder: Mapping[str, Any]) -> dict[str, Any]:
        """A method's encoder row, of a fusion with its members' rows in it, as this protocol loads it."""
        if not self.encoder.zero_image_pass:
            return dict(encoder)
        if encoder["arch"] == "fusion":
            return {**encoder, "members": [self.encoder_row(member) for member in encoder["members"]]}
        return {**encoder, "zero_image_pass": True}

    def propagate_settings(self) -> dict[str, Any]:
        """The fields that the propagate stage reads: without `decode`, unless the memory is decoded, and without what the
        entry's encoder row says."""
        values = self.settings()
        values.pop("encoder", None)
        if self.labels.memory == "soft":
            del values["decode"]
        else:
            del values["decode"]["first_frame"]
        return values
