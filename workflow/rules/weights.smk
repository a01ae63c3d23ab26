"""Weights: released files are fetched and converted, pretrained and your own are converted, random ones are made."""


localrules:
    download,
    random_weights,
    download_masks,


rule download:
    output:
        f"{RESULTS}/downloads/{{method}}/{{file}}",
    log:
        f"{RESULTS}/logs/download/{{method}}/{{file}}.log",
    wildcard_constraints:
        method="(?!(?:datasets|masks)/)[^/]+",
        file="[^/]+",
    conda:
        "../../envs/corrbench.yaml"
    params:
        settings=lambda w: canonical_json(
            CONFIG.rows.methods.get(w.method, "target")["released"]
        ),
        rows=lambda w, input: CONFIG.values["rows"],
    shell:
        "python -m scripts.download --method {wildcards.method} --rows {params.rows:q} --out {output:q}"
        " > {log:q} 2>&1"


rule download_masks:
    output:
        f"{RESULTS}/downloads/masks/{{file}}",
    log:
        f"{RESULTS}/logs/download/masks/{{file}}.log",
    wildcard_constraints:
        file="[^/]+",
    conda:
        "../../envs/corrbench.yaml"
    params:
        settings=masks_address,
    shell:
        "python -m scripts.download --masks {params.settings:q} --out {output:q} > {log:q} 2>&1"


rule convert:
    input:
        checkpoint_input,
    output:
        weights=f"{RESULTS}/weights/{{method}}/{{source}}/weights.pt",
        report=f"{RESULTS}/weights/{{method}}/{{source}}/report.json",
    log:
        f"{RESULTS}/logs/convert/{{method}}.{{source}}.log",
    wildcard_constraints:
        source="|".join(["released", r"(smoke|short|paper)(-seed\d+)?", *FILES]),
    conda:
        "../../envs/corrbench.yaml"
    resources:
        mem_mb=lambda w, attempt: 4000 * min(attempt, 3),
        runtime=lambda w, attempt: 10 * min(attempt, 3),
    params:
        settings=weights_settings,
        version=checkpoint_version,
        checkpoint=lambda w, input: checkpoint_file(w),
        flags=checkpoint_flags,
        code=code_version("scripts/convert.py"),
    shell:
        "python -m scripts.convert --method {wildcards.method} --settings {params.settings:q}"
        " --checkpoint {params.checkpoint:q} {params.flags} --out {output.weights:q} > {log:q} 2>&1"


rule random_weights:
    output:
        weights=f"{RESULTS}/weights/{{method}}/{{source}}/weights.pt",
        report=f"{RESULTS}/weights/{{method}}/{{source}}/report.json",
    log:
        f"{RESULTS}/logs/convert/{{method}}.{{source}}.log",
    wildcard_constraints:
        source=r"random\d*",
    conda:
        "../../envs/corrbench.yaml"
    resources:
        mem_mb=lambda w, attempt: 2000 * min(attempt, 3),
        runtime=lambda w, attempt: 10 * min(attempt, 3),
    params:
        settings=weights_settings,
        seed=lambda w: WeightsId(w.method, w.source).seed,
        code=code_version("scripts/convert.py"),
    shell:
        "python -m scripts.convert --method {wildcards.method} --settings {params.settings:q}"
        " --seed {params.seed} --out {output.weights:q} > {log:q} 2>&1"
