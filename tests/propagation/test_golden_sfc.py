"""What SFC's own test code writes for a seeded file: the statistics after its loader, and masks pixel by pixel."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from corrbench.datasets.davis import Sequence
from corrbench.files import read_json
from corrbench.propagation.decode import decode
from corrbench.propagation.run import propagate_sequence
from corrbench.weights.canonical import save_weights
from corrbench.weights.convert import convert
from corrbench.weights.load import load_encoder

CPU = torch.device("cpu")
pytestmark = pytest.mark.realdata


@pytest.fixture(scope="module")
def golden(shared):
    return shared.parent / "golden" / "sfc"


@pytest.fixture(scope="module")
def fc(golden, methods, tmp_path_factory):
    """The network of method fc-r18 with the seeded file, as a protocol loads it."""
    row = methods.get("fc-r18", "test")["encoder"]
    path = tmp_path_factory.mktemp("weights") / "weights.pt"
    save_weights(path, convert(golden / "fc_seeded_r18.pth", encoder=row, method="fc-r18", family="fc"))
    return lambda rules: load_encoder(rules.encoder_row(row), [path], CPU)


def test_statistics_after_the_loader(golden, fc, protocol):
    reference = read_json(golden / "bn_after.json")
    file, moved = (
        {k.split(".", 1)[1]: v for k, v in fc(protocol(name)).state_dict().items()} for name in ("fc-clean", "fc")
    )
    assert len(reference) == 30 and reference.keys() <= moved.keys()
    for name, known in reference.items():
        np.testing.assert_allclose(file[name][:4], known["file_first4"], atol=1e-6, err_msg=name)
        np.testing.assert_allclose(moved[name][:4], known["after_first4"], atol=2e-6, err_msg=name)
        assert float(moved[name].double().sum()) == pytest.approx(known["after_sum"], rel=1e-5, abs=1e-5), name


@pytest.fixture(scope="module")
def data(golden, tmp_path_factory):
    root = tmp_path_factory.mktemp("sfc")
    subprocess.run([sys.executable, golden / "make_data.py", root / "data"], check=True)
    return root / "data"


@pytest.mark.parametrize("name", ["libby", "scooter-black"])
def test_masks_are_those_of_sfc(name, golden, data, fc, protocol):
    """Eight frames without one different pixel; with the statistics of the file 175 to 894 of 102,480 differ."""
    rules = protocol("fc")
    images = sorted((data / "JPEGImages/480p" / name).glob("*.jpg"))
    sequence = Sequence(name, tuple(images), (data / "Annotations/480p" / name / "00000.png",))
    different = []
    for t, (opening, scores) in enumerate(propagate_sequence(fc(rules), sequence, rules, CPU)):
        mask = decode(scores.permute(2, 0, 1), opening.ids, opening.sizes, rules.decode)
        different.append(int((mask != np.asarray(Image.open(golden / "masks" / name / f"{t:05d}.png"))).sum()))
    assert different == [0] * 8
