"""Write docs/fit-layer.md from the figures of gradients.py and inflation.py.

    python benchmarks/gradients_page.py [--docs FOLDER]

gradients.json beside this script is what `gradients.py` printed, inflation.json a list of what `inflation.py`
printed for some parts and landmarkers.
"""

import argparse
import json
from pathlib import Path

FOLDER = Path(__file__).parent
PAGE = "fit-layer"
TEMPLATE = FOLDER / "gradients_page.md"
WORDS = {"synthetic": "the synthetic model of `partfit.testing`", "anny-head": "the Anny head"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--docs", type=Path, default=FOLDER.parent / "docs")
    docs = parser.parse_args().docs
    gradients, inflation = (
        json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))
        for name in ("gradients", "inflation")
    )
    (docs / f"{PAGE}.md").write_text(page(gradients, inflation), encoding="utf-8")


def page(report: dict, inflation: list[dict]) -> str:
    """The page in Markdown."""
    problems = report["problems"]
    cases = [case for problem in problems for case in problem["cases"]]
    wild = next(case for case in cases if "share" in case)
    typical = [case for case in cases if "theseus" in case]
    return TEMPLATE.read_text(encoding="utf-8").format(
        items=report["items"],
        problems=" and ".join(
            f"{WORDS[one['model']]} ({one['landmarks']} landmarks, {one['parameters']} parameters)"
            for one in problems
        ),
        outliers=f"{100 * wild['share']:.0f} %",
        outlier_scales=wild["scales"],
        differences=max(case["finite_differences"] for case in cases),
        typical_noise=typical[0]["noise_px"],
        theseus=max(disagreement(case) for case in typical),
        single=max(case["float32"][0]["points"]["error"] for case in typical),
        cosines=cosines(cases),
        error_tables="\n\n".join(error_table(problem) for problem in problems),
        cost_tables=cost_table(problems),
        inflation_table=inflation_table(inflation),
    )


def title(row: dict) -> str:
    if row["mode"] == "implicit":
        return "implicit" if row["hessian"] == "full" else "implicit, JᵀJ"
    return f"{row['mode']}, {row['steps']} step{'s' if row['steps'] > 1 else ''}"


def error_table(problem: dict) -> str:
    """Median errors of the gradient by the landmarks: modes down, noises across."""
    cases = problem["cases"]
    heads = [
        f"{case['noise_px']:g} px" + (f", outliers, `{case['kernel']}`" if "share" in case else "")
        for case in cases
    ]
    lines = [
        f"Through `lm`, {WORDS[problem['model']]}:",
        "",
        f"| way | {' | '.join(heads)} |",
        "| --- |" + " ---: |" * len(heads),
    ]
    for rows in zip(*(case["lm"] for case in cases), strict=True):
        cells = [figure(row) for row in rows]
        lines.append(f"| {title(rows[0])} | {' | '.join(cells)} |")
    return "\n".join(lines)


def figure(row: dict) -> str:
    """The median error; how many fits have no gradient."""
    error = f"{row['points']['error']:.1e}" if "points" in row else "-"
    return f"{error} ({row['failed']} failed)" if row["failed"] else error


def disagreement(case: dict) -> float:
    """Largest difference of the errors through both fitters, in parts of them, where they tell anything."""
    pairs = [
        (row["points"]["error"], other["points"]["error"])
        for row, other in zip(case["lm"], case["theseus"], strict=True)
        if "points" in row and "points" in other
    ]
    return max(abs(a / b - 1) for a, b in pairs if max(a, b) > 1e-6)


def cosines(cases: list[dict]) -> str:
    """The worst cosine of some modes."""
    noisy = [case for case in cases if case["noise_px"] and "share" not in case]
    worst: dict[str, float] = {}
    for case in noisy:
        for row in case["lm"]:
            if "points" in row:
                own = min(row["points"]["cosine"], row["scale"]["cosine"])
                worst[title(row)] = min(worst.get(title(row), 1.0), own)
    shown = (
        "implicit, JᵀJ",
        "truncated, 1 step",
        "truncated, 2 steps",
        "unrolled, 2 steps",
        "unrolled, 4 steps",
    )
    return "; ".join(f"{name}: {worst[name]:.4f}" for name in shown)


def cost_table(problems: list[dict]) -> str:
    """Time and memory in units of the fit's."""
    heads = [
        f"{problem['model']}, `{fitter}`, {what}"
        for problem in problems
        for fitter in ("lm", "theseus")
        for what in ("time", "memory")
    ]
    lines = [f"| way | {' | '.join(heads)} |", "| --- |" + " ---: |" * len(heads)]
    rows_of = [
        [row for row in problem["cost"] if row["fitter"] == fitter]
        for problem in problems
        for fitter in ("lm", "theseus")
    ]
    for rows in zip(*rows_of, strict=True):
        cells = [f"{row[what]:.1f}" for row in rows for what in ("time", "memory")]
        lines.append(f"| {title(rows[0])} | {' | '.join(cells)} |")
    return "\n".join(lines)


def number(value: float) -> str:
    return f"{value:.0f}" if value >= 10 else f"{value:.1f}"


def inflation_table(reports: list[dict]) -> str:
    lines = [
        "| landmarks | pictures | factor | interval | typical | error / deviation | with the factor |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for report in reports:
        for kind, own in ((kind, report[kind]) for kind in ("renders", "photographs") if kind in report):
            low, high = own["interval"]
            vertices = own.get("vertices")
            names = "error_over_deviation", "error_over_deviation_inflated"
            cells = [number(own["factor"]), f"{number(low)} to {number(high)}", number(own["typical"])]
            cells += [f"{vertices[name]:.2f}" if vertices else "" for name in names]
            lines.append(
                f"| `{report['landmarker']}`, {report['landmarks']} points | {own['found']} {kind} | "
                f"{' | '.join(cells)} |"
            )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
