"""The code fingerprint: formulas count, comments and docstrings do not."""

import shutil

import pytest
from conftest import ROOT

from corrbench import provenance, resources


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A small copy of the project to edit."""
    for folder in ("corrbench", "scripts"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(resources, "HOME", tmp_path)
    monkeypatch.setattr(resources, "PACKAGE", tmp_path / "corrbench")
    yield tmp_path
    forget()  # other tests of this process ask about the real checkout


def forget():
    for function in (provenance.code_version, provenance.reached_modules, provenance._read, provenance._files_of):
        function.cache_clear()


def versions():
    forget()
    names = ("propagate", "postprocess", "evaluate", "plots", "convert")
    return {name: provenance.code_version(f"scripts/{name}.py") for name in names}


def edit(path, old, new):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


@pytest.mark.parametrize(
    ("file", "old", "new", "stale"),
    [
        ("corrbench/metrics/davis.py", "BOUND = 0.008", "BOUND = 0.009", {"evaluate"}),
        ("corrbench/metrics/davis.py", "BOUND = 0.008", "BOUND = 0.008  # of the diagonal", set()),
        ("corrbench/metrics/davis.py", '"""J of two 0/1 masks."""', '"""Region similarity."""', set()),
        ("corrbench/propagation/softmax.py", "SHARP = 0.1", "SHARP = 0.2", {"propagate"}),
        ("corrbench/propagation/decode.py", "1e-12", "1e-9", {"propagate", "postprocess"}),
        ("corrbench/weights/convert.py", "CONVERTER_VERSION = 1", "CONVERTER_VERSION = 2", {"convert"}),
        ("corrbench/report/plots.py", "figsize=(9.5, 5)", "figsize=(9, 5)", {"plots"}),
        ("corrbench/datasets/otb.py", "FAR = 1e6", "FAR = 1e7", {"plots"}),  # plots of boxes are in the same file
        (
            "corrbench/benchmarks/davis.py",
            "frames[1:-1]",
            "frames[1:]",
            set(),
        ),  # read by the doctor and STM, see code_of
        ("corrbench/machine.py", "this job was given no GPU", "no GPU for this job", set()),
        ("corrbench/progress.py", "self.done", "self.counted", set()),
        (
            "corrbench/propagation/protocol.py",
            "@dataclass(frozen=True)\nclass Protocol:",
            "CHANGED = 1\n\n\n@dataclass(frozen=True)\nclass Protocol:",
            {"propagate", "postprocess", "plots"},
        ),
        ("scripts/evaluate.py", "100 * total", "100.0 * total", {"evaluate"}),
    ],
)
def test_what_an_edit_makes_stale(checkout, file, old, new, stale):
    before = versions()
    edit(checkout / file, old, new)
    after = versions()
    assert {name for name in before if before[name] != after[name]} == stale


def test_what_was_read_is_kept_and_checked(checkout, monkeypatch):
    """A process that reads no module again has the same versions; a damaged, foreign or missing note is read again."""
    first = versions()
    kept = sorted(checkout.rglob("*.formulas"))
    assert len(kept) > 50
    with monkeypatch.context() as patched:
        patched.setattr(provenance.ast, "parse", lambda *_: pytest.fail("read again"))
        assert versions() == first
    for path, text in zip(kept, ["", "[", "[]", "{}", "[1]", '["a", "b", []]', "3"] * len(kept), strict=False):
        path.write_text(text)
    kept[-1].unlink()
    assert versions() == first
    shutil.copy(kept[0], kept[1])
    for path in kept[2:]:
        if "corrbench.files" in path.read_text():  # an import that is misread would hide the code behind it
            path.write_text(path.read_text().replace("corrbench.files", "corrbench.filed"))
    assert versions() == first
