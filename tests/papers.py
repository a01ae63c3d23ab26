"""The benchmark of the papers at a tiny scale: a site with seeded files of the released structures, synthetic data in the official layouts.

The checkout keeps its rules, rows and default config; only counts (of sequences, frames, steps) are smaller, and addresses
lead to the site.
"""

import functools
import shutil
import threading
import zipfile
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import cv2
import numpy as np
import torch
import yaml
from flow import checkout_copy
from weights import checkpoints
from youtube import write_youtube_vos

from corrbench.datasets.davis import read_annotation
from corrbench.datasets.palette import save_mask
from corrbench.datasets.synthetic import write_davis
from corrbench.datasets.synthetic_tracks import write_got10k, write_otb

CASES = {
    "crw-r18": "crw", "fc-r18": "fc", "vfs-r18": "vfs-pretrain-r18", "vfs-r50": "vfs-pretrain", "imagenet-r18": "torchvision-r18",
    "imagenet-r50": "torchvision-r50", "moco-v1-r50": "moco", "simsiam-r50": "simsiam", "pixpro-r50": "pixpro", "liir-ape": "liir-ape",
    "liir-compact": "liir-compact", "liir-inter": "liir-inter", "liir-full": "liir-full", "mast": "mast", "mivos-s02": "mivos",
    "mivos-s012": "mivos", "vfs-r18-object": "vfs-tracking", "vfs-r50-object": "vfs-tracking-r50",
}  # fmt: skip
"""Released files of the default config, by method: which structure of tests/weights/checkpoints.py each has."""
DAVIS = {"height": 64, "width": 96, "frames": 4}
RESULTS = {
    "davis2016-val": ("D16_s02_notop", "D16_s02", "D16_s012_notop", "D16_s012"), "davis2017-val": ("D17_s02_notop", "D17_s02", "D17_s012_notop", "D17_s012"),
    "davis2017-test-dev": ("D17_testdev_s012", "D17_testdev_s012_km"), "ytvos2018-val": ("YV_2018_val_s02", "YV_2018_val_s012"),
    "ytvos2019-val": ("YV_val_s012", "YV_val_s012_km"),
}  # fmt: skip
"""MiVOS's own results, by benchmark."""


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


class Site:
    """Serves a folder on 127.0.0.1."""

    def __init__(self, folder):
        folder.mkdir(parents=True)
        self.folder = folder
        self.httpd = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(folder)))
        threading.Thread(target=self.httpd.serve_forever, daemon=True).start()

    def address(self, name):
        return f"http://127.0.0.1:{self.httpd.server_port}/{name}"

    def pack(self, name, root):
        """A zip file of what is below a folder, under the folder's own name."""
        with zipfile.ZipFile(self.folder / name, "w") as archive:
            for path in sorted(root.rglob("*")):
                archive.write(path, path.relative_to(root.parent))


def edit(path, change):
    """Read a row, let `change` work on it, write it."""
    row = yaml.safe_load(path.read_text())
    change(row)
    path.write_text(yaml.safe_dump(row, sort_keys=False))


def tiny_papers(folder):
    """(site, checkout): a checkout whose default config runs to its end in minutes."""
    site = Site(folder / "site")
    checkout = checkout_copy(folder / "checkout")
    rows, disk = checkout / "config", folder / "disk"
    _davis(site, rows, disk)
    _otb(site, rows, disk)
    _tracks(rows, disk)
    for year, name in ((2018, "youtube-vos-2018-val"), (2019, "youtube-vos-val")):
        write_youtube_vos(disk / name)
        edit(rows / f"benchmarks/ytvos{year}-val.yaml", lambda row: row.update(videos=2))
    _released(site, rows)
    _given(site, rows, disk, checkout / "results/downloads/masks")
    engine = checkout / "corrbench/segmentation/engine.py"
    engine.write_text(engine.read_text().replace("SHORT_SIDE = 480", "SHORT_SIDE = 96"))  # 480 costs a minute a video
    for name in ("vfs-r18", "dino"):
        path = rows / f"protocols/{name}.yaml"
        path.write_text(path.read_text().replace("pixels: 480", "pixels: 128"))
    pretrain = rows / "pretrain.yaml"
    pretrain.write_text(pretrain.read_text().replace("device: auto", "device: cpu"))
    config = rows / "config.yaml"
    text = config.read_text().replace("device: auto", "device: cpu")
    roots = "".join(f"  {key}: {disk / key}\n" for key in ("got10k", "youtube-vos-2018-val", "youtube-vos-val"))
    assert "  otb100: download\n" in text
    config.write_text(
        text.replace("  otb100: download\n", f"  otb100: download\n{roots}")
    )  # as a user names the root of a copy
    return site, checkout


def _davis(site, rows, disk):
    """DAVIS-2016 and 2017 as their archives unpack: two sequences of each split."""
    names = {}
    for split in ("davis2017-val", "davis2017-test-dev", "davis2016-val"):
        path = rows / f"benchmarks/{split}.yaml"
        names[split] = yaml.safe_load(path.read_text())["sequences"][:2]
        edit(path, lambda row: row.update(sequences=row["sequences"][:2], frames=2 * DAVIS["frames"] if row["frames"] else None,
                                          objects=2 if row["scoring"] == "single-object" else 4, id_gaps=[]))  # fmt: skip
    for name, split in (("davis2017-val", "val"), ("davis2017-test-dev", "test-dev")):
        root = disk / name / "DAVIS"
        write_davis(root, names[name], split=split, **DAVIS, seed=0 if split == "val" else 20)
        if split == "test-dev":
            for path in root.glob("Annotations/480p/*/*.png"):
                if path.stem != "00000":
                    path.unlink()
    for archive, name in (
        ("DAVIS-2017-trainval-480p.zip", "davis2017-val"),
        ("DAVIS-2017-test-dev-480p.zip", "davis2017-test-dev"),
    ):
        site.pack(archive, disk / name / "DAVIS")
    root = disk / "davis2016-val" / "DAVIS"
    write_davis(root, names["davis2016-val"], split="val", **DAVIS, seed=40)
    shutil.rmtree(root / "ImageSets")
    (root / "ImageSets/480p").mkdir(parents=True)
    lines = []
    for path in sorted(root.glob("Annotations/480p/*/*.png")):
        cv2.imwrite(str(path), (read_annotation(path) > 0).astype(np.uint8) * 255)
        place = f"480p/{path.parent.name}/{path.stem}"
        lines.append(f"/JPEGImages/{place}.jpg /Annotations/{place}.png")
    (root / "ImageSets/480p/val.txt").write_text("\n".join(lines) + "\n")
    site.pack("DAVIS-data.zip", root)
    for name in ("davis2016", "davis2017"):
        edit(rows / f"datasets/{name}.yaml", lambda row: _local(site, row, count=2))


def _local(site, row, count):
    for archive in row["archives"]:
        archive["addresses"] = [site.address(archive["file"])]
        archive.pop("hash", None)
        archive.pop("size", None)
    for part in row["layout"]:
        for key in ("count", "at_least"):
            if key in part:
                part[key] = min(part[key], count)


def _otb(site, rows, disk):
    """Three folders of OTB-100, one of them with two targets, each an archive of its own."""
    names = ["Basketball", "Car4", "Jogging"]
    write_otb(disk / "otb", names, frames=6, height=96, width=128)
    first = disk / "otb/Jogging/groundtruth_rect.txt"
    for i in (1, 2):
        shutil.copy(first, first.with_name(f"groundtruth_rect.{i}.txt"))
    first.unlink()
    targets = ["Basketball", "Car4", "Jogging.1", "Jogging.2"]
    edit(rows / "benchmarks/otb100.yaml", lambda row: row.update(sequences=targets, lengths=dict.fromkeys(targets, 6), ranges={}, frames=24))  # fmt: skip
    for name in names:
        site.pack(f"{name}.zip", disk / "otb" / name)

    def few(row):
        row["archives"] = [a for a in row["archives"] if a["file"].removesuffix(".zip") in names]
        _local(site, row, count=3)

    edit(rows / "datasets/otb100.yaml", few)


def _tracks(rows, disk):
    """GOT-10k's train split with six sequences; layers that are trained for two steps."""
    write_got10k(disk / "got10k", videos=6, frames=8, height=120, width=160)

    def six(row):
        row["videos"]["count"] = 6
        for part in row["layout"]:
            part["count"] = min(part["count"], 6)

    edit(rows / "datasets/got10k.yaml", six)
    for path in (rows / "recipes").glob("otb-probe-*.yaml"):
        edit(path, lambda row: row.update(batch=2, steps=2))


def _released(site, rows):
    """A seeded file for every released one, without the published hash."""
    saved = {}
    checkpoints.TRAINABLE = True
    for method, case in CASES.items():
        name = f"{method}.pth"
        if case not in saved:
            torch.save(checkpoints.build(case)[0], site.folder / name)
            saved[case] = name
        row = yaml.safe_load((rows / f"methods/{method}.yaml").read_text())
        row["released"] = {**row.get("released", {}), "addresses": [site.address(saved[case])], "hash": None}
        (rows / f"methods/{method}.yaml").write_text(yaml.safe_dump(row, sort_keys=False))
    checkpoints.TRAINABLE = False


def _given(site, rows, disk, placed):
    """Results of the authors: LIIR's four archives on the site, MiVOS's folders placed by hand. All are the truth, so each scores 100."""
    truth = disk / "davis2017-val/DAVIS/Annotations/480p"
    for path in (rows / "masks").glob("liir-*.yaml"):
        name = yaml.safe_load(path.read_text())["file"]
        site.pack(name, truth)
        edit(path, lambda row: row.update(addresses=[site.address(row["file"])]))
    for benchmark, names in RESULTS.items():
        for name in names:
            if benchmark.startswith("ytvos"):
                root = disk / ("youtube-vos-val" if "2019" in benchmark else "youtube-vos-2018-val")
                for image in root.glob("all_frames/valid_all_frames/JPEGImages/*/*.jpg"):  # as its program writes them
                    path = placed / "mivos-results" / name / image.parent.name / f"{image.stem}.png"
                    path.parent.mkdir(parents=True, exist_ok=True)
                    save_mask(path, np.ones((48, 48), np.uint8))
            else:
                root = disk / benchmark / "DAVIS"
                for image in root.glob("JPEGImages/480p/*/*.jpg"):
                    mask = root / "Annotations/480p" / image.parent.name / f"{image.stem}.png"
                    first = mask if mask.exists() else mask.with_name("00000.png")
                    path = placed / "mivos-results" / name / image.parent.name / mask.name
                    path.parent.mkdir(parents=True, exist_ok=True)
                    shutil.copy(first, path)
