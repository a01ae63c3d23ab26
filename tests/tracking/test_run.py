import numpy as np
import pytest
import torch
from conftest import SHARED
from tracks import make_tracks, make_weights, tiny_probe, train

from corrbench.datasets.otb import open_otb
from corrbench.datasets.synthetic_tracks import write_otb
from corrbench.errors import Refusal
from corrbench.files import canonical_json, read_record, write_record
from corrbench.tracking import run
from corrbench.tracking.run import Parts, stay, track_benchmark, track_together
from corrbench.weights.canonical import Weights, content_hash, load_weights, save_weights

CPU = torch.device("cpu")
NAMES = ["a", "b", "c"]


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    folder = tmp_path_factory.mktemp("parts")
    weights = make_weights(folder / "weights.pt")
    return Parts(
        canonical_json(tiny_probe().track_settings()),
        weights,
        train(make_tracks(folder / "tracks"), weights, folder / "run"),
    )


@pytest.fixture
def otb(tmp_path):
    write_otb(tmp_path / "otb", NAMES, frames=6, height=96, width=128)
    return open_otb(tmp_path / "otb", {}, NAMES)


def test_together_in_processes_or_one_by_one(otb, parts, tmp_path):
    tracks = [otb.track(n) for n in NAMES]
    network = parts.network(CPU)
    alone = {
        r.name: r
        for t in tracks
        for r in track_together(network, [t], parts.options(), parts.figures(), lanes=1, threads=1)
    }
    widths = []
    respond = network.responses
    network.responses = lambda kernels, crops: widths.append(len(kernels)) or respond(kernels, crops)
    together = {
        r.name: r for r in track_together(network, tracks, parts.options(), parts.figures(), lanes=2, threads=2)
    }
    assert set(alone) == set(together) == set(NAMES)
    assert max(widths) == 2  # never more than there are lanes
    for name in NAMES:
        np.testing.assert_allclose(together[name].boxes, alone[name].boxes, atol=1e-2)
        assert (together[name].seconds > 0).all()
    summary = track_benchmark(otb, parts, CPU, tmp_path / "boxes", record={"a": 1}, workers=2)
    for name in NAMES:
        np.testing.assert_allclose(
            np.loadtxt(tmp_path / f"boxes/{name}.txt", delimiter=","), alone[name].boxes, atol=1e-2
        )
        assert len(np.loadtxt(tmp_path / f"boxes/times/{name}_time.txt")) == 6
    assert (
        list(summary["sequences"]) == NAMES
        and summary["frames"] == 18
        and summary["fps"] > 0
        and summary["peak_ram_mb"] > 100
    )


def test_finished_targets_are_kept_and_nothing_stale_is(otb, tmp_path, monkeypatch):
    folder, tracked = tmp_path / "boxes", []
    monkeypatch.setattr(run, "stay", lambda track: tracked.append(track.name) or stay(track))

    def again(record):
        tracked.clear()
        track_benchmark(otb, None, CPU, folder, record=record, workers=1)
        return sorted(tracked)

    assert again({"x": 1}) == NAMES
    assert again({"x": 1}) == []
    (folder / "b.txt").unlink()
    (folder / "c.txt").write_text("1,1,1,1\n")  # edited since
    assert again({"x": 1}) == ["b", "c"]
    state = read_record(folder / "record.json")
    del state["sequences"]["a"]  # as a kill between two targets leaves it
    write_record(folder / "record.json", state)
    assert again({"x": 1}) == ["a"]
    assert again({"x": 2}) == NAMES
    (folder / "thesis.txt").write_text("years of work")
    with pytest.raises(Refusal, match=r"files that no tracking wrote \(thesis.txt\)"):
        again({"x": 3})
    (folder / "thesis.txt").unlink()
    (folder / "record.json").unlink()
    with pytest.raises(Refusal, match="holds files that no tracking wrote"):
        again({"x": 2})
    assert (folder / "a.txt").exists()


def test_a_run_killed_before_its_first_target_resumes(otb, tmp_path, monkeypatch):
    def killed(track):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(run, "stay", killed)
        with pytest.raises(KeyboardInterrupt):
            track_benchmark(otb, None, CPU, tmp_path / "boxes", record={}, workers=1)
    (tmp_path / "boxes/times").mkdir()
    (tmp_path / "boxes/times/.a_time.77-ab.tmp.txt").write_text("half")
    assert set(track_benchmark(otb, None, CPU, tmp_path / "boxes", record={}, workers=1)["sequences"]) == set(NAMES)
    assert not list((tmp_path / "boxes").rglob(".*"))


def test_stay_put(otb):
    result = stay(otb.track("a"))
    assert (result.boxes == result.boxes[0]).all() and len(result.boxes) == 6


def test_a_head_of_other_weights_is_refused(parts, tmp_path):
    other = Parts(parts.settings, make_weights(tmp_path / "other.pt", seed=3), parts.head)
    with pytest.raises(Refusal, match=r"checkpoint.pth: trained on the weights"):
        other.network(CPU)
    bare = Parts(parts.settings, parts.weights, None)
    with pytest.raises(Refusal, match="holds no layer of a tracker"):
        bare.network(CPU)


def test_a_released_layer_gives_the_same_boxes(otb, parts, tmp_path):
    """Weights that carry the layer, as the released tracking checkpoints do."""
    weights, head = load_weights(parts.weights), torch.load(parts.head, weights_only=True)["state_dict"]
    meta = {k: v for k, v in weights.meta.items() if k != "sha256"}
    released = Weights(weights.state_dict, {**weights.extra, **head}, meta)
    meta["sha256"] = content_hash(released)
    save_weights(tmp_path / "released.pt", released)
    there = Parts(parts.settings, tmp_path / "released.pt", None)
    track = [otb.track("a")]
    one, two = (
        next(track_together(p.network(CPU), track, p.options(), p.figures(), lanes=1, threads=1))
        for p in (parts, there)
    )
    np.testing.assert_array_equal(one.boxes, two.boxes)


def test_a_missing_image_is_named(otb, parts, tmp_path):
    tracks = [otb.track("a")]
    tracks[0].images[3].unlink()
    with pytest.raises(Refusal, match="0004.jpg: no such file"):
        list(track_together(parts.network(CPU), tracks, parts.options(), parts.figures(), lanes=1, threads=1))


@pytest.mark.gpu
def test_cuda_tracks_as_the_cpu(otb, parts):
    tracks = [otb.track(n) for n in NAMES]
    cpu, gpu = (
        {
            r.name: r.boxes
            for r in track_together(parts.network(d), tracks, parts.options(), parts.figures(), lanes=2, threads=2)
        }
        for d in (CPU, torch.device("cuda"))
    )
    for name in NAMES:
        np.testing.assert_allclose(gpu[name], cpu[name], atol=0.5)


@pytest.mark.realdata
def test_real_frames(parts):
    otb = open_otb(SHARED / "OTB", {}, ["Car4"])
    track = otb.track("Car4")
    short = type(track)(track.name, track.images[:8], track.boxes[:8])
    result = next(track_together(parts.network(CPU), [short], parts.options(), parts.figures(), lanes=1, threads=1))
    assert np.isfinite(result.boxes).all() and (result.boxes[:, 2:] > 0).all()
