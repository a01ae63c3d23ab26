"""Table, plots, overlays, paper tables and the page that shows them."""


localrules:
    table,
    plots,
    report,


rule table:
    input:
        summaries(CONFIG.entries),
        of_entries(SCORED, "scores/scores.json"),
        [f"{RESULTS}/weights/{w.path}/report.json" for w in CONFIG.all_weights()],
        [
            f"{RESULTS}/{b['name']}/data/{kind}.json"
            for b in CONFIG.all_benchmarks()
            for kind in ("inputs", "annotations")
        ],
        targets=[name for p in target_files(CONFIG) for name in readable(p)],
        # what a server said of a submission, and the submission itself, which must still be that one
        server=[path for e in PACKED for path in server_scores(e)],
    output:
        # `update`: a table that is refused leaves the earlier one where it is
        csv=update(
            report(
                f"{RESULTS}/table.csv",
                caption="../report/table.rst",
                category="Table",
                labels={"file": "table"},
            )
        ),
        markdown=update(f"{RESULTS}/table.md"),
        provenance=update(f"{RESULTS}/provenance.json"),
    log:
        f"{RESULTS}/logs/table.log",
    conda:
        "../../envs/corrbench.yaml"
    params:
        config=whole_config,
        entries=digest(
            [[[*e.key, e.hash] for e in CONFIG.entries], note(CONFIG.waiting)]
        ),
        code=code_version("scripts/table.py"),
    shell:
        "python -m scripts.table --config {params.config:q} --csv {output.csv:q} --markdown {output.markdown:q}"
        " --provenance {output.provenance:q}"
        " > {log:q} 2>&1"


rule plots:
    input:
        table=f"{RESULTS}/table.csv",
        scores=lambda w: of_entries(
            [e for e in SCORED if e.benchmark["name"] == w.benchmark],
            "scores/scores.json",
        ),
    output:
        f"{RESULTS}/plots/{{benchmark}}/record.json",
        f"{RESULTS}/plots/{{benchmark}}/leaderboard.png",
        f"{RESULTS}/plots/{{benchmark}}/sequences.png",
        f"{RESULTS}/plots/{{benchmark}}/cost.png",
        report(
            f"{RESULTS}/plots/{{benchmark}}/leaderboard.svg",
            caption="../report/leaderboard.rst",
            category="Plots",
            subcategory="{benchmark}",
            labels={"plot": "leaderboard"},
        ),
        report(
            f"{RESULTS}/plots/{{benchmark}}/sequences.svg",
            caption="../report/sequences.rst",
            category="Plots",
            subcategory="{benchmark}",
            labels={"plot": "sequences"},
        ),
        report(
            f"{RESULTS}/plots/{{benchmark}}/cost.svg",
            caption="../report/cost.rst",
            category="Plots",
            subcategory="{benchmark}",
            labels={"plot": "cost"},
        ),
    log:
        f"{RESULTS}/logs/plots/{{benchmark}}.log",
    wildcard_constraints:
        benchmark=one_of(MASKS),
    conda:
        "../../envs/corrbench.yaml"
    resources:
        mem_mb=lambda w, attempt: 2000 * min(attempt, 3),
        runtime=lambda w, attempt: 10 * min(attempt, 3),
    params:
        config=whole_config,
        out=lambda w, output: str(Path(output[0]).parent),
        code=code_version("scripts/plots.py"),
    shell:
        "python -m scripts.plots --config {params.config:q} --table {input.table:q} --benchmark {wildcards.benchmark}"
        " --out {params.out:q} > {log:q} 2>&1"


use rule plots as plots_boxes with:
    output:
        *[
            f"{RESULTS}/plots/{{benchmark}}/{name}.png"
            for name in ("leaderboard", "sequences", "cost", "curves")
        ],
        f"{RESULTS}/plots/{{benchmark}}/record.json",
        # `update`: the manifest of the folder, by which the program knows what it may replace, stays where it is
        update(f"{RESULTS}/plots/{{benchmark}}/toolkit/{MANIFEST}"),
        *[
            report(
                f"{RESULTS}/plots/{{benchmark}}/{name}.svg",
                caption=f"../report/{name}.rst",
                category="Plots",
                subcategory="{benchmark}",
                labels={"plot": name},
            )
            for name in ("leaderboard", "sequences", "cost", "curves")
        ],
    wildcard_constraints:
        benchmark=one_of(BOXES),


rule overlays:
    input:
        masks=f"{RESULTS}/{{benchmark}}/{{entry}}/masks/record.json",
        data=f"{RESULTS}/{{benchmark}}/data/annotations.json",
    output:
        report(
            f"{RESULTS}/{{benchmark}}/{{entry}}/overlay.png",
            caption="../report/overlay.rst",
            category="Overlays",
            subcategory="{benchmark}",
            labels={"entry": "{entry}"},
        ),
    log:
        f"{RESULTS}/logs/overlays/{{benchmark}}/{{entry}}.log",
    wildcard_constraints:
        benchmark=one_of(MASKS),
    group:
        "scores"
    conda:
        "../../envs/corrbench.yaml"
    resources:
        mem_mb=lambda w, attempt: 2000 * min(attempt, 3),
        runtime=lambda w, attempt: 10 * min(attempt, 3),
    params:
        root=data_root,
        masks=masks_folder,
        code=code_version("scripts/overlays.py"),
    shell:
        "python -m scripts.overlays --data {input.data:q} --root {params.root:q} --masks {params.masks:q}"
        " --title {wildcards.entry:q} --out {output:q} > {log:q} 2>&1"


rule report:
    input:
        of_entries(SCORED, "overlay.png"),
        of_entries(PACKED, "submission.zip"),
        expand(
            f"{RESULTS}/plots/{{benchmark}}/{{name}}.png",
            benchmark=BENCHMARKS,
            name=["leaderboard", "sequences", "cost"],
        ),
        expand(f"{RESULTS}/plots/{{benchmark}}/curves.png", benchmark=BOXES),
        table=f"{RESULTS}/table.csv",
        targets=[name for p in target_files(CONFIG) for name in readable(p)],
    output:
        # `update`: the manifest of the folder, by which the program knows what it may replace, stays where it is
        update(f"{RESULTS}/paper/{MANIFEST}"),
        page=report(
            f"{RESULTS}/report.html",
            caption="../report/page.rst",
            category="Table",
            labels={"file": "leaderboard page"},
        ),
    log:
        f"{RESULTS}/logs/report.log",
    conda:
        "../../envs/corrbench.yaml"
    params:
        config=whole_config,
        paper=lambda w, output: str(Path(output[0]).parent),
        code=code_version("scripts/report.py"),
    shell:
        "python -m scripts.report --config {params.config:q} --table {input.table:q} --paper {params.paper:q}"
        " --page {output.page:q} > {log:q} 2>&1"
