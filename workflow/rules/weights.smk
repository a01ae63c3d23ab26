"""Weights: released files are fetched and converted, your own are converted, random ones are made."""


localrules:
    download,


rule download:
    output:
        f"{RESULTS}/downloads/{{method}}/{{file}}",
    log:
        f"{RESULTS}/logs/download/{{method}}/{{file}}.log",
    conda:
        "../../envs/corrbench.yaml"
    params:
        settings=lambda w: canonical_json(
            CONFIG.methods.get(w.method, "target")["released"]
        ),
        rows=lambda w, input: CONFIG.values["rows"],
    shell:
        "python {SCRIPTS}/download.py --method {wildcards.method} --rows {params.rows:q} --out {output:q}"
        " > {log:q} 2>&1"


def checkpoint_file(wildcards):
    if wildcards.source == "released":
        name = CONFIG.methods.get(wildcards.method, "target")["released"]["file"]
        return f"{RESULTS}/downloads/{wildcards.method}/{name}"
    return CONFIG.values["files"][wildcards.source]["path"]


def checkpoint_flags(wildcards):
    if wildcards.source == "released":
        return []
    trust = CONFIG.values["files"][wildcards.source]["trust_pickle"]
    return ["--any-family", *(["--trust-pickle"] if trust else [])]


rule convert:
    input:
        checkpoint_file,
    output:
        weights=f"{RESULTS}/weights/{{method}}/{{source}}/weights.pt",
        report=f"{RESULTS}/weights/{{method}}/{{source}}/report.json",
    log:
        f"{RESULTS}/logs/convert/{{method}}.{{source}}.log",
    conda:
        "../../envs/corrbench.yaml"
    wildcard_constraints:
        source="|".join(["released", *CONFIG.values["files"]]),
    resources:
        mem_mb=4000,
        runtime=10,
    params:
        settings=weights_settings,
        flags=checkpoint_flags,
        code=code_version("scripts/convert.py"),
    shell:
        "python {SCRIPTS}/convert.py --method {wildcards.method} --settings {params.settings:q}"
        " --checkpoint {input:q} {params.flags} --out {output.weights:q} > {log:q} 2>&1"


rule random_weights:
    output:
        weights=f"{RESULTS}/weights/{{method}}/{{source}}/weights.pt",
        report=f"{RESULTS}/weights/{{method}}/{{source}}/report.json",
    log:
        f"{RESULTS}/logs/convert/{{method}}.{{source}}.log",
    conda:
        "../../envs/corrbench.yaml"
    wildcard_constraints:
        source=r"random\d*",
    resources:
        mem_mb=2000,
        runtime=10,
    params:
        settings=weights_settings,
        seed=lambda w: WeightsId(w.method, w.source).seed,
        code=code_version("scripts/convert.py"),
    shell:
        "python {SCRIPTS}/convert.py --method {wildcards.method} --settings {params.settings:q}"
        " --seed {params.seed} --out {output.weights:q} > {log:q} 2>&1"
