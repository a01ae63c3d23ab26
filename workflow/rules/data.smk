"""Data sets: made, fetched and unpacked, or yours; then checked and fingerprinted."""


localrules:
    archive,


rule archive:
    output:
        f"{RESULTS}/downloads/datasets/{{dataset}}/{{file}}",
    log:
        f"{RESULTS}/logs/download/datasets/{{dataset}}/{{file}}.log",
    wildcard_constraints:
        dataset="[^/]+",
        file="[^/]+",
    conda:
        "../../envs/corrbench.yaml"
    params:
        settings=archive_settings,
        rows=lambda w, input: CONFIG.values["rows"],
    shell:
        "python -m scripts.download --dataset {wildcards.dataset} --rows {params.rows:q} --out {output:q}"
        " > {log:q} 2>&1"


rule dataset:
    input:
        lambda w: [
            f"{RESULTS}/downloads/datasets/{w.dataset}/{a['file']}"
            for a in CONFIG.archives(w.dataset)
        ],
    output:
        # beside the folder, which Snakemake would empty first: only the program knows what it may replace
        f"{RESULTS}/data/{{dataset}}.settings.json",
    log:
        f"{RESULTS}/logs/dataset/{{dataset}}.log",
    wildcard_constraints:
        dataset=one_of(sorted({*DOWNLOADED.values(), *CONFIG.downloaded_videos()})),
    conda:
        "../../envs/corrbench.yaml"
    resources:
        runtime=lambda w, attempt: 120 * min(attempt, 3),
    params:
        settings=archive_settings,
        made=lambda w, input: made_settings(w.dataset),
        out=lambda w, output: output[0].removesuffix(".settings.json"),
        rows=lambda w, input: CONFIG.values["rows"],
    shell:
        "python -m scripts.dataset {wildcards.dataset} --rows {params.rows:q} --archives {input:q} --out {params.out:q}"
        " > {log:q} 2>&1 && printf '%s' {params.made:q} > {output:q}"


rule synthetic:
    output:
        # beside the folder, which Snakemake would empty first: only the program knows what it may replace
        f"{RESULTS}/data/{{benchmark}}.settings.json",
    log:
        f"{RESULTS}/logs/synthetic/{{benchmark}}.log",
    wildcard_constraints:
        benchmark="|".join(SYNTHETIC) or "none",
    conda:
        "../../envs/corrbench.yaml"
    params:
        settings=lambda w: canonical_json(benchmark_row(w)),
        made=lambda w, input: made_settings(w.benchmark),
        out=lambda w, output: output[0].removesuffix(".settings.json"),
        rows=lambda w, input: CONFIG.values["rows"],
        code=code_version("scripts/synthetic.py"),
    shell:
        "python -m scripts.synthetic --benchmark {wildcards.benchmark} --rows {params.rows:q} --out {params.out:q}"
        " > {log:q} 2>&1 && printf '%s' {params.made:q} > {output:q}"


rule doctor:
    input:
        made_data,
    output:
        f"{RESULTS}/{{benchmark}}/data/{{kind}}.json",
    log:
        f"{RESULTS}/logs/doctor/{{benchmark}}.{{kind}}.log",
    wildcard_constraints:
        kind="inputs|annotations",
    conda:
        "../../envs/corrbench.yaml"
    threads: 4
    resources:
        mem_mb=lambda w, attempt: 2000 * min(attempt, 3),
        runtime=lambda w, attempt: 30 * min(attempt, 3),
    params:
        settings=benchmark_settings,
        version=data_version,
        root=data_root,
        code=lambda w: code_of("doctor", benchmark_row(w)),
    shell:
        "python -m scripts.doctor --settings {params.settings:q} --root {params.root:q}"
        " --kind {wildcards.kind} --version={params.version:q} --out {output:q} --workers {threads} > {log:q} 2>&1"
