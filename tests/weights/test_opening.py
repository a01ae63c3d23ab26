"""Files that are no checkpoint, by their content: each gets words of its own and a remedy that works."""

import argparse
import gzip
import os
import pathlib
import pickle
import shlex
import subprocess
import sys
import tarfile
import zipfile
from collections import OrderedDict, defaultdict

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from corrbench.errors import Refusal
from corrbench.tensors import load_tensors
from corrbench.weights.opening import read_checkpoint

STATE = {"conv1.weight": torch.arange(4.0), "bn1.num_batches_tracked": torch.tensor(3)}


def remedy(refusal):
    """Run the command that a refusal gives, as a user would paste it."""
    text = str(refusal.value)
    line = text[text.index("python -c ") :].partition(" (or open")[0]
    subprocess.run([sys.executable, *shlex.split(line)[1:]], check=True, capture_output=True)
    return shlex.split(line)[2].split('"')[-2]


def equal(found):
    return all(torch.equal(found[k], v) for k, v in STATE.items())


def save_tar(path):
    """torch's format of 2016: three members, as torchvision's resnet18-5c106cde.pth has them."""
    path.write_bytes(b"")
    with tarfile.open(path, "w:") as archive:
        for name in ("storages", "tensors", "pickle", "sys_info"):
            member = path.with_name(name)
            member.write_bytes(pickle.dumps(0, protocol=2))
            archive.add(member, name)


def test_the_tar_format_says_what_it_is(tmp_path):
    save_tar(tmp_path / "old.pth")
    with pytest.raises(
        Refusal, match=r"(?s)oldest format \(tar.*resnet18-f37072fd.pth.*resnet50-0676ba61.pth.*weights_only=False"
    ):
        read_checkpoint(tmp_path / "old.pth")
    with tarfile.open(tmp_path / "other.pth.tar", "w:") as archive:
        archive.add(tmp_path / "tensors", "model_best.pth")
    with pytest.raises(Refusal, match="tar archive with model_best.pth"):
        read_checkpoint(tmp_path / "other.pth.tar")


def test_safetensors_by_content(tmp_path):
    save_file(STATE, tmp_path / "model.pth")
    assert equal(read_checkpoint(tmp_path / "model.pth"))
    whole = (tmp_path / "model.pth").read_bytes()
    (tmp_path / "cut.safetensors").write_bytes(whole[:-3])
    with pytest.raises(Refusal, match="cut.safetensors: a safetensors file that is cut"):
        read_checkpoint(tmp_path / "cut.safetensors")
    torch.save(STATE, tmp_path / "torch.safetensors")
    assert equal(read_checkpoint(tmp_path / "torch.safetensors"))


def test_plain_objects_beside_tensors_are_let_in(tmp_path):
    beside = {
        "best": np.float64(70.0), "rng": np.random.get_state(),  # noqa: NPY002
        "array": np.arange(3), "args": argparse.Namespace(lr=0.1),
        "path": pathlib.PosixPath("/x"), "meters": defaultdict(list, {"a": [1]}), "order": OrderedDict(a=1),
    }  # fmt: skip
    for zipped in (True, False):
        torch.save({**beside, "state_dict": STATE}, tmp_path / "x.pth", _use_new_zipfile_serialization=zipped)
        assert equal(read_checkpoint(tmp_path / "x.pth")["state_dict"])


class Stranger:
    pass


class Bomb:
    def __reduce__(self):
        return os.system, ("true",)


def test_objects_that_are_not_plain(tmp_path):
    torch.save({"state_dict": STATE, "x": Bomb()}, tmp_path / "bomb.pth")
    with pytest.raises(Refusal, match="would run posix.system") as refusal:
        read_checkpoint(tmp_path / "bomb.pth")
    assert "--trust-pickle" not in str(refusal.value)
    Stranger.__module__ = "a_package_that_is_not_here"
    sys.modules["a_package_that_is_not_here"] = sys.modules[__name__]
    torch.save({"state_dict": STATE, "x": Stranger()}, tmp_path / "far.pth")
    del sys.modules["a_package_that_is_not_here"]
    with pytest.raises(Refusal, match="a_package_that_is_not_here cannot be imported here") as refusal:
        read_checkpoint(tmp_path / "far.pth")
    assert "--trust-pickle" not in str(refusal.value)
    with pytest.raises(Refusal, match="far.pth: ModuleNotFoundError"):
        read_checkpoint(tmp_path / "far.pth", trust_pickle=True)


def test_whole_modules_come_as_state_dicts_when_trusted(tmp_path):
    net = torch.nn.Sequential(torch.nn.Conv2d(1, 1, 1))
    for value in (net, {"model": net}):
        torch.save(value, tmp_path / "whole.pth")
        with pytest.raises(Refusal, match=r"(?s)whole pickled modules.*--trust-pickle"):
            read_checkpoint(tmp_path / "whole.pth")
        found = read_checkpoint(tmp_path / "whole.pth", trust_pickle=True)
        assert torch.equal(found.get("model", found)["0.weight"], net[0].weight)


def test_commands_of_remedies_work(tmp_path):
    folder = tmp_path / "it's a folder"
    folder.mkdir()
    torch.jit.script(torch.nn.Sequential(torch.nn.Conv2d(1, 1, 1))).save(folder / "scripted.pt")
    with pytest.raises(Refusal, match="a TorchScript archive") as refusal:
        read_checkpoint(folder / "scripted.pt")
    assert set(read_checkpoint(pathlib.Path(remedy(refusal)))) == {"0.weight", "0.bias"}
    (folder / "plain.pkl").write_bytes(pickle.dumps({"x": Bomb()}))
    with pytest.raises(Refusal, match="would run posix.system"):
        read_checkpoint(folder / "plain.pkl")
    (folder / "plain.pkl").write_bytes(pickle.dumps(STATE))
    with pytest.raises(Refusal, match="a plain pickle") as refusal:
        read_checkpoint(folder / "plain.pkl")
    assert equal(read_checkpoint(pathlib.Path(remedy(refusal))))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "an empty file"),
        (b"\n <!DOCTYPE html><html>", "a web page"),
        (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
        (gzip.compress(b"x", mtime=0), "gunzip"),
        (b"\0" * 5000, "begins with zeros"),
        (b"PK\x03\x04 cut", "is cut"),
        (b"some text", "not a readable checkpoint"),
    ],
)
def test_other_files(content, words, tmp_path):
    (tmp_path / "file.pth").write_bytes(content)
    with pytest.raises(Refusal, match="file.pth: ") as refusal:
        read_checkpoint(tmp_path / "file.pth")
    assert words in str(refusal.value) and "trust" not in str(refusal.value)


def test_folders_and_archives(tmp_path):
    with pytest.raises(Refusal, match="a folder"):
        read_checkpoint(tmp_path)
    (tmp_path / "__0_0.distcp").write_bytes(b"")
    with pytest.raises(Refusal, match="dcp_to_torch"):
        read_checkpoint(tmp_path)
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr("model.pth", "x")
    with pytest.raises(Refusal, match="unpack it"):
        read_checkpoint(tmp_path / "x.zip")


@pytest.mark.parametrize("read", [read_checkpoint, lambda path: load_tensors(path, "tensors")])
def test_one_flipped_bit_is_refused(read, tmp_path):
    path = tmp_path / "x.pth"
    torch.save({"a": torch.arange(4096.0)}, path)
    data = bytearray(path.read_bytes())
    data[data.index(torch.arange(9.0).numpy().tobytes()) + 4000] ^= 4
    path.write_bytes(data)
    torch.load(path, weights_only=True)  # torch itself does not notice
    with pytest.raises(Refusal, match="x.pth: a damaged file"):
        read(path)


def test_a_small_file_that_unpacks_to_gigabytes_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "x.pth", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x/data.pkl", bytes(20_000_000))
    with pytest.raises(Refusal, match="x.pth: a damaged file .*packed into"):
        read_checkpoint(tmp_path / "x.pth")
