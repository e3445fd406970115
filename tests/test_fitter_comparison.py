"""All fitters reach the same minimum of a problem, and the page that compares them is of its figures."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
needs_theseus = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("theseus", "partfit_theseus")),
    reason="needs partfit-theseus and theseus-ai",
)


def run(script, *arguments):
    command = [sys.executable, str(BENCHMARKS / script), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.fixture
def fitters(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import fitters

    return fitters


def test_the_page_is_what_its_script_makes_of_the_figures(tmp_path):
    run("fitters_page.py", "--docs", tmp_path)
    page = BENCHMARKS.parent / "docs" / "comparing-fitters.md"
    assert (tmp_path / "comparing-fitters.md").read_text() == page.read_text()


@needs_theseus
def test_second_order_fitters_meet_at_the_size_of_flame(fitters):
    """1609 landmarks, 218 parameters; Theseus by autodiff takes long, and meets them in the next test."""
    problem = fitters.problem(1609, 200, seed=3)
    names = ("lm", "theseus-closed-form", "scipy")
    costs = [fitters.cost(problem, fitters.FITTERS[name](problem)[0]) for name in names]
    assert max(costs) < 1.001 * min(costs)
    assert fitters.cost(problem, problem.start) > 1.5 * min(costs)


@needs_theseus
@pytest.mark.slow
def test_the_comparison_runs_and_all_meet_at_a_small_size(tmp_path):
    report = tmp_path / "report.json"
    run("fitters.py", "--report", report, "--problems", 2, "--landmarks", 150, "--coefficients", 20)
    figures = json.loads(report.read_text())["fitters"]
    assert len(figures) == 6
    for k in range(2):
        costs = {name: row["cost"][k] for name, row in figures.items()}
        low = min(costs.values())
        assert all(cost < 1.001 * low for name, cost in costs.items() if name != "adam")
    assert all(row["memory_mb"] >= 0 and min(row["ms"]) > 0 for row in figures.values())
    run("fitters_page.py", report, "--docs", tmp_path)
    assert "Problems: 2, each one face" in (tmp_path / "comparing-fitters.md").read_text()
