"""Programs that compute nothing start without the libraries that take seconds to import."""

import subprocess
import sys

from conftest import ROOT

LIGHT = (
    "dataset", "doctor", "download", "evaluate", "evaluate_boxes", "explain", "frames", "overlays", "overlays_boxes",
    "plan", "plots", "report", "submission", "synthetic", "table",
)  # fmt: skip


def test_light_programs_import_no_torch():
    code = "import importlib, sys\nfor name in sys.argv[1:]:\n    importlib.import_module(f'scripts.{name}')\n    assert 'torch' not in sys.modules, name"
    done = subprocess.run([sys.executable, "-c", code, *LIGHT], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
