"""STM in the flow: stages chained, masks scored or packed for a server, YouTube-VOS, and what a change makes stale there."""

import io
import json
import zipfile

import numpy as np
import pytest
import yaml
from flow import checkout_copy, planned_after, snakemake, write
from PIL import Image
from youtube import write_youtube_vos

from corrbench.report.table import read_table

RUNS = [
    {"methods": ["tiny-stm"], "weights": ["smoke"], "benchmarks": ["tiny-val"]},
    {"methods": ["random-stm"], "weights": ["random"], "protocols": ["small-ytvos"], "benchmarks": ["tiny-ytvos"]},
]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("segmentation")
    project = checkout_copy(folder / "project")
    for name in ("masks", "static"):
        path = project / f"config/datasets/synthetic-{name}.yaml"
        row = yaml.safe_load(path.read_text())
        row["videos"]["generate"] |= {"videos": 2, "frames": 4, "height": 48, "width": 64}
        path.write_text(yaml.safe_dump(row))
    engine = project / "corrbench/segmentation/engine.py"
    assert "SHORT_SIDE = 480" in engine.read_text()
    engine.write_text(engine.read_text().replace("SHORT_SIDE = 480", "SHORT_SIDE = 96"))  # 480 costs a minute a run
    write_youtube_vos(folder / "yv")
    for kind, row in (
        ("benchmarks", {"base": "ytvos2019-val", "name": "tiny-ytvos", "videos": 2}),
        ("segmentation", {"base": "mivos-ytvos", "name": "small-ytvos"}),
    ):
        (folder / "rows" / kind).mkdir(parents=True)
        (folder / "rows" / kind / f"{row['name']}.yaml").write_text(yaml.safe_dump(row))
    config = {
        "device": "cpu",
        "rows": ["project/tests/data/rows", "rows"],
        "runs": RUNS,
        "pretraining": {"workers": 0},
        "data": {"youtube-vos-val": "yv"},
    }
    write(folder, config)
    snakemake(folder, checkout=project)
    return folder


def test_rows_and_files(finished):
    results = finished / "results"
    table = read_table(results / "table.csv").set_index("entry")
    assert list(table.index) == ["tiny-stm.smoke.mivos", "random-stm.random.small-ytvos"]
    assert table.loc["tiny-stm.smoke.mivos", "J&F"] >= 0 and table.loc["tiny-stm.smoke.mivos", "tier"] == "smoke"
    rows = json.loads((results / "provenance.json").read_text())["rows"]
    assert (
        set(rows[0]["stages"]) == {"segment", "evaluate"}
        and rows[0]["pretraining"][0]["recipe"]["init"] == "tiny-stm-0"
    )
    assert (results / "tiny-val/tiny-stm.smoke.mivos/overlay.png").is_file()


def test_the_zip_of_youtube_vos(finished):
    path = finished / "results/tiny-ytvos/random-stm.random.small-ytvos/submission.zip"
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        masks = {n: np.array(Image.open(io.BytesIO(archive.read(n)))) for n in names}
    scored = [f"Annotations/{video}/{t:05d}.png" for video in ("first", "second") for t in (0, 2, 4)]
    assert 5 in masks["Annotations/second/00002.png"] and 5 not in masks["Annotations/second/00000.png"]
    assert names == scored and all(m.shape == (48, 48) for m in masks.values())


CHANGES = [
    ("the rules of another row", "config/segmentation/mivos-km.yaml", "sigma: 5.6", "sigma: 5.0", {}),
    ("the rules of mask propagation", "config/segmentation/mivos.yaml", "name: mivos", "name: mivos\nevery: 4", {"segment": 2, "submission": 1, "evaluate": 1, "overlays": 1, "table": 1, "plots": 1, "report": 1}),
    ("a recipe of the first stage", "tests/data/rows/recipes/tiny-stm-0.yaml", "crop: 32", "crop: 48", {"pretrain": 2, "convert": 1, "segment": 1, "evaluate": 1, "overlays": 1, "table": 1, "plots": 1, "report": 1}),
    ("the code of the engine", "corrbench/segmentation/engine.py", "4 * 480 * 864", "5 * 480 * 864", {"segment": 2, "submission": 1, "evaluate": 1, "overlays": 1, "table": 1, "plots": 1, "report": 1}),
    ("the code of label propagation", "corrbench/propagation/softmax.py", "def ", "X = 1\n\n\ndef ", {}),
]  # fmt: skip


@pytest.mark.parametrize(("change", "file", "old", "new", "expected"), CHANGES, ids=[c[0] for c in CHANGES])
def test_what_a_change_makes_stale(finished, tmp_path, change, file, old, new, expected):
    assert planned_after(finished, file, old, new, tmp_path) == expected


def test_refused_while_planning(finished):
    def said(runs, **more):
        config = yaml.safe_load((finished / "config.yaml").read_text()) | {"runs": [runs], **more}
        (finished / "other.yaml").write_text(yaml.safe_dump(config))
        done = snakemake(
            finished, "-n", "--configfile", finished / "other.yaml", check=False, checkout=finished / "project"
        )
        assert done.returncode
        return done.stdout + done.stderr

    encoder = {"methods": ["random-r18"], "weights": ["random"], "benchmarks": ["tiny-ytvos"]}
    assert "whose objects start in different frames" in said(encoder)
    assert "a protocol of encoders, and this is an STM network" in said(
        {"methods": ["random-stm"], "weights": ["random"], "protocols": ["crw"], "benchmarks": ["tiny-val"]}
    )
    assert "rules of an STM network, and this is an encoder" in said(
        {"methods": ["random-r18"], "weights": ["random"], "protocols": ["mivos"], "benchmarks": ["tiny-val"]}
    )
    assert "own size" in said({**RUNS[1], "protocols": ["mivos"]})
    assert "2 videos" in said({**RUNS[1], "benchmarks": ["ytvos2019-val"]})
