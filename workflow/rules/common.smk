"""What the rules share: the entries, canonical settings and the figures of this machine."""

import os
import re

from snakemake.logging import logger

from corrbench.config import Config
from corrbench.controller import stop, watch
from corrbench.benchmarks.base import TRACK
from corrbench.benchmarks.registry import benchmark_of, code_of
from corrbench.entries import WeightsId
from corrbench.errors import Refusal, explain
from corrbench.files import canonical_json, digest
from corrbench.outputs import MANIFEST
from corrbench.provenance import code_version
from corrbench.pretraining.recipe import pretrain_code
from corrbench.report.shown import audit_shown
from corrbench.report.targets import check_published, covered, target_files
from corrbench.tracking.protocol import Probe
from corrbench.waiting import note, told
from corrbench.workflow import Notes, gpu_count

try:
    # read by our own reader, which refuses what Snakemake's passes over: a key that stands twice, several files that differ
    CONFIG = Config.of_files(workflow.configfiles, workflow.config_settings.config)
    CONFIG.check_data()
    check_published(CONFIG)
except Exception as error:
    stop(explain(error) or error)

if workflow.is_main_process and (rows := covered(CONFIG)):
    logger.warning(rows)
if workflow.is_main_process and CONFIG.waiting:
    logger.warning(told(CONFIG.waiting))
if workflow.is_main_process and (missing := CONFIG.files_to_place()):
    paths = "".join(f"\n  {path}" for path in missing)
    logger.warning(
        f"Place by hand first, no program can fetch them (the method's row says where they are):{paths}"
    )


def notes():
    """What is remembered of files; a dry run writes nothing."""
    running = workflow.executor_plugin is not None and not workflow.dryrun
    return Notes(CONFIG.results / ".versions", keep=running)


# checkpoints that are gone after they were converted: nothing can convert them again, and their rows stay
GONE = CONFIG.converted_before()
FILES = [name for name in CONFIG.values["files"] if name not in GONE]


def stale():
    """What lies in the results folder and does not belong there."""
    try:
        found = audit_shown(CONFIG, notes())
        for path, why in found.items():
            if path.name == "report.json" and path.parent.name in GONE:
                raise Refusal(
                    f"{path}: {why}, and files.{path.parent.name} is gone",
                    expected="the checkpoint, to convert it again",
                    do="put the checkpoint back, or take its name out of `runs:`",
                )
        return found
    except Exception as error:
        stop(explain(error) or error)


if workflow.is_main_process:
    watch(workflow, stale, logger.warning)
    for name in GONE:
        logger.warning(f"files.{name} is gone; its rows stay as they were made.")

RESULTS = str(CONFIG.results)
SYNTHETIC = [b["name"] for b in CONFIG.all_benchmarks() if CONFIG.is_generated(b)]
DOWNLOADED = {
    b["name"]: b["data"] for b in CONFIG.all_benchmarks() if CONFIG.is_downloaded(b)
}
SCORED = [e for e in CONFIG.entries if e.measured_on.scored_here]
SEGMENTED = [e for e in CONFIG.entries if e.stage == "segment"]
GIVEN = [e for e in CONFIG.entries if e.stage == "import_masks"]
PACKED = [e for e in CONFIG.entries if not e.measured_on.scored_here]
# `auto`: on a cluster every job gets a GPU; on one machine, if it has one
ON_CLUSTER = "CORRBENCH_CLUSTER" in os.environ
if ON_CLUSTER and workflow.is_main_process:
    from corrbench.slurm.executor import take_over

    take_over()
AUTO = 1 if ON_CLUSTER else min(gpu_count(), 1)
GPUS = {"auto": AUTO, "cuda": 1, "cpu": 0}[CONFIG.values["device"]]
DEVICE = "cuda" if GPUS else "cpu"
# where jobs with a GPU go, of the variables that slurm/config.yaml lists
GPU_VARIABLES = {
    "slurm_partition": "CORRBENCH_SLURM_GPU_PARTITION",
    "gpu_model": "CORRBENCH_SLURM_GPU_MODEL",
}
GPU_PLACE = {
    resource: os.environ[name]
    for resource, name in GPU_VARIABLES.items()
    if ON_CLUSTER and GPUS and os.environ.get(name)
}

ALL = [b["name"] for b in CONFIG.all_benchmarks()]
BOXES = [b["name"] for b in CONFIG.all_benchmarks() if TRACK in benchmark_of(b).stages]
MASKS = [b for b in ALL if b not in BOXES]
SHARDS = {b: k for b, k in CONFIG.values["shards"].items() if b in MASKS and k > 1}
BENCHMARKS = list(dict.fromkeys(e.benchmark["name"] for e in SCORED))
REPORT = [
    f"{RESULTS}/table.csv",
    f"{RESULTS}/report.html",
    *(f"{RESULTS}/{e.benchmark['name']}/{e.id}/submission.zip" for e in PACKED),
]


wildcard_constraints:
    benchmark="[^/]+",
    entry="[^/]+",
    method="[^/]+",
    source="[^/]+",


def one_of(names):
    """A wildcard constraint."""
    return "|".join(map(re.escape, names)) or "none"


def benchmark_row(wildcards):
    return CONFIG.rows.benchmarks.get(wildcards.benchmark, "target")


def benchmark_settings(wildcards):
    return canonical_json(CONFIG.benchmark_settings(benchmark_row(wildcards)))


def propagate_settings(wildcards):
    entry = CONFIG.entry(wildcards.benchmark, wildcards.entry)
    return canonical_json(entry.propagate_settings())


# one entry id belongs to one kind of protocol, so an id decides the rule
PROPAGATED = f"(?!(?:{one_of(e.id for e in SEGMENTED + GIVEN)})/)[^/]+"


def stage_settings(wildcards):
    entry = CONFIG.entry(wildcards.benchmark, wildcards.entry)
    return canonical_json(entry.stage_settings)


def stage_code(wildcards):
    return CONFIG.entry(wildcards.benchmark, wildcards.entry).stage_code


def given_masks(wildcards):
    """The folder or archive of masks that somebody else made."""
    entry = CONFIG.entry(wildcards.benchmark, wildcards.entry)
    return str(entry.given.path(CONFIG.results))


def given_claim(wildcards):
    entry = CONFIG.entry(wildcards.benchmark, wildcards.entry)
    return canonical_json(entry.given.row.get("hash"))


def masks_address(wildcards):
    """Where an archive of masks is fetched; another row may name the same file."""
    rows = [e.given.row for e in GIVEN if e.given.row.get("file") == wildcards.file]
    row = next(r for r in rows if r["addresses"])
    return canonical_json(
        {k: row[k] for k in ("addresses", "size", "hash") if k in row}
    )


def given_version(wildcards):
    # masks that a rule fetches count by time, as any file that a rule makes
    return CONFIG.masks_version(
        CONFIG.entry(wildcards.benchmark, wildcards.entry), notes()
    )


def postprocess_settings(wildcards):
    entry = CONFIG.entry(wildcards.benchmark, wildcards.entry)
    return canonical_json(entry.postprocess_settings())


def weights_settings(wildcards):
    row = CONFIG.rows.methods.get(wildcards.method, "target")
    released = row.get("released")
    if released is not None:  # another address or license makes nothing stale
        released = {k: released[k] for k in ("family", "file", "hash")}
    return canonical_json({"encoder": row["encoder"], "released": released})


def checkpoint_file(wildcards):
    return str(CONFIG.checkpoint_path(WeightsId(wildcards.method, wildcards.source)))


def readable(path):
    """A file of the user's as an input, if Snakemake can read its name: braces are wildcards to it."""
    return [] if set("{}") & set(str(path)) else [str(path)]


def server_scores(entry):
    """What somebody noted of a submission, with the submission; nothing where nobody did."""
    folder = f"{RESULTS}/{entry.benchmark['name']}/{entry.id}"
    noted = Path(f"{folder}/server.yaml").is_file()
    return [f"{folder}/server.yaml", f"{folder}/submission.zip"] if noted else []


def checkpoint_input(wildcards):
    # your own files count by content (checkpoint_version): a touch or a copy makes nothing stale
    path = checkpoint_file(wildcards)
    if wildcards.source in CONFIG.values["files"]:
        return [ancient(name) for name in readable(path)]
    return path


def checkpoint_flags(wildcards):
    if wildcards.source == "released":
        return ["--released"]
    if wildcards.source not in CONFIG.values["files"]:
        return []
    file = CONFIG.values["files"][wildcards.source]
    entry = ["--container", file["container"]] if "container" in file else []
    return [*(["--trust-pickle"] if file["trust_pickle"] else []), *entry]


def weights_files(wildcards, name):
    entry = CONFIG.entry(wildcards.benchmark, wildcards.entry)
    return [f"{RESULTS}/weights/{w.path}/{name}" for w in entry.weights]


def probe_head(wildcards):
    """The trained layer of an entry."""
    folder = CONFIG.probe_folder(CONFIG.entry(wildcards.benchmark, wildcards.entry))
    return [] if folder is None else f"{folder}/checkpoint.pth"


def recipe_of(wildcards):
    if "probe" in wildcards.keys():
        row = CONFIG.rows.probes.get(wildcards.probe, "target")
        encoder = CONFIG.rows.methods.get(wildcards.method, "target")["encoder"]
        probe = Probe.from_row(row, CONFIG.rows.recipes)
        return probe.for_encoder(encoder).recipe
    return CONFIG.training.recipe(wildcards.recipe, wildcards.tier)


def recipe_start(wildcards):
    """The checkpoint that a recipe starts from."""
    recipe = recipe_of(wildcards)
    if recipe.start is not None:
        return f"{RESULTS}/weights/{recipe.start}/released/weights.pt"
    init = recipe.init
    if init is None:
        return []
    return str(
        CONFIG.training.run_folder(init, wildcards.tier, int(wildcards.seed))
        / "checkpoint.pth"
    )


def train_gpus(wildcards):
    return CONFIG.pretraining(wildcards.recipe)["gpus"]


def train_workers(wildcards):
    return CONFIG.pretraining(wildcards.recipe)["workers"]


def frames_root(wildcards):
    """Where the indexed frame folders or videos lie: made by the frames stage, or the user's own."""
    data = recipe_of(wildcards).data
    row = CONFIG.rows.datasets.get(data, "target")["videos"]
    if row["kind"] == "masks" or (row["kind"] == "videos" and row["extract"]):
        return f"{RESULTS}/frames/{data}"
    return str(CONFIG.training.video_root(data))


def frames_kind(wildcards):
    row = CONFIG.rows.datasets.get(recipe_of(wildcards).data, "target")["videos"]
    return "videos" if row["kind"] == "videos" and not row["extract"] else "frames"


def frames_version(wildcards):
    """The content of the lists that a data set has; folders of videos have none, and an index of them is made again by hand."""
    row = CONFIG.rows.datasets.get(wildcards.dataset, "target")["videos"]
    if wildcards.dataset in GENERATED:
        return ""
    roots = CONFIG.training.video_roots(wildcards.dataset)
    lists = {
        f"{key}/{part['list']}": roots[key] / part["list"]
        for part in row.get("parts", [])
        if part.get("list")
        for key in [part.get("data") or wildcards.dataset]
        if not CONFIG.training.is_downloaded(
            key
        )  # fetched by a rule, whose settings count
    }
    if "list" in row and not CONFIG.training.is_downloaded(wildcards.dataset):
        lists["list"] = roots[wildcards.dataset] / row["list"]
    if row["kind"] == "tracks":
        lists["list"] = roots[wildcards.dataset] / row["files"]
    return notes().version(lists) if lists else ""


def clip_roots(name):
    """Roots of a data set of clips with masks, its own as `own`; empty for other data sets."""
    if CONFIG.rows.datasets.get(name, "target")["videos"]["kind"] != "masks":
        return {}
    return {
        "own" if key == name else key: str(path)
        for key, path in CONFIG.training.video_roots(name).items()
    }


def frames_source(wildcards, input):
    """Where the videos lie."""
    roots = clip_roots(wildcards.dataset)
    if roots:
        return ["--roots", canonical_json(roots)]
    return ["--root", str(CONFIG.training.video_root(wildcards.dataset))]


def frames_links(wildcards, input):
    """Where the roots of clips lie now: one that moved makes nothing stale."""
    roots = clip_roots(recipe_of(wildcards).data)
    return ["--roots", canonical_json(roots)] if roots else []


def made_data(wildcards):
    """What stands for the folder of a data set that a rule makes."""
    if wildcards.benchmark in SYNTHETIC:
        return [f"{RESULTS}/data/{wildcards.benchmark}.settings.json"]
    if wildcards.benchmark in DOWNLOADED:
        return [f"{RESULTS}/data/{DOWNLOADED[wildcards.benchmark]}.settings.json"]
    return []


def made_settings(name):
    """What decides a data set that a rule makes, written beside it. It is not recorded, because settings and code are."""
    return canonical_json(CONFIG.made_data()[name])


def archive_settings(wildcards):
    archives = CONFIG.archives(wildcards.dataset)
    named = [a for a in archives if a["file"] == getattr(wildcards, "file", a["file"])]
    return canonical_json([[a["file"], a.get("hash"), a.get("size")] for a in named])


# Versions by content: what was only copied, moved or touched makes nothing stale.
def data_version(wildcards):
    if made_data(wildcards):
        return ""  # made by a rule, whose settings and code count
    row = benchmark_row(wildcards)
    root, sequences = CONFIG.data_root(row), CONFIG.sequences(row)
    try:
        return notes().version(benchmark_of(row).files(root, sequences, wildcards.kind))
    except Refusal as refusal:
        stop(refusal)


def checkpoint_version(wildcards):
    if wildcards.source not in CONFIG.values["files"]:
        return ""  # by time, as any file that a rule makes; the table compares its hash with the report's
    path = Path(CONFIG.values["files"][wildcards.source]["path"])
    return notes().version({"checkpoint": path})


def summaries(entries):
    """What propagation or tracking of these entries writes."""
    return [f"{RESULTS}/{e.benchmark['name']}/{e.id}/{e.summary}" for e in entries]


def of_entries(entries, name):
    return [f"{RESULTS}/{e.benchmark['name']}/{e.id}/{name}" for e in entries]


# Functions with an `input` argument are not recorded by Snakemake: a data set that moves, or a config whose relevant
# parts stay the same, makes nothing stale. What matters of them is in the recorded parameters beside.
def data_root(wildcards, input):
    return str(CONFIG.data_root(benchmark_row(wildcards)))


def masks_folder(wildcards, input):
    return str(Path(input.masks).parent)


def whole_config(wildcards, input):
    return canonical_json(CONFIG.values)
