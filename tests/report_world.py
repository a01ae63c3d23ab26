"""Records as a finished run leaves them, made without running anything."""

import json

import torch
import yaml
from conftest import ROOT

from corrbench.benchmarks.registry import benchmark_of
from corrbench.config import Config
from corrbench.files import SEAL, file_hash, write_json, write_record
from corrbench.provenance import code_version
from corrbench.workflow import Notes

ROWS = ROOT / "tests/data/rows"


def config_of(folder, **changes):
    values = {
        "results": str(folder / "results"), "device": "cpu", "rows": [str(folder / "rows")], "data": {"davis2017": str(folder / "disk")},
        "files": {"mine": {"path": str(folder / "mine.pth")}},
        "runs": [{"methods": ["identity"], "weights": ["none"], "benchmarks": ["tiny-disk"]},
                 {"methods": ["random-r18"], "weights": ["random", "mine"], "protocols": ["warm"], "benchmarks": ["tiny-disk"]}],
    }  # fmt: skip
    return Config({**values, **changes})


def write_row(folder, kind, row):
    path = folder / "rows" / kind / f"{row['name']}.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(row))


def make(config):
    """Records as a finished run leaves them, without running anything."""
    results, notes = config.results, Notes(config.results / ".versions")
    (benchmark,) = config.all_benchmarks()
    settings = config.benchmark_settings(benchmark)
    for kind in ("inputs", "annotations"):
        files = benchmark_of(benchmark).files(config.data_root(benchmark), config.sequences(benchmark), kind)
        record = {**settings, "kind": kind, "fingerprint": f"print of {kind}", "version": notes.version(files)}
        write_record(results / "tiny-disk/data" / f"{kind}.json", record)
    for weights in config.all_weights():
        report = {"method": weights.method, "encoder": config.rows.methods.get(weights.method, "t")["encoder"], "seed": weights.seed,
                  "sha256": f"numbers of {weights.path}"}  # fmt: skip
        path = config.checkpoint_path(weights)
        if path is not None:
            report["source"] = {"file": path.name, "sha256": file_hash(path)}
        folder = results / "weights" / weights.path
        write_record(folder / "report.json", report)
        torch.save({"state_dict": {"w": torch.zeros(2)}, "extra": {}, "meta": report}, folder / "weights.pt")
    for entry in config.entries:
        folder = results / "tiny-disk" / entry.id
        record = {"settings": entry.stage_settings, "code": entry.stage_code, "inputs": "print of inputs",
                  "weights_sha256": [f"numbers of {w.path}" for w in entry.weights]}  # fmt: skip
        write_record(folder / "propagation.json", {"entry": entry.id, "key": entry.hash, "record": record})
        (folder / "masks/one").mkdir(parents=True)
        (folder / "masks/one/00000.png").write_bytes(entry.id.encode())
        masks = {"propagation": entry.hash, "settings": entry.postprocess_settings(), "code": code_version("scripts/postprocess.py"),
                 "files": {"one/00000.png": file_hash(folder / "masks/one/00000.png")}}  # fmt: skip
        write_record(folder / "masks/record.json", masks)
        made = {"annotations": "print of annotations", "code": code_version("scripts/evaluate.py"), "masks": masks}
        write_record(folder / "scores/scores.json", {"entry": entry.id, "global": {"J&F-Mean": 0.5}, "record": made})


def make_world(folder):
    """Results of three entries on one benchmark in a data root of the user's, below `folder`."""
    write_row(folder, "protocols", {"base": "crw", "name": "warm", "selection": {"temperature": 0.07}})
    row = yaml.safe_load((ROWS / "benchmarks/tiny-val.yaml").read_text())
    del row["generate"]
    write_row(folder, "benchmarks", {**row, "name": "tiny-disk", "data": "davis2017", "sequences": ["one"]})
    for kind, name in (("JPEGImages", "00000.jpg"), ("Annotations", "00000.png"), ("Annotations", "00001.png")):
        path = folder / "disk" / kind / "480p/one" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())
    (folder / "mine.pth").write_bytes(b"a checkpoint")
    make(config_of(folder))


def rewrite(path, change, *, seal=True):
    record = json.loads(path.read_text())
    del record[SEAL]
    change(record)
    write_record(path, record) if seal else write_json(path, {**record, SEAL: json.loads(path.read_text())[SEAL]})
