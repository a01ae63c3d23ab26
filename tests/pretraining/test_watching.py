"""Runs that are watched: TensorBoard, Weights & Biases without a network, pictures; none of it moves a weight."""

import json
import threading
import time
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from runs import make_frames, pretrain, same_state

from corrbench.errors import Refusal
from corrbench.pretraining import watching
from corrbench.pretraining.drawing import SIDE, attention_picture, walk_picture
from corrbench.pretraining.watching import Sink, Sinks, TensorBoard, WandB, Watch


@pytest.fixture(scope="module")
def frames(tmp_path_factory):
    return make_frames(tmp_path_factory.mktemp("videos"))


def lines_of(folder):
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("recipe", ["crw", "mast", "liir-e"])
def test_watching_moves_nothing(recipe, frames, tmp_path):
    pretrain(recipe, frames, tmp_path / "plain")
    pretrain(recipe, frames, tmp_path / "watched", "--tensorboard", "--pictures", 2)
    assert same_state(tmp_path / "plain/last.pt", tmp_path / "watched/last.pt")
    assert (tmp_path / "plain/checkpoint.pth").read_bytes() == (tmp_path / "watched/checkpoint.pth").read_bytes()
    name = recipe.split("-")[0]
    pictures = sorted((tmp_path / "watched/pictures").iterdir())
    assert [p.name for p in pictures] == [f"{name}-{step:07d}.png" for step in (2, 4, 6)]
    assert cv2.imread(str(pictures[0])).std() > 5
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(tmp_path / "watched/tensorboard"))
    events.Reload()
    logged = lines_of(tmp_path / "watched")
    assert [e.step for e in events.Scalars("loss")] == [line["step"] for line in logged]
    np.testing.assert_allclose([e.value for e in events.Scalars("loss")], [line["loss"] for line in logged], rtol=1e-6)
    assert [e.step for e in events.Images(name)] == [2, 4, 6]


def test_weights_and_biases_without_a_network(frames, tmp_path, monkeypatch):
    """Offline: everything is kept in the run's folder, from where `wandb sync` sends it."""
    from wandb.proto.wandb_internal_pb2 import Record
    from wandb.sdk.internal.datastore import DataStore

    monkeypatch.setenv("WANDB_MODE", "offline")
    pretrain("crw", frames, tmp_path, "--wandb", "corrbench-tests", "--pictures", 4)
    (file,) = (tmp_path / "wandb").glob("offline-run-*/*.wandb")
    store, records = DataStore(), []
    store.open_for_scan(str(file))
    while (data := store.scan_data()) is not None:
        record = Record()
        record.ParseFromString(data)
        records.append(record)
    (run,) = [r.run for r in records if r.WhichOneof("record_type") == "run"]
    assert (run.project, run.display_name) == ("corrbench-tests", "tiny-crw.smoke.seed0")
    found = {}
    for record in records:
        if record.WhichOneof("record_type") == "history":
            items = {i.key or ".".join(i.nested_key): json.loads(i.value_json) for i in record.history.item}
            found.setdefault(items["_step"], {}).update(items)
    assert {step: items["loss"] for step, items in found.items()} == {
        line["step"]: line["loss"] for line in lines_of(tmp_path)
    }
    assert found[4]["crw._type"] == "image-file"


class Broken(Sink):
    name = "a service that is away"

    def log(self, step, figures):
        raise OSError("no route to host")

    def picture(self, step, name, image):
        raise OSError("no route to host")


def test_a_sink_that_fails_ends_no_run(tmp_path, capsys):
    sinks = Sinks(Watch(pictures=1), tmp_path, title="t", identity="i", settings={}, step=0)
    sinks.sinks.append(Broken())
    for step in (1, 2):
        sinks.log(step, {"loss": 1.0})
        sinks.picture(step, "walk", lambda: np.zeros((4, 4, 3), np.uint8))
    assert capsys.readouterr().out.count("a service that is away: left out from now on (no route to host)") == 1
    assert sorted(p.name for p in (tmp_path / "pictures").iterdir()) == ["walk-0000001.png", "walk-0000002.png"]
    sinks.picture(3, "walk", lambda: 1 / 0)
    assert "pictures: left out" in capsys.readouterr().out and not sinks.wants_picture(4)
    sinks.close(complete=True)


def test_what_cannot_be_watched_is_refused(monkeypatch, tmp_path):
    for said in ({}, {"mode": "offline"}, {"project": "p", "mode": "of"}):
        with pytest.raises(Refusal, match=r"watch\.wandb"):
            Watch(wandb=said)
    monkeypatch.setitem(__import__("sys").modules, "wandb", None)
    with pytest.raises(Refusal, match=r"wandb is not installed(.|\n)*pip install wandb"):
        Sinks(Watch(wandb={"project": "p"}), tmp_path, title="t", identity="i", settings={}, step=0)


def panel(picture, row, column):
    """One picture of a grid, without its title."""
    top, left = row * (SIDE + 24) + 24, column * (SIDE + 6)
    return picture[top : top + SIDE, left : left + SIDE].astype(int)


def brightest(image, side):
    """The cell whose heat is strongest, of black frames."""
    cells = cv2.resize(image.sum(2).astype(np.float32), (side, side), interpolation=cv2.INTER_AREA)
    return tuple(int(i) for i in np.unravel_index(cells.argmax(), cells.shape))


def test_walks_are_drawn_where_they_lead():
    """Nodes move one cell to the right in every frame: walks follow, and all come home."""
    side, frames = 6, 3
    generator = torch.Generator().manual_seed(0)
    first = torch.nn.functional.normalize(torch.randn(32, side, side, generator=generator), dim=0)
    q = torch.stack([first.roll(t, 2) for t in range(frames)], 1).flatten(2)  # [C, T, N]
    picture = walk_picture(q, torch.zeros(frames, side * side, 3, 8, 8, dtype=torch.uint8), 0.02)
    start = int(0.5 * side)
    for t in (1, 2):
        assert brightest(panel(picture, 0, t), side) == (start, (start + t) % side)


def test_attention_is_drawn_where_it_points():
    """All weight on one place of the window: the reference's color there is copied, and the heat is there."""
    frames = torch.zeros(2, 3, 64, 64)
    weights = torch.zeros(25, 16, 16)
    weights[1 * 5 + 4] = 1  # one up, two to the right
    picture = attention_picture(frames, weights, 2)
    assert picture.shape[0] == 2 * (SIDE + 24)
    without_mark = panel(picture, 1, 0)
    heat = cv2.resize(
        (without_mark[..., 0] - without_mark[..., 2]).astype(np.float32), (16, 16), interpolation=cv2.INTER_AREA
    )
    assert np.unravel_index(heat.argmax(), heat.shape) == (8 - 1, 8 + 2)


def test_a_service_that_does_not_answer_ends_no_run(monkeypatch, capsys):
    """W&B's finish may wait for hours for a service that is away."""
    sink = WandB.__new__(WandB)
    blocked = threading.Event()
    sink.run = SimpleNamespace(finish=lambda exit_code: blocked.wait(), dir="runs/wandb/x")
    monkeypatch.setattr(watching, "PATIENCE", 0.2)
    before = time.monotonic()
    sink.close(complete=True)
    assert time.monotonic() - before < 5 and "wandb sync" in capsys.readouterr().out
    blocked.set()


def test_steps_of_an_abandoned_start_are_replaced(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    for value, steps in ((1.0, range(1, 6)), (2.0, range(1, 4))):
        sink = TensorBoard(tmp_path, 0)
        for step in steps:
            sink.log(step, {"loss": value})
        sink.close(complete=False)
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert [(e.step, e.value) for e in events.Scalars("loss")] == [(1, 2.0), (2, 2.0), (3, 2.0)]
