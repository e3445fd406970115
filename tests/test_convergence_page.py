"""docs/convergence.md is what its script makes of the figures."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_the_page_is_that_of_the_figures(tmp_path):
    script = ROOT / "benchmarks" / "convergence_page.py"
    subprocess.run([sys.executable, script, "--docs", tmp_path], check=True)
    page = (tmp_path / "convergence.md").read_text()
    assert page == (ROOT / "docs" / "convergence.md").read_text()
