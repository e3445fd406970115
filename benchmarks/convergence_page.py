"""Write docs/convergence.md from the figures of convergence.py.

    python benchmarks/convergence_page.py [REPORT] [--docs FOLDER]

REPORT is what `convergence.py --out` wrote, by default convergence.json beside this script.
"""

import argparse
import json
from pathlib import Path

PAGE = "convergence.md"
TEMPLATE = Path(__file__).with_name("convergence_page.md")
SUBJECTS = {"anny-head": "Anny head", "synthetic": "FLAME's size"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("report", type=Path, nargs="?", default=Path(__file__).with_name("convergence.json"))
    parser.add_argument("--docs", type=Path, default=Path(__file__).parents[1] / "docs")
    arguments = parser.parse_args()
    report = json.loads(arguments.report.read_text(encoding="utf-8"))
    (arguments.docs / PAGE).write_text(page(report), encoding="utf-8")


def page(report: dict) -> str:
    """The page in Markdown."""
    cells, machine = report["cells"], report["machine"]
    most = max(row["problems"] for row in cells)
    return TEMPLATE.read_text(encoding="utf-8").format(
        machine=f"{machine['processor']}, {machine['threads']} threads, torch {machine['torch']}",
        most=most,
        standard_error=100 * (0.99 * 0.01 / most) ** 0.5,
        cells="\n".join(cells_table(cells)),
        failed=sum(row["status"].get("failed", 0) for row in cells),
        total=sum(row["problems"] for row in cells),
        statistics_problems=report["statistics"][0]["problems"],
        statistics="\n\n".join(statistics_table(one) for one in report["statistics"]),
    )


def cells_table(cells: list[dict]) -> list[str]:
    lines = [
        "| model | yaw | difficulty | kernel | fitter | n | minimum | same place | error | iterations |",
        "| --- | ---: | --- | --- | --- | ---: | ---: | ---: | --- | ---: |",
    ]
    for row in cells:
        figures = [
            SUBJECTS[row["subject"]],
            f"{row['yaw']:g}°",
            difficulty(row),
            row["kernel"],
            row["fitter"],
            row["problems"],
            f"{100 * row['success']:.1f} %",
            f"{100 * row['same_place']:.1f} %",
            f"{row['error']['median']:.2f}, {row['error']['95%']:.2f}",
            f"{row['iterations']:.1f}",
        ]
        lines.append("| " + " | ".join(map(str, figures)) + " |")
    return lines


def difficulty(row: dict) -> str:
    """In words."""
    words = []
    if row["outliers"]:
        words.append(f"{100 * row['outliers']:.0f} % outliers")
    if row["missing"]:
        share = "half of the face" if row["missing"] == "half" else f"{100 * row['missing']:.0f} %"
        words.append(f"{share} missing")
    if row["focal"] != 1:
        words.append(f"focal length {100 * (row['focal'] - 1):+.0f} %")
        words.append("estimated" if row["joint"] else "kept")
    return ", ".join(words) or "none"


def statistics_table(one: dict) -> str:
    deviation = one["focal_deviation"]
    known = (
        f"focal length estimated, deviation {100 * deviation:.0f} %" if deviation else "focal length known"
    )
    lines = [
        f"Noise {one['noise_px']:g} px, {known}:",
        "",
        "| of | ratio | 90 % | error | bound | squared |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for name, row in one["rows"].items():
        bound = " | | "
        if "bound" in row:
            bound = f"{row['rms_error']:.3g} | {row['bound']:.3g} | {row['over_bound']:.2f}"
        ratio = f"{row['ratio']:.3f} ({row['ratio_error']:.3f})"
        lines.append(f"| {name} | {ratio} | {100 * row['coverage']:.1f} % | {bound} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
