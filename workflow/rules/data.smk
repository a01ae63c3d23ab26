"""Data sets: the synthetic one is made, the others are checked and fingerprinted."""


rule synthetic:
    output:
        directory(f"{RESULTS}/data/{{benchmark}}"),
    log:
        f"{RESULTS}/logs/synthetic/{{benchmark}}.log",
    wildcard_constraints:
        benchmark="|".join(SYNTHETIC) or "none",
    conda:
        "../../envs/corrbench.yaml"
    params:
        settings=lambda w: canonical_json(benchmark_row(w)),
        rows=lambda w, input: CONFIG.values["rows"],
        code=code_version("scripts/synthetic.py"),
    shell:
        "python -m scripts.synthetic --benchmark {wildcards.benchmark} --rows {params.rows:q} --out {output:q}"
        " > {log:q} 2>&1"


rule doctor:
    input:
        lambda w: f"{RESULTS}/data/{w.benchmark}" if w.benchmark in SYNTHETIC else [],
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
        mem_mb=2000,
        runtime=30,
    params:
        settings=benchmark_settings,
        version=data_version,
        root=data_root,
        code=code_version("scripts/doctor.py"),
    shell:
        "python -m scripts.doctor --settings {params.settings:q} --root {params.root:q}"
        " --kind {wildcards.kind} --out {output:q} --workers {threads} > {log:q} 2>&1"
