"""corrbench: from weights to one table. `snakemake --cores all results/table.csv`; see README.md."""

import os
import sys
from pathlib import Path

from snakemake.utils import min_version

min_version("9.20")

ROOT = Path(workflow.basedir)

# every job runs with this interpreter and this checkout, on this machine or on a cluster node
sys.path.insert(0, str(ROOT))
SEARCH = [str(Path(sys.executable).parent), *os.get_exec_path()]
MODULES = [str(ROOT), os.environ.get("PYTHONPATH", "")]
os.environ.update(
    PATH=os.pathsep.join(SEARCH), PYTHONPATH=os.pathsep.join(filter(None, MODULES))
)


# a job waits so many seconds for one that a killed Snakemake left at work on the same output
os.environ.setdefault("CORRBENCH_WAIT", "600")

# the paper benchmark, unless the command names config files of its own
if not workflow.overwrite_configfiles:

    configfile: str(ROOT / "config" / "config.yaml")


report: "workflow/report/workflow.rst"


include: "workflow/rules/common.smk"
include: "workflow/rules/data.smk"
include: "workflow/rules/pretrain.smk"
include: "workflow/rules/weights.smk"
include: "workflow/rules/propagation.smk"
include: "workflow/rules/probe.smk"
include: "workflow/rules/report.smk"


rule all:
    default_target: True
    input:
        REPORT,
