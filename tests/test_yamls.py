"""YAML that two readers could take in two ways is refused with its line; what is clear is read."""

import time

import pytest

from corrbench.errors import Refusal
from corrbench.yamls import read_yaml

LAUGHS = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{chr(98 + i)}: &{chr(98 + i)} [{','.join(['*' + chr(97 + i)] * 9)}]\n" for i in range(9)
)
REFUSED = {
    "a key twice": ("data: {a: 1}\nruns: []\ndata: {b: 2}\n", "'data' stands twice, in line 1 and in line 3"),
    "a key twice inside": ("runs:\n  - methods: [a]\n    methods: [b]\n", "'methods' stands twice, in line 2 and in line 3"),
    "a tab": ("runs:\n\t- methods: [identity]\n", "line 2 is indented with a tab"),
    "a tab further down": ("runs:\n  - methods: [a]\n\tweights: [b]\n", "line 3 is indented with a tab"),
    "UTF-16": ("runs: []\n".encode("utf-16"), "encoded as UTF-16"),
    "Latin-1": ("results: r\xe9sultats\n".encode("latin-1"), r"not UTF-8 \(line 1\)"),
    "two documents": ("runs: []\n---\nruns: []\n", "line 2: .*another document"),
    "growing aliases": (LAUGHS, "stands for more than"),
    "a list in itself": ("runs: &r [{methods: *r}]\n", "nests without end"),
    "a mapping in itself": ("&x {runs: *x}\n", "nests without end"),
    "deep brackets": ("[" * 3000 + "]" * 3000, "nests without end"),
    "deep lists": ("- " * 3000 + "x", "nests without end"),
    "a large number": ("a: 99999999999999999999999999\n", "whole number"),
    "an octal number": ("a: 010\n", "whole number"),
    "hours": ("a: 12:30\n", "whole number"),
    "no number": ("a: .nan\n", "not a finite number"),
    "without end": ("a: [1, -.inf]\n", "not a finite number"),
    "a date": ("a: 2020-01-01\n", "timestamp"),
    "a set": ("a: !!set {b, c}\n", "calls a set"),
    "a number as a key": ("1: 2\n", "the key '1' is no text"),
    "yes as a key": ("yes: 2\n", "the key 'yes' is no text"),
    "a list as a key": ("[1, 2]: 2\n", "no text"),
    "a call": ("a: !!python/object/apply:os.system ['true']\n", "not valid YAML"),
    "bytes": ("\x00\x01", "not valid YAML"),
}  # fmt: skip


@pytest.mark.parametrize(("content", "message"), REFUSED.values(), ids=REFUSED.keys())
def test_refused(tmp_path, content, message):
    path = tmp_path / "c.yaml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    start = time.monotonic()
    with pytest.raises(Refusal, match=f"c.yaml: .*{message}"):
        read_yaml(path)
    assert time.monotonic() - start < 10


def test_what_is_clear_is_read(tmp_path):
    path = tmp_path / "c.yaml"
    text = "base: &b {x: 1, on: a}\nother: {<<: *b, x: 2}\nlist: [1, 0x10, 2.5, -3, 7.0e-2, null, true]\ntext: '010'\n"
    path.write_bytes(b"\xef\xbb\xbf" + text.replace("on", "'on'").replace("\n", "\r\n").encode())
    assert read_yaml(path) == {
        "base": {"x": 1, "on": "a"}, "other": {"x": 2, "on": "a"}, "list": [1, 16, 2.5, -3, 0.07, None, True], "text": "010",
    }  # fmt: skip


def test_a_tag_that_its_value_does_not_fit(tmp_path):
    for text in ("a: !!bool foo", "a: !!int {}", "a: !!float x"):
        (tmp_path / "c.yaml").write_text(text)
        with pytest.raises(Refusal):
            read_yaml(tmp_path / "c.yaml")


def test_a_merged_mapping_that_is_merged_again(tmp_path):
    (tmp_path / "c.yaml").write_text("b: &b {x: 1}\nouter: {inner: &i {<<: *b, x: 2}}\nc: {<<: *i}\n")
    assert read_yaml(tmp_path / "c.yaml")["c"] == {"x": 2}
