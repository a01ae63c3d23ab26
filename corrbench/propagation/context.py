"""Which earlier frames vote for frame t, and how often each of them counts."""

from __future__ import annotations

from dataclasses import dataclass

from corrbench.propagation.protocol import Context


@dataclass(frozen=True)
class ContextFrame:
    """One distinct frame of a context list. The reference lists repeat frames; here a repeat is a count."""

    index: int
    inside: int
    """Copies that obey the window rule."""
    everywhere: int
    """Copies that are exempt from it."""


def context_frames(t: int, rule: Context, *, exempt_long_term: bool = False) -> list[ContextFrame]:
    """The context of target frame `t` >= 1: distinct frames in ascending order.

    Sources: CRW ``context_index_bank`` (code/utils/test_utils.py), VFS ``vanilla_tracker.py``, DINO
    ``eval_video_segmentation.py``, MAST ``benchmark.py`` (``--ref 0`` is long_term [0, 5], recent 3, step 2).
    """
    if t < 1:
        raise ValueError(f"frame {t} has no context; propagation starts at frame 1")
    inside: dict[int, int] = {}
    everywhere: dict[int, int] = {}
    for frame in rule.long_term:
        if frame < t:
            (everywhere if exempt_long_term else inside)[frame] = 1
    recent = [t - 1 - i * rule.step for i in range(rule.recent)]
    if rule.first_frame_repeats == "padded":
        for frame in recent:
            inside[max(frame, 0)] = inside.get(max(frame, 0), 0) + 1
    elif rule.first_frame_repeats == "once":
        for frame in recent:
            if frame >= 0:
                inside[frame] = inside.get(frame, 0) + 1
    else:  # a set: a frame that is long-term and recent counts once
        for frame in recent:
            if frame > 0 and frame not in everywhere:
                inside[frame] = 1
    return [
        ContextFrame(index=frame, inside=inside.get(frame, 0), everywhere=everywhere.get(frame, 0))
        for frame in sorted({*inside, *everywhere})
    ]


def still_needed(frame: int, t: int, rule: Context) -> bool:
    """True if `frame` can be in the context of frame `t` or of a later one."""
    return frame in rule.long_term or frame >= t - 1 - (rule.recent - 1) * rule.step
