"""The tracking probe: one layer trained for each weights file, then boxes, scores and pictures."""


use rule pretrain as probe with:
    input:
        index=lambda w: f"{RESULTS}/frames/{recipe_of(w).data}/index.csv",
        # the report has the hash of the weights: a copy of the same numbers makes nothing stale
        init=ancient(f"{RESULTS}/weights/{{method}}/{{source}}/weights.pt"),
        report=f"{RESULTS}/weights/{{method}}/{{source}}/report.json",
    output:
        checkpoint=f"{RESULTS}/probe/{{method}}/{{source}}/{{probe}}/checkpoint.pth",
        record=f"{RESULTS}/probe/{{method}}/{{source}}/{{probe}}/recipe.json",
    log:
        f"{RESULTS}/logs/probe/{{method}}.{{source}}.{{probe}}.log",
    wildcard_constraints:
        probe="[^/]+",
    threads: lambda w: max(2, 1 + CONFIG.pretraining(recipe_of(w).name)["workers"])
    resources:
        **GPU_PLACE,
        gpu=GPUS,
        mem_mb=lambda w, attempt: 16000 * min(attempt, 3),
        runtime=1440,  # another attempt goes on where this one saved
    params:
        settings=lambda w: canonical_json(recipe_of(w).settings()),
        code=lambda w: pretrain_code(recipe_of(w).method),
        launch="",  # one process, as in the reference: the loss is normalized over the whole batch
        init=lambda w, input: ["--init", input.init],
        root=lambda w, input: frames_root(w),
        links="",
        kind="frames",
        seed=lambda w: CONFIG.rows.probes.get(w.probe, "target")["seed"],
        out=lambda w, output: str(Path(output[0]).parent),
        device=lambda w, input: DEVICE,
        workers=lambda w, input: CONFIG.pretraining(recipe_of(w).name)["workers"],
        watch=lambda w, input: canonical_json(CONFIG.values["pretraining"]["watch"]),


rule track:
    input:
        weights=lambda w: ancient(weights_files(w, "weights.pt")),
        reports=lambda w: weights_files(w, "report.json"),
        head=probe_head,
        data=f"{RESULTS}/{{benchmark}}/data/inputs.json",
    output:
        # the box files beside it are kept when a job dies: the next one goes on where it stopped
        f"{RESULTS}/{{benchmark}}/{{entry}}/tracking.json",
    log:
        f"{RESULTS}/logs/track/{{benchmark}}/{{entry}}.log",
    wildcard_constraints:
        benchmark=one_of(BOXES),
    conda:
        "../../envs/corrbench.yaml"
    threads: 8
    resources:
        **GPU_PLACE,
        gpu=GPUS,
        mem_mb=lambda w, attempt: 12000 * min(attempt, 3),
        runtime=lambda w, attempt: 240 * min(attempt, 3),
    params:
        settings=stage_settings,
        root=data_root,
        weights=lambda w, input: ["--weights", *input.weights] if input.weights else [],
        head=lambda w, input: ["--head", input.head] if input.head else [],
        boxes=lambda w: f"{RESULTS}/{w.benchmark}/{w.entry}/boxes",
        device=lambda w, input: DEVICE,
        code=code_version("scripts/track.py"),
    shell:
        "python -m scripts.gpu_slot {resources.gpu} --"
        " python -m scripts.track --entry {wildcards.entry} --settings {params.settings:q}"
        " {params.weights:q} {params.head:q} --data {input.data:q} --root {params.root:q} --boxes {params.boxes:q}"
        " --out {output:q} --device {params.device} --workers {threads} > {log:q} 2>&1"


rule evaluate_boxes:
    input:
        tracking=f"{RESULTS}/{{benchmark}}/{{entry}}/tracking.json",
        data=f"{RESULTS}/{{benchmark}}/data/annotations.json",
    output:
        f"{RESULTS}/{{benchmark}}/{{entry}}/scores/global.csv",
        f"{RESULTS}/{{benchmark}}/{{entry}}/scores/per_sequence.csv",
        f"{RESULTS}/{{benchmark}}/{{entry}}/scores/performance.json",
        scores=f"{RESULTS}/{{benchmark}}/{{entry}}/scores/scores.json",
    log:
        f"{RESULTS}/logs/evaluate/{{benchmark}}/{{entry}}.log",
    wildcard_constraints:
        benchmark=one_of(BOXES),
    group:
        "scores"
    conda:
        "../../envs/corrbench.yaml"
    resources:
        mem_mb=lambda w, attempt: 2000 * min(attempt, 3),
        runtime=lambda w, attempt: 30 * min(attempt, 3),
    params:
        root=data_root,
        boxes=lambda w: f"{RESULTS}/{w.benchmark}/{w.entry}/boxes",
        out=lambda w, output: str(Path(output.scores).parent),
        code=code_version("scripts/evaluate_boxes.py"),
    shell:
        "python -m scripts.evaluate_boxes --data {input.data:q} --root {params.root:q} --boxes {params.boxes:q}"
        " --entry {wildcards.entry} --tracking {input.tracking:q} --out {params.out:q} > {log:q} 2>&1"


rule overlays_boxes:
    input:
        tracking=f"{RESULTS}/{{benchmark}}/{{entry}}/tracking.json",
        data=f"{RESULTS}/{{benchmark}}/data/annotations.json",
        scores=f"{RESULTS}/{{benchmark}}/{{entry}}/scores/scores.json",
    output:
        report(
            f"{RESULTS}/{{benchmark}}/{{entry}}/overlay.png",
            caption="../report/boxes.rst",
            category="Overlays",
            subcategory="{benchmark}",
            labels={"entry": "{entry}"},
        ),
        report(
            f"{RESULTS}/{{benchmark}}/{{entry}}/curves.png",
            caption="../report/curves.rst",
            category="Plots",
            subcategory="{benchmark}",
            labels={"plot": "curves of {entry}"},
        ),
    log:
        f"{RESULTS}/logs/overlays/{{benchmark}}/{{entry}}.log",
    wildcard_constraints:
        benchmark=one_of(BOXES),
    group:
        "scores"
    conda:
        "../../envs/corrbench.yaml"
    resources:
        mem_mb=lambda w, attempt: 2000 * min(attempt, 3),
        runtime=lambda w, attempt: 10 * min(attempt, 3),
    params:
        root=data_root,
        boxes=lambda w: f"{RESULTS}/{w.benchmark}/{w.entry}/boxes",
        code=code_version("scripts/overlays_boxes.py"),
    shell:
        "python -m scripts.overlays_boxes --data {input.data:q} --root {params.root:q} --boxes {params.boxes:q}"
        " --tracking {input.tracking:q} --scores {input.scores:q} --title {wildcards.entry:q} --out {output:q} > {log:q} 2>&1"
