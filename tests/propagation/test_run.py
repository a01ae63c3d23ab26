"""Whole sequences: streaming, resume, refusals, and the reference output of CRW on a real video."""

import subprocess
import sys
import time
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
from conftest import ROOT, TINY_ROW
from PIL import Image

from corrbench.datasets.davis import Sequence, known_of, read_annotation
from corrbench.datasets.doctor import diagnose
from corrbench.encoders.build import build
from corrbench.encoders.preprocess import Preprocess
from corrbench.errors import Refusal
from corrbench.files import read_json
from corrbench.machine import pick_device
from corrbench.propagation.decode import decode
from corrbench.propagation.folder import check_score_file
from corrbench.propagation.labels import first_labels
from corrbench.propagation.run import encode, propagate_benchmark, propagate_sequence
from corrbench.propagation.scoremaps import ScoreReader, ScoreWriter
from corrbench.weights.canonical import save_weights
from corrbench.weights.convert import convert
from corrbench.weights.load import load_encoder

CPU = torch.device("cpu")


@pytest.fixture
def random_net(methods):
    torch.manual_seed(0)
    return build(methods.get("random-r18", "test")["encoder"]).eval()


@pytest.mark.parametrize(
    "name", ["crw", "vfs-r18", "dino", "mast", "liir", "liir-momen-compact", "liir-ref1", "liir-ref2"]
)
def test_every_protocol_runs_and_rows_sum_to_one(name, protocol, tiny_davis, methods):
    torch.manual_seed(0)
    row = "random-hr" if name.startswith(("mast", "liir")) else "random-r18"
    encoder = methods.get(row, "test")["encoder"]
    net = build(encoder).eval()
    sequence = tiny_davis.sequence("three")
    sequence = replace(sequence, images=sequence.images[:3])  # 480 pixels and more each
    rules = protocol(name)
    frames = list(propagate_sequence(net, sequence, rules, CPU))
    assert len(frames) == len(sequence.images)
    for opening, scores in frames:
        mask = decode(scores.permute(2, 0, 1), opening.ids, opening.sizes, rules.decode)
        assert mask.shape == (48, 80) and mask.max() <= 3
        if rules.selection.topk:
            torch.testing.assert_close(scores.sum(-1), torch.ones(scores.shape[:2]), atol=1e-5, rtol=0)


def test_identity_copies_the_first_mask(protocol, tiny_davis):
    rules = protocol("identity")
    for opening, scores in propagate_sequence(None, tiny_davis.sequence("three"), rules, CPU):
        mask = decode(scores.permute(2, 0, 1), opening.ids, opening.sizes, rules.decode)
        assert np.array_equal(mask, opening.mask)


def test_a_cut_off_run_goes_on_where_it_stopped(protocol, tiny_davis, random_net, tmp_path):
    rules, folder, record = protocol("crw"), tmp_path / "labels", {"settings": 1}
    first = propagate_benchmark(random_net, tiny_davis, rules, CPU, folder, record=record)
    kept = (folder / "three.npz").stat().st_mtime_ns
    (folder / "one.npz").unlink()
    (folder / ".one.1.tmp.npz").write_bytes(b"half")  # what a killed job leaves: not a result
    again = propagate_benchmark(random_net, tiny_davis, rules, CPU, folder, record=record)
    assert (folder / "three.npz").stat().st_mtime_ns == kept
    assert again["frames"] == first["frames"] == 12
    other = propagate_benchmark(random_net, tiny_davis, rules, CPU, folder, record={"settings": 2})
    assert (folder / "three.npz").stat().st_mtime_ns != kept, "other settings: computed anew"
    assert other["key"] != first["key"]
    assert ScoreReader(folder / "three.npz").record["settings"] == 2


def test_sequences_of_a_larger_selection_are_removed(protocol, tiny_davis, random_net, tmp_path):
    folder = tmp_path / "labels"
    propagate_benchmark(random_net, tiny_davis, protocol("crw"), CPU, folder, record={"of": "a larger selection"})
    for suffix in (".npz", ".json"):
        (folder / f"three{suffix}").rename(folder / f"gone{suffix}")
    summary = propagate_benchmark(random_net, tiny_davis, protocol("crw"), CPU, folder, record={})
    assert {p.stem for p in folder.glob("*.npz")} == {"three", "one"} == set(summary["sequences"])


def test_score_file_is_an_ordinary_archive(protocol, tiny_davis, random_net, tmp_path):
    propagate_benchmark(random_net, tiny_davis, protocol("crw"), CPU, tmp_path / "labels", record={})
    with np.load(tmp_path / "labels" / "three.npz") as archive:
        assert archive["scores"].shape == (6, 4, 6, 10) and archive["scores"].dtype == np.float32
        assert list(archive["ids"]) == [0, 1, 2, 3]
        streamed = torch.stack(list(ScoreReader(tmp_path / "labels" / "three.npz"))).numpy()
        assert np.array_equal(archive["scores"], streamed)


@pytest.mark.parametrize("damage", [lambda b: b[: len(b) // 2], lambda b: b"PK" + b[2:60]])
def test_damaged_score_file_is_refused(damage, protocol, tiny_davis, random_net, tmp_path):
    propagate_benchmark(random_net, tiny_davis, protocol("crw"), CPU, tmp_path / "labels", record={})
    path = tmp_path / "labels" / "three.npz"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(Refusal, match="score file"):
        list(ScoreReader(path))


def break_image(path):
    path.write_bytes(b"no image")


def other_size(path):
    cv2.imwrite(str(path), np.zeros((40, 80, 3), np.uint8))


@pytest.mark.parametrize(
    ("damage", "frame", "message"),
    [(break_image, 3, "unreadable image"), (other_size, 3, "80x40 pixels")],
)
def test_bad_images_are_refused(damage, frame, message, protocol, tiny_davis, random_net):
    sequence = tiny_davis.sequence("one")
    damage(sequence.images[frame])
    with pytest.raises(Refusal, match=message) as refusal:
        list(propagate_sequence(random_net, sequence, protocol("crw"), CPU))
    assert "sequence one" in str(refusal.value)


def test_first_frame_without_objects_is_refused(protocol, tiny_davis, random_net):
    sequence = tiny_davis.sequence("one")
    Image.fromarray(np.zeros((48, 80), np.uint8)).save(sequence.annotations[0])
    with pytest.raises(Refusal, match="no object"):
        next(propagate_sequence(random_net, sequence, protocol("crw"), CPU))


def test_features_that_are_not_finite_are_refused(protocol):
    broken = torch.nn.Conv2d(3, 8, 8, stride=8)
    torch.nn.init.constant_(broken.weight, float("nan"))
    with pytest.raises(Refusal, match="not finite"):
        encode(broken, torch.rand(3, 48, 80), protocol("crw"))


def test_scores_that_are_not_finite_are_refused(tiny_davis, protocols):
    """Raw features overflow in float16: no mask may come of it."""
    from corrbench.propagation.protocol import Protocol
    from corrbench.rows import merge

    class Loud(torch.nn.Module):
        preprocess = Preprocess()
        stride = 4

        def forward(self, images):
            return torch.nn.functional.avg_pool2d(images, 4).repeat(1, 8, 1, 1) * 2000

    rules = Protocol.from_row(merge(protocols.get("mast", "test"), {"features": {"precision": "float16"}}))
    with pytest.raises(Refusal, match="not finite"):
        list(propagate_sequence(Loud(), tiny_davis.sequence("one"), rules, CPU))


@pytest.mark.gpu
@pytest.mark.parametrize("name", ["crw", "sfc", "vfs-r18", "dino", "mast", "liir", "liir-momen-compact"])
def test_cuda_equals_cpu_on_whole_sequences(name, protocol, tiny_davis, methods):
    torch.manual_seed(0)
    encoder = methods.get("random-hr" if name.startswith(("mast", "liir")) else "random-r18", "test")["encoder"]
    net = build(encoder).eval()
    pick_device("cuda")
    runs = [
        [s.cpu() for _, s in propagate_sequence(net.to(d), tiny_davis.sequence("three"), protocol(name), torch.device(d))]
        for d in ("cpu", "cuda")
    ]  # fmt: skip
    for a, b in zip(*runs, strict=True):
        assert ((a - b).abs().amax(-1) < 1e-3).float().mean() > 0.99


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_a_gpu_job_without_a_gpu_is_refused():
    with pytest.raises(Refusal, match="no GPU"):
        pick_device("cuda")


MEMORY = """
import sys, torch
from pathlib import Path
from corrbench.datasets.davis import Sequence
from corrbench.encoders.preprocess import Preprocess
from corrbench.propagation.protocol import Protocol
from corrbench.machine import peak_memory_mb
from corrbench.propagation.run import propagate_sequence
from corrbench.rows import Rows
images, annotation, repeats = sorted(Path(sys.argv[1]).glob("*.jpg")), Path(sys.argv[2]), int(sys.argv[3])
class Net(torch.nn.Module):
    preprocess = Preprocess()
    stride = 8
    def forward(self, x):
        return torch.nn.functional.avg_pool2d(x, 8).repeat(1, 64, 1, 1)
rules = Protocol.from_row(Rows([Path("config")], "protocols", "protocol").get("crw", "test"))
for _ in propagate_sequence(Net(), Sequence("s", tuple(images * repeats), (annotation,)), rules, torch.device("cpu")):
    pass
print(peak_memory_mb())
"""


def test_memory_does_not_grow_with_the_video(tiny_davis):
    sequence = tiny_davis.sequence("three")

    def peak(repeats):
        command = [sys.executable, "-c", MEMORY, sequence.images[0].parent, sequence.annotations[0], str(repeats)]
        done = subprocess.run(
            list(map(str, command)),
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
            env={"PYTHONPATH": str(ROOT), "PATH": ""},
        )
        return float(done.stdout)

    short, long = peak(5), peak(60)  # 30 and 360 frames: the context is full in both
    assert long < short + 20, f"{short:.0f} MB for 30 frames, {long:.0f} MB for 360"


@pytest.fixture(scope="module")
def golden(shared):
    return shared.parent / "golden" / "crw"


@pytest.mark.realdata
def test_golden_crw_output(golden, shared, methods, protocol, tmp_path):
    """CRW's own code on 12 frames of car-shadow: soft labels node by node, label maps pixel by pixel."""
    row = methods.get("crw-r18", "test")
    weights = convert(golden / "crw_random_r18.pt", encoder=row["encoder"], method="crw-r18", family="crw")
    save_weights(tmp_path / "weights.pt", weights)
    net = load_encoder(row["encoder"], [tmp_path / "weights.pt"], CPU)
    images = sorted((shared / "DAVIS-2016/JPEGImages/480p/car-shadow").glob("*.jpg"))[:12]
    sequence = Sequence("car-shadow", tuple(images), (golden / "annotation-00000.png",))
    rules = protocol("crw")
    reference = np.load(golden / "car-shadow.npz")
    labels, _ = first_labels(read_annotation(sequence.annotations[0]), (60, 107), rules.labels, stride=8)
    assert np.array_equal(labels, reference["label0_resized"]), "to the last bit"
    for t, (opening, scores) in enumerate(propagate_sequence(net, sequence, rules, CPU)):
        difference = np.abs(scores.numpy() - reference["soft_labels"][t]).max(-1)
        assert (difference <= 1e-5).mean() >= 0.999, t
        mask = decode(scores.permute(2, 0, 1), opening.ids, opening.sizes, rules.decode)
        expected = np.asarray(Image.open(golden / "car-shadow" / f"{t:05d}.png"))
        assert (mask != expected).sum() <= 10, t


@pytest.mark.realdata
def test_golden_inputs_and_features(golden, shared, methods, protocol, tmp_path):
    from corrbench.datasets.davis import read_image
    from corrbench.propagation.inputs import network_size, prepare

    row, rules = methods.get("crw-r18", "test"), protocol("crw")
    weights = convert(golden / "crw_random_r18.pt", encoder=row["encoder"], method="crw-r18")
    save_weights(tmp_path / "weights.pt", weights)
    net = load_encoder(row["encoder"], [tmp_path / "weights.pt"], CPU)
    image = prepare(
        read_image(shared / "DAVIS-2016/JPEGImages/480p/car-shadow/00000.jpg"), network_size(480, 854, rules.image), rules.image, net.preprocess
    )  # fmt: skip
    reference = np.load(golden / "car-shadow.npz")
    np.testing.assert_allclose(image[:, :16, :16], reference["image_frame0"], atol=1e-5)
    features = encode(net, image, rules).permute(2, 0, 1).numpy()
    corner = reference["feat_frame0"]
    matches = [
        np.abs(features[:, y : y + 4, x : x + 8] - corner).max()
        for y in range(0, 57) for x in range(0, 100)
    ]  # fmt: skip
    assert min(matches) < 1e-5


def test_timing_survives_a_resume(protocol, tiny_davis, random_net, tmp_path, monkeypatch):
    labels = tmp_path / "labels"
    write = ScoreWriter.write
    monkeypatch.setattr(ScoreWriter, "write", lambda *a: (time.sleep(0.1), write(*a)))  # a slow disk
    propagate_benchmark(random_net, tiny_davis, protocol("crw"), CPU, labels, record={})
    again = propagate_benchmark(random_net, tiny_davis, protocol("crw"), CPU, labels, record={})
    notes = [read_json(p)["done"] for p in labels.glob("*.json")]
    assert again["fps"] > 0 and again["seconds"] == sum(n["seconds"] for n in notes)
    # the rate is that of the network and the engine, frame 0 left out: reading, writing and start-up are not in it
    assert again["fps"] > again["frames"] / again["seconds"]
    assert all((n["frames"] - 1) / n["fps"] + 0.1 * n["frames"] < n["seconds"] for n in notes)


def test_equal_scores_are_equal_files(protocol, tiny_davis, random_net, tmp_path):
    for name in "ab":
        propagate_benchmark(random_net, tiny_davis, protocol("crw"), CPU, tmp_path / name, record={})
    assert (tmp_path / "a/one.npz").read_bytes() == (tmp_path / "b/one.npz").read_bytes()


@pytest.mark.parametrize("damage", ["flip", "other", "cut"])
def test_a_damaged_file_is_propagated_again(damage, protocol, tiny_davis, random_net, tmp_path):
    labels = tmp_path / "labels"
    first = propagate_benchmark(random_net, tiny_davis, protocol("crw"), CPU, labels, record={})
    path, data = labels / "one.npz", (labels / "one.npz").read_bytes()
    damaged = bytearray(data)
    damaged[len(data) // 2] ^= 1
    path.write_bytes({"flip": bytes(damaged), "other": (labels / "three.npz").read_bytes(), "cut": data[:1000]}[damage])
    with pytest.raises(Refusal, match=r"one\.npz"):
        check_score_file(path, first["sequences"]["one"]["sha256"], tmp_path / "propagation.json")
    propagate_benchmark(random_net, tiny_davis, protocol("crw"), CPU, labels, record={})
    assert path.read_bytes() == data


def test_foreign_files_in_the_folder_are_left_alone(protocol, tiny_davis, random_net, tmp_path):
    labels = tmp_path / "labels"
    labels.mkdir()
    for name, content in (("thesis.txt", "years"), ("other.npz", "precious")):
        (labels / name).write_text(content)
        with pytest.raises(Refusal, match=name):
            propagate_benchmark(random_net, tiny_davis, protocol("crw"), CPU, labels, record={})
        assert [p.name for p in labels.iterdir()] == [name] and (labels / name).read_text() == content
        (labels / name).unlink()


def test_a_frame_that_changes_after_the_check_is_refused(protocol, tiny_davis, random_net, tmp_path):
    diagnosis = diagnose(tiny_davis, dict(TINY_ROW), subset=False)
    known = known_of(tiny_davis.root, {"files": diagnosis.files("inputs"), "kind": "inputs"})
    davis = replace(tiny_davis, known=known)
    propagate_benchmark(random_net, davis, protocol("crw"), CPU, tmp_path / "labels", record={})
    image = davis.sequence("one").images[3]
    image.write_bytes(davis.sequence("one").images[2].read_bytes())
    with pytest.raises(Refusal, match=r"00003\.jpg: is another file"):
        list(propagate_sequence(random_net, davis.sequence("one"), protocol("crw"), CPU))
    image.unlink()
    (davis.root / "Annotations/480p/one/00003.png").unlink()
    with pytest.raises(Refusal, match=r"00003\.jpg: was added or removed"):
        davis.sequence("one")
