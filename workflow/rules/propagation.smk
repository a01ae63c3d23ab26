"""Label propagation, decoding and scores: one job per entry and stage."""


localrules:
    gather,


rule propagate:
    input:
        # the report has the hash of the weights: a copy of the same numbers makes nothing stale
        weights=lambda w: ancient(weights_files(w, "weights.pt")),
        reports=lambda w: weights_files(w, "report.json"),
        data=f"{RESULTS}/{{benchmark}}/data/inputs.json",
    output:
        # the score files beside it are kept when a job dies: the next one goes on where it stopped
        f"{RESULTS}/{{benchmark}}/{{entry}}/propagation.json",
    log:
        f"{RESULTS}/logs/propagate/{{benchmark}}/{{entry}}.log",
    wildcard_constraints:
        benchmark=one_of(b for b in MASKS if b not in SHARDS),
        entry=PROPAGATED,
    conda:
        "../../envs/corrbench.yaml"
    threads: 4
    resources:
        **GPU_PLACE,
        gpu=GPUS,
        mem_mb=lambda w, attempt: 6000 * min(attempt, 3),
        runtime=lambda w, attempt: 240 * min(attempt, 3),
    params:
        settings=propagate_settings,
        root=data_root,
        labels=lambda w: f"{RESULTS}/{w.benchmark}/{w.entry}/labels",
        part="",
        device=lambda w, input: DEVICE,
        code=code_version("scripts/propagate.py"),
    shell:
        "python -m scripts.gpu_slot {resources.gpu} --"
        " python -m scripts.propagate --entry {wildcards.entry} --settings {params.settings:q}"
        " --weights {input.weights:q} --data {input.data:q} --root {params.root:q} --labels {params.labels:q}"
        " --out {output:q} {params.part} --device {params.device} --threads {threads} > {log:q} 2>&1"


use rule propagate as propagate_part with:
    output:
        f"{RESULTS}/{{benchmark}}/{{entry}}/parts/{{part}}of{{parts}}.json",
    log:
        f"{RESULTS}/logs/propagate/{{benchmark}}/{{entry}}.{{part}}of{{parts}}.log",
    wildcard_constraints:
        benchmark=one_of(SHARDS),
        part=r"\d+",
        parts=r"\d+",
    params:
        settings=propagate_settings,
        root=data_root,
        labels=lambda w: f"{RESULTS}/{w.benchmark}/{w.entry}/labels",
        part=lambda w: f"--part {w.part}/{w.parts}",
        device=lambda w, input: DEVICE,
        code=code_version("scripts/propagate.py"),


rule gather:
    input:
        parts=lambda w: [
            f"{RESULTS}/{w.benchmark}/{w.entry}/parts/{i}of{SHARDS[w.benchmark]}.json"
            for i in range(SHARDS[w.benchmark])
        ],
        reports=lambda w: weights_files(w, "report.json"),
        data=f"{RESULTS}/{{benchmark}}/data/inputs.json",
    output:
        f"{RESULTS}/{{benchmark}}/{{entry}}/propagation.json",
    log:
        f"{RESULTS}/logs/gather/{{benchmark}}/{{entry}}.log",
    wildcard_constraints:
        benchmark=one_of(SHARDS),
        entry=PROPAGATED,
    conda:
        "../../envs/corrbench.yaml"
    params:
        settings=propagate_settings,
        labels=lambda w: f"{RESULTS}/{w.benchmark}/{w.entry}/labels",
        code=code_version("scripts/gather.py"),
    shell:
        "python -m scripts.gather --parts {input.parts:q} --labels {params.labels:q} --settings {params.settings:q}"
        " --reports {input.reports:q} --data {input.data:q} --out {output:q} > {log:q} 2>&1"


rule postprocess:
    input:
        f"{RESULTS}/{{benchmark}}/{{entry}}/propagation.json",
    output:
        # a file in the folder, for Snakemake would empty a folder; only the program knows what it may replace
        f"{RESULTS}/{{benchmark}}/{{entry}}/masks/record.json",
    log:
        f"{RESULTS}/logs/postprocess/{{benchmark}}/{{entry}}.log",
    wildcard_constraints:
        entry=PROPAGATED,
    group:
        "scores"
    conda:
        "../../envs/corrbench.yaml"
    threads: 2
    resources:
        mem_mb=lambda w, attempt: 2000 * min(attempt, 3),
        runtime=lambda w, attempt: 30 * min(attempt, 3),
    params:
        settings=postprocess_settings,
        labels=lambda w, input: str(Path(input[0]).parent / "labels"),
        out=lambda w, output: str(Path(output[0]).parent),
        code=code_version("scripts/postprocess.py"),
    shell:
        "python -m scripts.postprocess --propagation {input:q} --labels {params.labels:q}"
        " --settings {params.settings:q} --out {params.out:q} --workers {threads} > {log:q} 2>&1"


rule segment:
    input:
        weights=lambda w: ancient(weights_files(w, "weights.pt")),
        reports=lambda w: weights_files(w, "report.json"),
        data=f"{RESULTS}/{{benchmark}}/data/inputs.json",
    output:
        # the masks in segments/ beside them are kept when a job dies: the next one goes on where it stopped
        summary=f"{RESULTS}/{{benchmark}}/{{entry}}/propagation.json",
        masks=f"{RESULTS}/{{benchmark}}/{{entry}}/masks/record.json",
    log:
        f"{RESULTS}/logs/segment/{{benchmark}}/{{entry}}.log",
    wildcard_constraints:
        benchmark=one_of(MASKS),
        entry=one_of({e.id for e in SEGMENTED}),
    conda:
        "../../envs/corrbench.yaml"
    threads: 4
    resources:
        **GPU_PLACE,
        gpu=GPUS,
        mem_mb=lambda w, attempt: 12000 * min(attempt, 3),
        runtime=lambda w, attempt: 480 * min(attempt, 3),
    params:
        settings=stage_settings,
        root=data_root,
        work=lambda w: f"{RESULTS}/{w.benchmark}/{w.entry}/segments",
        masks=lambda w, output: str(Path(output.masks).parent),
        device=lambda w, input: DEVICE,
        code=stage_code,
    shell:
        "python -m scripts.gpu_slot {resources.gpu} --"
        " python -m scripts.segment --entry {wildcards.entry} --settings {params.settings:q}"
        " --weights {input.weights:q} --data {input.data:q} --root {params.root:q} --work {params.work:q}"
        " --masks {params.masks:q} --out {output.summary:q} --device {params.device} --threads {threads} > {log:q} 2>&1"


rule import_masks:
    input:
        given=lambda w: (
            given_masks(w) if CONFIG.entry(w.benchmark, w.entry).given.fetched else []
        ),
        data=f"{RESULTS}/{{benchmark}}/data/inputs.json",
    output:
        summary=f"{RESULTS}/{{benchmark}}/{{entry}}/propagation.json",
        masks=f"{RESULTS}/{{benchmark}}/{{entry}}/masks/record.json",
    log:
        f"{RESULTS}/logs/import_masks/{{benchmark}}/{{entry}}.log",
    wildcard_constraints:
        benchmark=one_of(MASKS),
        entry=one_of({e.id for e in GIVEN}),
    group:
        "scores"
    conda:
        "../../envs/corrbench.yaml"
    resources:
        mem_mb=lambda w, attempt: 2000 * min(attempt, 3),
        runtime=lambda w, attempt: 60 * min(attempt, 3),
    params:
        settings=stage_settings,
        version=lambda w: [f"--version={v}"] if (v := given_version(w)) else [],
        claim=given_claim,
        given=lambda w, input: given_masks(w),
        root=data_root,
        masks=lambda w, output: str(Path(output.masks).parent),
        code=stage_code,
    shell:
        "python -m scripts.import_masks --entry {wildcards.entry} --given {params.given:q} --settings {params.settings:q}"
        " {params.version} --claim {params.claim:q} --data {input.data:q} --root {params.root:q} --masks {params.masks:q} --out {output.summary:q} > {log:q} 2>&1"


rule submission:
    input:
        masks=f"{RESULTS}/{{benchmark}}/{{entry}}/masks/record.json",
        propagation=f"{RESULTS}/{{benchmark}}/{{entry}}/propagation.json",
        data=f"{RESULTS}/{{benchmark}}/data/inputs.json",
    output:
        f"{RESULTS}/{{benchmark}}/{{entry}}/submission.zip",
    log:
        f"{RESULTS}/logs/submission/{{benchmark}}/{{entry}}.log",
    group:
        "scores"
    conda:
        "../../envs/corrbench.yaml"
    params:
        masks=masks_folder,
        code=code_version("scripts/submission.py"),
    shell:
        "python -m scripts.submission --masks {params.masks:q} --propagation {input.propagation:q} --data {input.data:q} --out {output:q}"
        " > {log:q} 2>&1"


rule evaluate:
    input:
        masks=f"{RESULTS}/{{benchmark}}/{{entry}}/masks/record.json",
        propagation=f"{RESULTS}/{{benchmark}}/{{entry}}/propagation.json",
        data=f"{RESULTS}/{{benchmark}}/data/annotations.json",
    output:
        f"{RESULTS}/{{benchmark}}/{{entry}}/scores/global.csv",
        f"{RESULTS}/{{benchmark}}/{{entry}}/scores/per_object.csv",
        f"{RESULTS}/{{benchmark}}/{{entry}}/scores/per_frame.csv.gz",
        scores=f"{RESULTS}/{{benchmark}}/{{entry}}/scores/scores.json",
    log:
        f"{RESULTS}/logs/evaluate/{{benchmark}}/{{entry}}.log",
    wildcard_constraints:
        benchmark=one_of(MASKS),
    group:
        "scores"
    conda:
        "../../envs/corrbench.yaml"
    threads: 2
    resources:
        mem_mb=lambda w, attempt: 2000 * min(attempt, 3),
        runtime=lambda w, attempt: 30 * min(attempt, 3),
    params:
        root=data_root,
        masks=masks_folder,
        out=lambda w, output: str(Path(output.scores).parent),
        code=code_version("scripts/evaluate.py"),
    shell:
        "python -m scripts.evaluate --data {input.data:q} --root {params.root:q} --masks {params.masks:q}"
        " --propagation {input.propagation:q} --out {params.out:q}"
        " --workers {threads} > {log:q} 2>&1"
