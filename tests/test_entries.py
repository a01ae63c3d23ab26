"""Configs, rows and entries: ids, hashes, and every refusal with its nearest valid word."""

import copy

import pytest
import yaml
from conftest import ROOT

from corrbench.config import Config
from corrbench.errors import Refusal, nearest
from corrbench.pretraining.recipe import Recipe, check_options
from corrbench.report.targets import BAND, TRAINED_BAND, band_of, read_targets, target_of
from corrbench.rows import AllRows, merge, read_yaml

BASE = {
    "results": "r",
    "data": {"davis2017": "/data"},
    "files": {"mine": {"path": "/x.pth"}},
    "runs": [{"methods": ["crw-r18"], "weights": ["released"], "benchmarks": ["davis2017-val"]}],
}


def config(**change):
    return Config(merge(copy.deepcopy(BASE), change))


def run(**change):
    return {"runs": [{**BASE["runs"][0], **change}]}


@pytest.mark.parametrize("path", sorted((ROOT / "config").glob("*.yaml")), ids=lambda p: p.stem)
def test_shipped_configs(path):
    files = (
        [path.with_name("config.yaml"), path] if path.stem == "pretrain" else [path]
    )  # alone it waits for its videos
    entries = Config.of_files(files).entries
    assert len({e.key for e in entries}) == len(entries) >= (6 if path.stem in ("demo", "davis") else 10)


def test_every_row_is_valid():
    every = AllRows([])
    for kind in ("methods", "protocols", "benchmarks", "datasets", "recipes", "probes", "segmentation"):
        rows = getattr(every, kind)
        for name in rows:
            rows.get(name, "test")


def test_ids_and_grid():
    entries = config(
        **run(
            methods=["crw-r18", "vfs-r50"], weights=["released", "random", "random3", "mine"], protocols=["own", "dino"]
        )
    ).entries
    assert len(entries) == 16
    assert entries[0].id == "crw-r18.released.crw" and entries[-1].id == "vfs-r50.mine.dino"
    assert [w.seed for e in entries for w in e.weights][:4] == [None, None, 0, 0]


def test_fusion_needs_two_files_and_identity_none():
    entries = config(runs=[
        {"methods": ["sfc"], "weights": ["released"], "benchmarks": ["davis2017-val"]},
        {"methods": ["identity"], "weights": ["none"], "benchmarks": ["davis2017-val"]},
    ]).entries  # fmt: skip
    assert [w.path for w in entries[0].weights] == ["fc-r18/released", "moco-v1-r50/released"]
    assert [m["arch"] for m in entries[0].encoder["members"]] == ["resnet18", "resnet50"]
    assert entries[1].weights == ()


def test_hash_follows_what_decides_the_numbers():
    first = config().entries[0].hash
    assert config(results="elsewhere", data={"davis2017": "/moved"}).entries[0].hash == first
    assert config(**run(protocols=["sfc"])).entries[0].hash != first
    assert config(**run(weights=["random"])).entries[0].hash != first


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"device": "gpu"}, "'gpu'.*\n.*auto, cpu, cuda"),
        ({"devcie": "cpu"}, "unknown key 'devcie'\n.*did you mean 'device'"),
        ({"runs": "all"}, "'all' is a str\n.*array"),
        ({"data": {"davis17": "/x"}}, "davis17"),
        ({"files": {"mine": {"path": 3}}}, "3 is a int\n.*string"),
        ({"subsets": {"davis2017-val": ["dog", "dgo"]}}, None),
        (run(methods=["crw-18"]), "no row 'crw-18' in methods\n.*did you mean 'crw-r18'"),
        (run(protocols=["cwr"]), "no row 'cwr' in protocols\n.*did you mean 'crw'"),
        (run(benchmarks=["davis-2017"]), "no row 'davis-2017' in benchmarks\n.*did you mean 'davis2017-val'"),
        (run(weights=["relesed"]), "'relesed'\n.*did you mean 'released'"),
        (run(weights=["none"]), "'none'"),
        (run(methods=["random-r18"], weights=["released"]), "random-r18 has no released weights"),
        (run(methods=["identity"]), "'released' for identity\n.*none"),
        (run(methods=["sfc"], weights=["mine"]), "the file mine for the fusion sfc, which says for no member"),
        (run(protocols=["identity"]), "method crw-r18 with protocol identity"),
        (run(protocols=["own", "crw"]), "two entries with the id crw-r18.released.crw"),
        ({"files": {"released": {"path": "x"}}}, "a checkpoint named 'released'"),
        ({"files": {"random5": {"path": "x"}}}, "a checkpoint named 'random5'"),
        ({"files": {"short-seed1": {"path": "x"}}}, "a checkpoint named 'short-seed1'"),
        (run(methods=["moco-v1-r50"], weights=["paper"]), "moco-v1-r50 has no recipe"),
        (run(weights=["shrot"]), "'shrot'\n.*did you mean 'short'"),
        ({"pretraining": {"gpu": 2}}, "unknown key 'gpu'\n.*did you mean 'gpus'"),
        (run(methods=[]), r"\[\] should be non-empty"),
        ({"runs": [{"methods": ["crw-r18"], "weights": ["released"]}]}, "missing benchmarks"),
        ({"rows": ["/no/such/folder"]}, "no folder /no/such/folder"),
    ],
)
def test_bad_configs_are_refused(change, message):
    if message is None:
        broken = config(**change)
        with pytest.raises(Refusal, match="no sequence 'dgo'\n.*did you mean 'dog'"):
            broken.sequences(broken.all_benchmarks()[0])
        return
    with pytest.raises(Refusal, match=message) as refusal:
        config(**change)
    assert "what to do" in str(refusal.value)


def write_row(folder, kind, row):
    (folder / kind).mkdir(parents=True, exist_ok=True)
    path = folder / kind / f"{row['name']}.yaml"
    path.write_text(yaml.safe_dump(row))
    return path


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"name": "mine", "base": "crw-r81"}, "no base row 'crw-r81'\n?.*did you mean 'crw-r18'|no base row 'crw-r81'"),
        ({"name": "mine", "base": "mine"}, "round in a circle: mine -> mine"),
        ({"name": "mine", "base": "crw-r18", "encoder": {"arch": "resnet34"}}, "resnet34"),
        ({"name": "mine", "base": "crw-r18", "backbon": "x"}, "unknown key 'backbon'\n.*did you mean 'backbone'"),
        ({"name": "mine", "method": "x"}, "missing backbone"),
        (
            {"name": "mine", "base": "random-fusion", "encoder": {"members": ["random-r18", "random-hr"]}},
            "cannot be fused",
        ),
        ({"name": "mine", "base": "crw-r18", "encoder": {"strides": [2, 2, 1, 1]}}, "encoder.strides"),
        ({"name": "crw-r18", "method": "x"}, "a row of that name is in"),
    ],
)
def test_bad_rows_are_refused(tmp_path, row, message):
    write_row(tmp_path, "methods", row)
    with pytest.raises(Refusal, match=message):
        config(rows=[str(tmp_path)], **run(methods=[row["name"]], weights=["random"]))


def test_row_name_is_the_file_name(tmp_path):
    path = write_row(tmp_path, "methods", {"name": "mine", "base": "crw-r18"})
    path.rename(path.with_name("other.yaml"))
    with pytest.raises(Refusal, match="named 'mine'\n.*name: other"):
        config(rows=[str(tmp_path)])


def test_yaml_that_does_not_parse(tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text("runs: [")
    with pytest.raises(Refusal, match="not valid YAML"):
        read_yaml(path)
    with pytest.raises(Refusal, match="no such file"):
        Config.read(tmp_path / "none.yaml")
    path.write_text("3")
    with pytest.raises(Refusal, match="not a mapping"):
        Config.read(path)


def test_inheritance_changes_only_what_it_names(protocol):
    crw, sfc = protocol("crw"), protocol("sfc")
    assert (sfc.window.radius, sfc.selection.topk, sfc.selection.temperature) == (15, 15, 0.1)
    assert sfc.context == crw.context and sfc.labels == crw.labels and sfc.decode == crw.decode


def test_every_number_of_sfc_has_the_pass_of_its_harness_and_no_other_has():
    """SFC's loader moves the batch norm statistics: in the rows that are compared with its README, each member of the fusion too."""

    def row(target, end=""):
        values = {
            "methods": target.values["method"],
            "weights": target.values["weights"],
            "protocols": target.values["protocol"] + end,
        }
        return {**{k: [v] for k, v in values.items()}, "benchmarks": [target.benchmark]}

    def has_pass(entry):
        return {m.get("zero_image_pass", False) for m in entry.encoder.get("members", [entry.encoder])}

    known = [
        t
        for t in read_targets(config())
        if t.benchmark == "davis2017-val" and t.values["method"] and t.values["protocol"]
    ]
    known = [t for t in known if t.values["id"] != "crw-paper"]  # the same entry as crw
    theirs = [t for t in known if "Alxead/SFC" in t.values["source"]]
    assert [t.values["id"] for t in theirs] == [
        "crw-sfc",
        "sfc",
        "fc",
        "imagenet-r50-sfc",
        "moco-v1",
        "simsiam",
        "pixpro",
    ]
    chosen = config(runs=[*(row(t) for t in known), *(row(t, "-clean") for t in theirs)])
    entries, clean = chosen.entries[: len(known)], chosen.entries[len(known) :]
    for target, entry in zip(known, entries, strict=True):
        assert has_pass(entry) == {target in theirs}, target.values["id"]
        assert target_of(entry, known, subset=False) is target
    for entry, other in zip([e for t, e in zip(known, entries, strict=True) if t in theirs], clean, strict=True):
        assert has_pass(other) == {False} and other.encoder.keys() == entry.method["encoder"].keys()
        assert other.hash != entry.hash and entry.propagate_settings() != other.propagate_settings(), "measured anew"
        assert target_of(other, theirs, subset=False) is None, "no number of SFC's is measured so"


def test_missing_data_root_says_what_to_add():
    broken = Config({"runs": BASE["runs"]})
    with pytest.raises(
        Refusal, match=r"needs data.davis2017[\s\S]*`data: \{davis2017: /path\}` in the config[\s\S]*davischallenge"
    ):
        broken.data_root(broken.all_benchmarks()[0])


def test_pretrained_weights_and_the_runs_that_they_need(tmp_path):
    chosen = config(**run(methods=["sfc", "liir-full"], weights=["paper-seed1"]))
    sfc, liir = chosen.entries
    assert [w.path for w in sfc.weights] == ["fc-r18/paper-seed1", "moco-v1-r50/released"], "as SFC does"
    assert (liir.id, liir.tier) == ("liir-full.paper-seed1.liir-momen-compact", "paper (seed 1)")
    assert chosen.checkpoint_path(liir.weights[0]).as_posix() == "r/pretrain/liir-e/paper-seed1/checkpoint.pth"
    assert [r.name for r in chosen.all_recipes()] == ["fc", "liir-e", "liir-c-decoupled", "liir-a"]
    with pytest.raises(Refusal, match=r"needs data.youtube-vos[\s\S]*youtube-vos.org"):
        config(files={}, data={"davis2017": str(tmp_path)}, **run(methods=["fc-r18"], weights=["short"])).check_data()
    smoke = config(**run(weights=["smoke"]))
    assert (
        smoke.training.are_videos_generated("synthetic-videos")
        and smoke.training.video_root("synthetic-videos").as_posix() == "r/data/synthetic-videos"
    )


def test_a_probe_pads_as_its_network_was_trained():
    boxes = {"benchmarks": ["otb100"], "weights": ["random"], "protocols": ["own"]}
    data = {"data": {**BASE["data"], "otb100": "/o", "got10k": "/g"}}
    chosen = config(**data, **run(**boxes, methods=["crw-r18", "vfs-r18"]))
    crw, vfs = (e.probe for e in chosen.entries)
    assert crw.name == vfs.name == "siamfc-r18" and crw.hash != vfs.hash
    assert crw.track_settings()["options"]["padding"] == crw.recipe.settings()["options"]["padding"] == "reflect"
    assert "padding" not in vfs.track_settings()["options"]


def test_only_faithful_runs_are_compared_with_papers():
    chosen = config(**run(weights=["paper", "paper-seed2", "short", "smoke"]))
    targets = read_targets(chosen)
    assert [bool(target_of(e, targets, subset=False)) for e in chosen.entries] == [True, True, False, False]
    assert all(band_of(e) == TRAINED_BAND for e in chosen.entries)
    assert all(band_of(e) == BAND for e in config(**run(weights=["released", "random"])).entries)


def test_targets_are_matched_by_method_weights_and_rules():
    chosen = config(runs=[
        {"methods": ["crw-r18"], "weights": ["released", "random"], "protocols": ["crw", "fc", "dino"], "benchmarks": ["davis2017-val"]},
        {"methods": ["identity"], "weights": ["none"], "benchmarks": ["davis2017-val"]},
    ])  # fmt: skip
    targets = read_targets(chosen)
    found = {e.id: target_of(e, targets, subset=False) for e in chosen.entries}
    assert {k: v and v.values["id"] for k, v in found.items()} == {
        "crw-r18.released.crw": "crw", "crw-r18.released.fc": "crw-sfc", "crw-r18.released.dino": None,
        "crw-r18.random.crw": None, "crw-r18.random.fc": None, "crw-r18.random.dino": None, "identity.none.identity": "identity",
    }  # fmt: skip
    assert target_of(chosen.entries[0], targets, subset=True) is None
    crw = found["crw-r18.released.crw"]
    measured = [{"J&F": v} for v in (67.6, 67.906, 67.0, 66.0)]
    assert [crw.verdict(v, BAND) for v in measured] == ["reproduced", "reproduced", "close", "differs"]
    assert [crw.verdict(v, TRAINED_BAND) for v in measured] == [
        "reproduced",
        "reproduced",
        "reproduced",
        "differs",
    ]


def test_every_target_names_a_source_and_a_real_method():
    whole = config()
    targets = read_targets(whole)
    assert len(targets) > 35
    for target in targets:
        assert target.values["source"] and target.values["grade"] != "M"
        if target.values["method"]:
            whole.rows.methods.get(target.values["method"], "test")
        if target.values.get("J-Mean") and target.values.get("F-Mean"):
            mean = (target.values["J-Mean"] + target.values["F-Mean"]) / 2
            assert target.score == pytest.approx(mean, abs=0.31), target.values["id"]


def test_conda_pins_are_those_of_requirements():
    lock = {
        line.split(" ;")[0].strip() for line in (ROOT / "requirements.txt").read_text().splitlines() if "==" in line
    }
    for pin in yaml.safe_load((ROOT / "envs/corrbench.yaml").read_text())["dependencies"][-1]["pip"]:
        assert pin in lock


def test_nearest():
    assert nearest("temprature", ["temperature", "topk"]) == "did you mean 'temperature'?"
    assert nearest("zzz", ["a", "b"]) == "known names: a, b"


def test_stm_trains_in_float32_only():
    plain = Recipe.from_row(AllRows([]).recipes.get("stm-0", "test"), "smoke")
    check_options(plain)
    with pytest.raises(Refusal, match="precision: bf16"):
        check_options(Recipe.from_settings({**plain.settings(), "precision": "bf16"}))


def test_clips_need_parts_and_videos_need_files(tmp_path):
    def row(videos):
        (tmp_path / "datasets").mkdir(exist_ok=True)
        made = {"name": "mine", "title": "mine", "layout": [{"files": "*", "what": "all"}], "videos": videos}
        (tmp_path / "datasets/mine.yaml").write_text(yaml.safe_dump(made))
        return AllRows([tmp_path]).datasets.get("mine", "test")

    assert (
        row({"kind": "masks", "parts": [{"images": "a/*", "replace": ["a", "b"]}]})["videos"]["parts"][0]["repeat"] == 1
    )
    with pytest.raises(Refusal, match="files"):
        row({"kind": "frames"})
    with pytest.raises(Refusal, match="mine.yaml: videos"):
        row({"kind": "masks", "files": "a/*"})


@pytest.mark.parametrize(
    ("gpus", "method", "said"),
    [(8, "crw-r18", "batch of 20 of the recipe crw cannot be shared"), (4, "crw-r18", "5 clips each of the recipe crw, 10 per"),
     (3, "vfs-r18", "such as 2"), (2, "crw-r18", ""), (8, "vfs-r50", "")],
)  # fmt: skip
def test_a_batch_that_gpus_cannot_share_is_refused_while_planning(tmp_path, gpus, method, said):
    chosen = config(data={"davis2017": str(tmp_path), "kinetics400": str(tmp_path)}, pretraining={"gpus": gpus}, files={},
                    **run(methods=[method], weights=["paper"]))  # fmt: skip
    if said:
        with pytest.raises(Refusal, match=said):
            chosen.check_data()
    else:
        chosen.check_data()


def test_a_network_is_read_with_the_padding_that_it_was_trained_with(tmp_path):
    for kind, row in (("recipes", {"base": "crw", "name": "crw-zeros", "options": {"padding": "zeros"}}),
                      ("methods", {"base": "crw-r18", "name": "as-before", "recipe": "crw-zeros"}),
                      ("methods", {"base": "crw-r18", "name": "padded", "recipe": "crw-zeros", "encoder": {"padding": "zeros"}})):  # fmt: skip
        (tmp_path / kind).mkdir(exist_ok=True)
        (tmp_path / kind / f"{row['name']}.yaml").write_text(yaml.safe_dump(row))
    with pytest.raises(
        Refusal, match="reads its network with padding reflect, and the recipe crw-zeros trains it with zeros"
    ):
        config(rows=[str(tmp_path)], files={}, **run(methods=["as-before"], weights=["paper"]))
    assert config(rows=[str(tmp_path)], files={}, **run(methods=["padded"], weights=["paper"])).entries


def test_a_recipe_may_have_gpus_and_workers_of_its_own(tmp_path):
    said = {"gpus": 8, "workers": 4, "recipes": {"crw": {"gpus": 2}}}
    chosen = config(data={"davis2017": str(tmp_path), "kinetics400": str(tmp_path)}, pretraining=said, files={},
                    **run(methods=["crw-r18", "vfs-r18"], weights=["paper"]))  # fmt: skip
    chosen.check_data()
    assert chosen.pretraining("crw") == {"gpus": 2, "workers": 4} and chosen.pretraining("vfs-r18")["gpus"] == 8
    with pytest.raises(Refusal, match=r"pretraining.recipes: no row 'crv'(.|\n)*crw"):
        config(pretraining={"recipes": {"crv": {"gpus": 2}}})


def test_a_fusion_takes_a_file_for_the_member_that_it_names(tmp_path):
    file = {"mine": {"path": "/x.pth", "member": "moco-v1-r50"}}
    (entry,) = config(files=file, **run(methods=["sfc"], weights=["mine"])).entries
    assert [w.path for w in entry.weights] == ["fc-r18/released", "moco-v1-r50/mine"]
    with pytest.raises(Refusal, match=r"says for no member(.|\n)*fc-r18 or moco-v1-r50"):
        config(**run(methods=["sfc"], weights=["mine"]))
    (tmp_path / "methods").mkdir()
    row = {"base": "sfc", "name": "own", "encoder": {"members": ["fc-r50", "moco-v1-r50"]}}
    (tmp_path / "methods/own.yaml").write_text(yaml.safe_dump(row))
    with pytest.raises(Refusal, match="fc-r50 has no released weights"):
        config(rows=[str(tmp_path)], files=file, **run(methods=["own"], weights=["mine"]))
    with pytest.raises(Refusal, match="as its member crw-r18"):
        config(files={"mine": {"path": "/x.pth", "member": "crw-r18"}}, **run(methods=["sfc"], weights=["mine"]))


def test_what_a_tracker_cannot_read_is_refused(tmp_path):
    """Its backbone reads whole layers in RGB or Lab; another network's row would repeat the same number under its name."""
    for method, said in (("uvc-r18", "encoder.color: luminance"), ("vfs-r18-block0", "encoder.block: 0")):
        with pytest.raises(Refusal, match=said):
            config(
                files={},
                data={"otb100": str(tmp_path)},
                **run(methods=[method], weights=["random"], benchmarks=["otb100"]),
            )
    (tmp_path / "methods").mkdir()
    (tmp_path / "methods/deep.yaml").write_text("base: vfs-r18\nname: deep\nencoder: {block: 9}\n")
    with pytest.raises(Refusal, match="block: 9 of layer3(.|\n)*from 0 to 1"):
        config(rows=[str(tmp_path)], files={}, **run(methods=["deep"], weights=["random"]))
