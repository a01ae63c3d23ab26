"""Pretraining: frames from videos, then one job per recipe, tier and seed."""

VIDEOS = sorted({recipe.data for recipe in CONFIG.all_recipes()})
GENERATED = [name for name in VIDEOS if CONFIG.training.are_videos_generated(name)]


rule synthetic_videos:
    output:
        # beside the folder, which Snakemake would empty first: only the program knows what it may replace
        f"{RESULTS}/data/{{dataset}}.settings.json",
    log:
        f"{RESULTS}/logs/synthetic/{{dataset}}.log",
    wildcard_constraints:
        dataset=one_of(GENERATED),
    conda:
        "../../envs/corrbench.yaml"
    params:
        settings=lambda w: canonical_json(
            CONFIG.rows.datasets.get(w.dataset, "target")["videos"]["generate"]
        ),
        made=lambda w, input: made_settings(w.dataset),
        out=lambda w, output: output[0].removesuffix(".settings.json"),
        rows=lambda w, input: CONFIG.values["rows"],
        code=code_version("scripts/synthetic.py"),
    shell:
        "python -m scripts.synthetic --videos {wildcards.dataset} --rows {params.rows:q} --out {params.out:q}"
        " > {log:q} 2>&1 && printf '%s' {params.made:q} > {output:q}"


rule frames:
    input:
        lambda w: [
            f"{RESULTS}/data/{name}.settings.json"
            for name in CONFIG.training.roots_of(w.dataset)
            if name in GENERATED or CONFIG.training.is_downloaded(name)
        ],
    output:
        # the frame folders beside it are kept when a job dies: the next one goes on where it stopped
        f"{RESULTS}/frames/{{dataset}}/index.csv",
    log:
        f"{RESULTS}/logs/frames/{{dataset}}.log",
    wildcard_constraints:
        dataset=one_of(VIDEOS),
    conda:
        "../../envs/corrbench.yaml"
    threads: 16
    resources:
        mem_mb=lambda w, attempt: 8000 * min(attempt, 3),
        runtime=lambda w, attempt: 1440 * min(attempt, 3),
    params:
        settings=lambda w: canonical_json(
            {
                k: v
                for k, v in CONFIG.rows.datasets.get(w.dataset, "target")[
                    "videos"
                ].items()
                if k not in ("generate", "whole")
            }
        ),
        version=frames_version,
        root=frames_source,
        out=lambda w, output: str(Path(output[0]).parent),
        code=code_version("scripts/frames.py"),
    shell:
        "python -m scripts.frames --settings {params.settings:q} {params.root:q} --out {params.out:q}"
        " --workers {threads} > {log:q} 2>&1"


rule pretrain:
    input:
        index=lambda w: f"{RESULTS}/frames/{recipe_of(w).data}/index.csv",
        init=recipe_start,
    output:
        # last.pt and log.jsonl beside them are kept when a job dies: the next one goes on from there, and adds to the log
        checkpoint=f"{RESULTS}/pretrain/{{recipe}}/{{tier}}-seed{{seed}}/checkpoint.pth",
        record=f"{RESULTS}/pretrain/{{recipe}}/{{tier}}-seed{{seed}}/recipe.json",
    log:
        f"{RESULTS}/logs/pretrain/{{recipe}}/{{tier}}-seed{{seed}}.log",
    wildcard_constraints:
        tier="smoke|short|paper",
        seed=r"\d+",
    conda:
        "../../envs/corrbench.yaml"
    threads: lambda w: max(2, train_gpus(w) * (1 + train_workers(w)))
    resources:
        **GPU_PLACE,
        gpu=lambda w: train_gpus(w) if GPUS else 0,
        mem_mb=lambda w, attempt: 16000 * min(attempt, 3),
        runtime=1440,  # another attempt goes on where this one saved
    params:
        settings=lambda w: canonical_json(recipe_of(w).settings()),
        code=lambda w: pretrain_code(recipe_of(w).method),
        launch=lambda w, resources: (
            f"torch.distributed.run --standalone --signals-to-handle SIGTERM,SIGINT,SIGUSR1 --nproc-per-node {train_gpus(w)} -m "
            if GPUS and train_gpus(w) > 1
            else ""
        ),
        init=lambda w, input: ["--init", input.init] if input.init else [],
        seed=lambda w: int(w.seed),
        root=lambda w, input: frames_root(w),
        links=frames_links,
        kind=frames_kind,
        out=lambda w, output: str(Path(output[0]).parent),
        device=lambda w, input: DEVICE,
        workers=lambda w, input: train_workers(w),
        watch=lambda w, input: canonical_json(CONFIG.values["pretraining"]["watch"]),
    shell:
        "python -m scripts.gpu_slot {resources.gpu} --"
        " python -m {params.launch}scripts.pretrain --settings {params.settings:q} --seed {params.seed}"
        " --data {input.index:q} --root {params.root:q} {params.links:q} --kind {params.kind} {params.init:q} --out {params.out:q}"
        " --device {params.device} --workers {params.workers} --watch {params.watch:q} >> {log:q} 2>&1"
