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
        inputs=f"{RESULTS}/{{benchmark}}/data/inputs.json",
        annotations=f"{RESULTS}/{{benchmark}}/data/annotations.json",
    log:
        f"{RESULTS}/logs/doctor/{{benchmark}}.log",
    conda:
        "../../envs/corrbench.yaml"
    threads: 4
    resources:
        mem_mb=2000,
        runtime=30,
    params:
        settings=benchmark_settings,
        stamp=lambda w: (
            ""
            if w.benchmark in SYNTHETIC
            else data_stamp(
                CONFIG.data_root(benchmark_row(w)), CONFIG.sequences(benchmark_row(w))
            )
        ),
        root=data_root,
        out=lambda w, output: str(Path(output.inputs).parent),
        code=code_version("scripts/doctor.py"),
    shell:
        "python -m scripts.doctor --settings {params.settings:q} --root {params.root:q} --out {params.out:q}"
        " --workers {threads} > {log:q} 2>&1"
