"""Real runs whose rows come from elsewhere: scores of a server, and rows that wait for a file."""

import shutil
import subprocess

import warm
from conftest import ROOT
from flow import CONFIG, planned, snakemake, write

from corrbench.encoders.resnet import random_resnet
from corrbench.report.table import read_table

SERVED = {"methods": ["random-r18"], "weights": ["random"], "protocols": ["warm"], "benchmarks": ["tiny-server"]}


def test_rows_wait_until_their_file_is_placed_and_the_server_has_spoken(tmp_path):
    import torch
    import yaml

    released = {"family": "torchvision", "file": "placed.pth", "addresses": [], "hash": None, "license": "none"}
    row = {"base": "random-r18", "name": "gated", "released": released}
    (tmp_path / "rows/methods").mkdir(parents=True)
    (tmp_path / "rows/methods/gated.yaml").write_text(yaml.safe_dump(row))
    gated = {"methods": ["gated"], "weights": ["released"], "protocols": ["warm"], "benchmarks": ["tiny-val"]}
    write(tmp_path, {**CONFIG, "missing": "skip", "runs": [SERVED, gated]})

    snakemake(tmp_path, cores=2)
    results = tmp_path / "results"
    assert list(read_table(results / "table.csv")["entry"]) == ["random-r18.random.warm"]
    assert "gated.released.warm | tiny-val | the released file of gated" in (results / "table.md").read_text()
    assert "the released file of gated" in (results / "report.html").read_text()

    command = [
        warm.python(),
        "-m",
        "scripts.server_scores",
        results / "tiny-server/random-r18.random.warm",
        "--rows",
        ROOT / "tests/data/rows",
    ]
    said = subprocess.run(
        [*map(str, command), "--scores", "J&F=41.5", "J-mean=40", "F-mean=43"], cwd=ROOT, capture_output=True, text=True
    )
    assert said.returncode == 0, said.stderr
    assert set(planned(tmp_path)) == {"table", "report"}
    place = results / "downloads/gated/placed.pth"
    place.parent.mkdir(parents=True)
    torch.save(random_resnet("resnet18", seed=3), place)
    assert {"convert", "propagate", "evaluate", "table"} <= set(planned(tmp_path))
    snakemake(tmp_path, cores=2)
    table = read_table(results / "table.csv").set_index("entry")
    assert table.loc["random-r18.random.warm", "J&F"] == 41.5 and table.loc["random-r18.random.warm", "server_date"]
    assert table.loc["gated.released.warm", "J&F"] > 0 and "Waiting" not in (results / "table.md").read_text()
    assert "41.50" in (results / "report.html").read_text()
    assert not planned(tmp_path)

    zip_path = results / "tiny-server/random-r18.random.warm/submission.zip"
    shutil.copy(ROOT / "README.md", zip_path)  # as if its masks had changed
    refused = snakemake(tmp_path, "--forcerun", "table", "--", "results/table.csv", check=False)
    log = (results / "logs/table.log").read_text()
    assert refused.returncode != 0 and "scores of another submission" in log, log
