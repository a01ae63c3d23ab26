"""Protocol rows: hashes, stage settings, refusals."""

import pytest

from corrbench.errors import Refusal
from corrbench.propagation.protocol import Protocol
from corrbench.rows import merge


def test_every_row_builds_and_equal_rules_hash_alike(protocols, protocol):
    hashes = {name: protocol(name).hash for name in protocols}
    assert hashes["fc"] == hashes["crw"]
    assert hashes["liir-momen"] == hashes["liir"]
    assert len(set(hashes.values())) == len(hashes) - 2


@pytest.mark.parametrize(
    "change",
    [
        {"selection": {"temperature": 0.07}}, {"selection": {"topk": 5}}, {"window": {"radius": 13}}, {"context": {"recent": 19}},
        {"labels": {"downsample": "nearest", "classes": "max_id"}}, {"decode": {"minmax": "epsilon"}}, {"features": {"precision": "bfloat16"}},
        {"image": {"normalization": "dino"}},
    ],
)  # fmt: skip
def test_any_changed_number_changes_the_hash(protocols, protocol, change):
    assert Protocol.from_row(merge(protocols.get("crw", "test"), change)).hash != protocol("crw").hash


def test_names_and_sources_do_not_count(protocols, protocol):
    row = merge(protocols.get("crw", "test"), {"name": "other", "title": "x", "source": "y"})
    assert Protocol.from_row(row).hash == protocol("crw").hash


def test_decode_belongs_to_postprocess_unless_the_memory_is_hard(protocol):
    assert "decode" not in protocol("crw").propagate_settings()
    assert protocol("mast").propagate_settings()["decode"] == {"upsample_to": "image", "minmax": "none"}
    for name in ("crw", "mast", "liir"):
        settings = protocol(name).propagate_settings()
        assert Protocol.from_settings(settings).propagate_settings() == settings


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("crw", {"selection": {"tempertaure": 1}}, "unknown key 'tempertaure'"),
        ("crw", {"window": {"outside": "zero"}}, "outside: zero with a top-k"),
        ("crw", {"readout": {"compact": True}}, "compact"),
        ("crw", {"selection": {"topk": None}}, "without a top-k"),
        ("crw", {"context": {"long_term": [0, 5]}}, "other than"),
        ("crw", {"selection": {"keep_ties": True}}, "keep_ties"),
        ("mast", {"window": {"outside": "excluded"}}, "excludes outside"),
        ("mast", {"context": {"first_frame_repeats": "once"}}, "repeated first frames"),
        ("vfs-r18", {"image": {"pixels": None}}, "without image.pixels"),
        ("crw", {"window": {"radius": 0}}, "disc of radius 0"),
        ("dino", {"context": {"long_term": []}}, "can be empty"),
        ("dino", {"selection": {"temperature": 0.01}}, "keep_ties with temperature 0.01"),
        ("dino", {"features": {"l2_normalize": False}}, "keep_ties with .* l2_normalize: False"),
        ("crw", {"labels": {"memory": "hard"}}, "memory: hard with downsample: bilinear"),
        ("crw", {"labels": {"classes": "seven"}}, "classes: seven with downsample: bilinear"),
        ("vfs-r18", {"labels": {"classes": "present"}}, "classes: present with downsample: nearest"),
    ],
)
def test_contradictions_are_refused(protocols, name, change, message):
    with pytest.raises(Refusal, match=message):
        Protocol.from_row(merge(protocols.get(name, "test"), change))


def test_unknown_key_names_the_nearest(protocols):
    row = merge(protocols.get("crw", "test"), {"selection": {"tempertaure": 1}})
    with pytest.raises(Refusal, match="did you mean 'temperature'"):
        Protocol.from_row(row)
