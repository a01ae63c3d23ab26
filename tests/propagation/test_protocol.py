"""Protocol rows: hashes, stage settings, refusals."""

from dataclasses import field, make_dataclass

import pytest

from corrbench.errors import Refusal
from corrbench.propagation import protocol as protocol_module
from corrbench.propagation.protocol import Protocol, Selection
from corrbench.rows import AllRows, merge


def test_every_row_builds_and_equal_rules_hash_alike(protocols, protocol):
    hashes = {name: protocol(name).hash for name in protocols}
    assert hashes["fc-clean"] == hashes["crw"]
    assert hashes["liir-momen"] == hashes["liir"]
    assert len(set(hashes.values())) == len(hashes) - 2


def test_a_surgery_that_is_not_used_is_in_no_hash(protocols, protocol):
    """Results of earlier versions stay comparable: hashes of rows without SFC's pass are those before it could be said."""
    known = {"crw": "a4e9ec983714", "dino": "cbed60b65207", "identity": "9aa819db4357", "liir": "cda4780c20c0",
             "mast": "81efe5405ed7", "vfs-r18": "c6188a5a5f7b", "vfs-r50": "bfbba82ab633",
             "fc-clean": "a4e9ec983714", "sfc-clean": "0f86cea82d24"}  # fmt: skip
    assert {name: protocol(name).hash for name in known} == known
    assert "encoder" not in protocol("crw").settings()
    for name in ("fc", "sfc"):
        assert protocol(name).settings()["encoder"] == {"zero_image_pass": True}
        assert protocol(name).hash != protocol(f"{name}-clean").hash
        assert protocol(name).propagate_settings() == protocol(f"{name}-clean").propagate_settings(), (
            "the encoder row says it"
        )


@pytest.mark.parametrize(
    "change",
    [
        {"selection": {"temperature": 0.07}}, {"selection": {"topk": 5}}, {"window": {"radius": 13}}, {"context": {"recent": 19}},
        {"labels": {"downsample": "nearest", "classes": "max_id"}}, {"decode": {"minmax": "epsilon"}}, {"features": {"precision": "bfloat16"}},
        {"image": {"normalization": "dino"}}, {"encoder": {"zero_image_pass": True}},
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
        ("identity", {"encoder": {"zero_image_pass": True}}, "copy with encoder.zero_image_pass"),
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


def test_a_new_field_with_a_neutral_default_moves_no_hash(monkeypatch):
    """A field that is added later does nothing by default, and rows and results from before stay what they are."""
    monkeypatch.setattr("corrbench.rows.validate", lambda value, *_: value)  # whose schema does not know the field
    rows = AllRows([]).protocols
    before = {name: Protocol.from_row(rows.get(name, "test")).hash for name in rows}
    later = make_dataclass("Selection", [("sharpen", float, field(default=1.0))], bases=(Selection,), frozen=True)
    monkeypatch.setitem(protocol_module._PARTS, "selection", later)
    assert {name: Protocol.from_row(rows.get(name, "test")).hash for name in rows} == before
    row = rows.get("crw", "test")
    changed = Protocol.from_row({**row, "selection": {**row["selection"], "sharpen": 2.0}})
    assert changed.hash != before["crw"] and changed.settings()["selection"]["sharpen"] == 2.0
    again = Protocol.from_settings(changed.propagate_settings())
    assert again.selection == changed.selection
