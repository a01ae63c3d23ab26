"""What a run goes on from and leaves behind: damage is refused by name, the log heals, foreign files stay."""

import json
import shutil
import signal
import sys
import threading

import pytest
import torch
from runs import command, make_frames, run_here

from corrbench.errors import Refusal
from corrbench.files import write_record
from corrbench.outputs import claim
from corrbench.pretraining.curves import read_log
from corrbench.pretraining.loop import Pace
from corrbench.pretraining.saved import load_state, refuse_foreign, save_state, set_aside
from corrbench.pretraining.stopping import Asked
from corrbench.tracking.siamfc import head_hash
from corrbench.weights.convert import convert
from corrbench.weights.trained import read_start
from scripts.pretrain import main


@pytest.fixture(scope="module")
def frames(tmp_path_factory):
    return make_frames(tmp_path_factory.mktemp("videos"))


@pytest.fixture(scope="module")
def made(frames, tmp_path_factory):
    """A run of two steps that has saved."""
    folder = tmp_path_factory.mktemp("run")
    run_here("fc", frames, folder, steps=2).train(Pace())
    return folder


@pytest.fixture
def folder(made, tmp_path):
    shutil.copytree(made, tmp_path / "run")
    return tmp_path / "run"


def again(frames, folder):
    return run_here("fc", frames, folder, steps=2)


def flip(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 3] ^= 4
    path.write_bytes(data)


def edit(change):
    def damage(path):
        state = torch.load(path, weights_only=True)
        change(state)
        torch.save(state, path)

    return damage


def become_folder(path):
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize(
    "damage",
    [
        flip,
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(path.read_bytes()[:-100]),
        become_folder,
        edit(lambda s: s.update(step=999)),
        edit(lambda s: s.pop("identity")),
        edit(lambda s: s.pop("content_sha256")),  # as the first edition wrote it
        edit(lambda s: next(iter(s["model"].values())).view(-1)[:1].fill_(float("nan"))),
        lambda path: torch.save(torch.zeros(3), path),
    ],
)
def test_a_damaged_state_is_refused_and_nothing_starts_over(damage, frames, folder):
    damage(folder / "last.pt")
    with pytest.raises(Refusal, match=r"last\.pt: .*(?s:.)*what to do"):
        again(frames, folder)
    assert (folder / "last.pt").exists() and (folder / "log.jsonl").read_text().count("\n") == 2


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("step", 3, "saved after step 3"),
        ("step", "2", "without step"),
        ("model", {}, "does not fit this run"),
        ("log", [1], "without a log"),
    ],
)
def test_a_state_that_fits_no_run(key, value, words, frames, folder):
    save_state(folder, {**load_state(folder / "last.pt"), key: value})
    with pytest.raises(Refusal, match=words):
        again(frames, folder)


@pytest.mark.parametrize("content", [None, b"", b"\x00\x01 no json\n", b"[1, 2]\n", b'{"step": 1, "lo'])
def test_the_log_is_right_whatever_happened_to_it(content, frames, folder):
    whole = (folder / "log.jsonl").read_bytes()
    (folder / "log.jsonl").unlink()
    if content is not None:
        (folder / "log.jsonl").write_bytes(content)
    again(frames, folder)
    assert (folder / "log.jsonl").read_bytes() == whole and len(read_log(folder / "log.jsonl")) == 2


def test_a_damaged_line_of_a_log_is_named(tmp_path):
    for line in ("{", "[]", '{"loss": 1}', '{"step": 2, "loss": NaN}'):
        (tmp_path / "log.jsonl").write_text('{"step": 1, "loss": 1.0}\n' + line)
        with pytest.raises(Refusal, match=r"log.jsonl: line 2 is damaged"):
            read_log(tmp_path / "log.jsonl")


def test_files_of_others_are_not_replaced(folder, tmp_path):
    (tmp_path / "checkpoint.pth").write_text("mine")
    with pytest.raises(Refusal, match="holds checkpoint.pth that no pretraining wrote"):
        refuse_foreign(tmp_path)
    refuse_foreign(folder)
    (folder / "last.pt").unlink()  # what the refusal of a damaged one advises
    refuse_foreign(folder)


def test_a_checkpoint_is_the_one_that_its_record_names(tmp_path):
    path = tmp_path / "checkpoint.pth"
    torch.save({"state_dict": {"head.x": torch.zeros(2)}, "weights_sha256": "0"}, path)
    head_hash(path)
    write_record(tmp_path / "recipe.json", {"recipe": {}, "seed": 0, "steps": 2, "checkpoint_sha256": "0" * 64})
    readers = (head_hash, read_start, lambda p: convert(p, encoder={"arch": "resnet18"}, method="x"))
    for read in readers:
        with pytest.raises(Refusal, match="checkpoint.pth: sha256 .* recipe.json beside it records 000000000000"):
            read(path)
    (tmp_path / "recipe.json").write_text('{"recipe": ')
    for read in readers:
        with pytest.raises(Refusal, match="recipe.json: not valid JSON"):
            read(path)
    (tmp_path / "recipe.json").write_text('{"name": "of somebody else"}')
    head_hash(path)
    torch.save({"state_dict": {}}, path)
    with pytest.raises(Refusal, match="weights_sha256"):
        head_hash(path)


def test_a_signal_while_workers_start_is_noted():
    with Asked() as asked:
        with asked.held_back(0):
            # to this thread: one of the test runner's own may take what is sent to the process
            signal.pthread_kill(threading.get_ident(), signal.SIGTERM)
            assert asked.signal is None
        assert asked.signal == signal.SIGTERM
    assert signal.getsignal(signal.SIGTERM) != asked._note


def program(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["pretrain", *map(str, arguments)])
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    main()


def test_the_program_refuses_what_it_cannot_begin(frames, tmp_path, monkeypatch):
    plain = command("fc", frames, tmp_path / "out")[3:]
    with claim(tmp_path / "out"), pytest.raises(Refusal, match="out: another run is writing it"):
        program(monkeypatch, *plain)
    settings = ["--settings", "{", *plain[4:]]
    for text, words in (
        ("{", "--settings: not valid JSON"),
        ("[]", "not those of a recipe"),
        ("{}", "not those of a recipe"),
    ):
        settings[1] = text
        with pytest.raises(Refusal, match=words):
            program(monkeypatch, *settings)
    for roots in ("{", "[]", '{"a": 1}'):
        with pytest.raises(Refusal, match="--roots"):
            program(monkeypatch, *plain, "--roots", roots)
    (tmp_path / "out").rmdir()
    (tmp_path / "out").write_text("a file")
    with pytest.raises((Refusal, OSError), match="out"):
        program(monkeypatch, *plain)
    assert (tmp_path / "out").read_text() == "a file"


def test_temporaries_of_killed_runs_go(frames, folder, monkeypatch):
    (folder / ".last.123-abcdef.tmp.pt").write_bytes(b"half")
    with pytest.raises(Refusal, match="--roots"):
        program(monkeypatch, *command("fc", frames, folder)[3:], "--roots", "[]")
    assert not list(folder.glob(".*.tmp*"))


def test_the_record_holds_the_hash_of_the_checkpoint(frames, tmp_path, monkeypatch):
    program(monkeypatch, *command("fc", frames, tmp_path / "out")[3:])
    read_start(tmp_path / "out/checkpoint.pth")
    flip(tmp_path / "out/checkpoint.pth")
    with pytest.raises(Refusal, match="checkpoint.pth: sha256"):
        read_start(tmp_path / "out/checkpoint.pth")
    program(
        monkeypatch, *command("fc", frames, tmp_path / "out")[3:]
    )  # the remedy: goes on from last.pt, writes both anew
    read_start(tmp_path / "out/checkpoint.pth")
    assert json.loads((tmp_path / "out/recipe.json").read_text())["steps"] == 6


def test_a_state_set_aside_is_gone_on_from_and_never_lost(frames, folder):
    """A, then B in the same folder, then A again: A goes on, and what each had stays."""

    def steps(name):
        return load_state(folder / name)["step"]

    first = load_state(folder / "last.pt")
    save_state(folder, {**first, "identity": {"recipe": {}}, "step": 1})  # B has the folder now
    kept = set_aside(folder, first["identity"])
    torch.save(torch.load(folder / "last.pt", weights_only=True), folder / "b.pt")
    save_state(folder, first)
    (folder / "last.pt").rename(kept)
    (folder / "b.pt").rename(folder / "last.pt")
    run = again(frames, folder)
    assert run.step == first["step"] and kept.exists()
    assert steps(set_aside(folder, {"recipe": {}}).name) == 1
