"""Contexts against the literal lists of the reference codes."""

from collections import Counter

import pytest
from reference.propagation import crw_context, dino_context, mast_context, vfs_context

from corrbench.propagation.context import context_frames, still_needed
from corrbench.propagation.protocol import Context, Protocol
from corrbench.rows import AllRows


def recent(t):
    """The short-term frames of MAST's benchmark.py."""
    return {i for i in (t - 1, t - 3, t - 5) if i > 0}


RULES = {
    "crw": (Context((0,), 20, 1, "padded"), lambda t: crw_context(t, 20), True),
    "vfs": (Context((0,), 20, 1, "once"), lambda t: vfs_context(t, 20), False),
    "dino": (Context((0,), 7, 1, "never"), lambda t: dino_context(t, 7), False),
    "mast": (Context((0, 5), 3, 2, "never"), mast_context, False),
    "ref1": (Context((0,), 3, 2, "never"), lambda t: [f for f in mast_context(t) if f != 5 or f in recent(t)], False),
    "ref2": (Context((), 1, 1, "once"), lambda t: [t - 1], False),
}


@pytest.mark.parametrize("name", RULES)
def test_counts_are_those_of_the_literal_list(name):
    rule, literal, exempt = RULES[name]
    for t in range(1, 60):
        frames = context_frames(t, rule, exempt_long_term=exempt)
        counted = Counter({f.index: f.inside + f.everywhere for f in frames})
        assert counted == Counter(literal(t)), t
        assert [f.index for f in frames] == sorted(f.index for f in frames)


def test_crw_exempts_one_copy_of_frame_0_only():
    first = context_frames(5, RULES["crw"][0], exempt_long_term=True)[0]
    assert (first.index, first.everywhere, first.inside) == (0, 1, 20 - 5 + 1)
    later = context_frames(21, RULES["crw"][0], exempt_long_term=True)
    assert (later[0].everywhere, later[0].inside) == (1, 0)
    assert len(later) == 21


@pytest.mark.parametrize(
    ("t", "frames"),
    [(1, [0]), (2, [0, 1]), (3, [0, 2]), (4, [0, 1, 3]), (6, [0, 1, 3, 5]), (7, [0, 2, 4, 5, 6]), (16, [0, 5, 11, 13, 15]), (31, [0, 5, 26, 28, 30])],
)  # fmt: skip
def test_mast_examples(t, frames):
    assert [f.index for f in context_frames(t, RULES["mast"][0])] == frames


@pytest.mark.parametrize(("name", "rule"), [("liir-ref1", "ref1"), ("liir-ref2", "ref2"), ("liir", "mast")])
def test_rows_of_the_memories_of_liir(name, rule):
    """--ref 0, 1 and 2 of its benchmark.py."""
    assert Protocol.from_row(AllRows([]).protocols.get(name, "test")).context == RULES[rule][0]


@pytest.mark.parametrize("name", RULES)
def test_nothing_needed_is_forgotten(name):
    rule, _, exempt = RULES[name]
    for t in range(1, 40):
        for later in range(t, 60):
            for frame in context_frames(later, rule, exempt_long_term=exempt):
                if frame.index < t:
                    assert still_needed(frame.index, t, rule), (t, later, frame)


def test_frame_0_has_no_context():
    with pytest.raises(ValueError, match="no context"):
        context_frames(0, RULES["crw"][0])
