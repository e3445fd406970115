"""Write docs/cameras.md from the figures of camera.py.

    python benchmarks/camera_page.py [REPORT] [--docs FOLDER]

REPORT is what `camera.py` printed, by default camera.json beside this script.
"""

import argparse
import json
from pathlib import Path

import numpy as np

PAGE = "cameras"
TEMPLATE = Path(__file__).with_name("camera_page.md")
NAMES = {"exact": "exact", "rule": "rule", "exif": "EXIF", "wrong": "wrong"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("report", type=Path, nargs="?", default=Path(__file__).with_name("camera.json"))
    parser.add_argument("--docs", type=Path, default=Path(__file__).parents[1] / "docs")
    arguments = parser.parse_args()
    report = json.loads(arguments.report.read_text(encoding="utf-8"))
    (arguments.docs / f"{PAGE}.md").write_text(page(report), encoding="utf-8")


def page(report: dict) -> str:
    """The page in Markdown."""
    rows = {kind: of_noise(report["distances"], kind) for kind in ("independent", "shared")}
    shared = rows["shared"]
    exact = [row for row in shared if row["focal"] == "exact"]
    width, height = report["size"]
    return TEMPLATE.read_text(encoding="utf-8").format(
        heads=report["heads"],
        landmarks=report["landmarks"],
        width=width,
        height=height,
        noise=report["noise_percent"],
        inflation=report["inflation"]["shared"],
        lenses=", ".join(f"{name} ({length:.0f} mm)" for name, length in report["lenses"].items()),
        exif=report["exif_percent"],
        form_spread=np.mean([row["form_spread"] for row in shared]),
        size=np.mean([row["depth_percent"] for row in exact]),
        form_independent=table(rows["independent"], "form_mm", 2),
        form_shared=table(shared, "form_mm", 2),
        rotation=table(shared, "rotation_deg", 1),
        depth=table(shared, "depth_percent", 0),
        focal=table(shared, "focal_percent", 0),
        crop=report["crop"],
        off_lens=report["off_lens"],
        off_distance=report["off_distance"],
        crop_table=crop_table(of_noise(report["off_centre"], "shared")),
    )


def of_noise(rows: list[dict], kind: str) -> list[dict]:
    return [row for row in rows if row["noise"] == kind]


def known(row: dict) -> str:
    """How the focal length was known, as a column's title."""
    name = NAMES[row["focal"]]
    return f"{name}, estimated, {row['deviation']:g}" if row["deviation"] else name


def table(rows: list[dict], figure: str, digits: int) -> str:
    """A figure: lens and distance down, what was known of the camera across."""
    rows = [row for row in rows if figure in row]
    columns = list(dict.fromkeys(known(row) for row in rows))
    cells = {(row["lens"], row["distance"], known(row)): row[figure] for row in rows}
    lines = [
        f"| lens | distance, m | {' | '.join(columns)} |",
        "| --- | ---: |" + " ---: |" * len(columns),
    ]
    for lens, distance in dict.fromkeys((row["lens"], row["distance"]) for row in rows):
        figures = [f"{cells[lens, distance, column]:.{digits}f}" for column in columns]
        lines.append(f"| {lens} | {distance:g} | {' | '.join(figures)} |")
    return "\n".join(lines)


def crop_table(rows: list[dict]) -> str:
    lines = [
        "| angle to the axis | camera | form, mm | rotation, degrees | turned, degrees | distance, % |",
        "| ---: | --- | ---: | ---: | ---: | ---: |",
    ]
    for row in rows:
        turned = f"{row['rotation_towards_deg']:.1f}" if "rotation_towards_deg" in row else ""
        lines.append(
            f"| {row['degrees']} | {row['camera']} | {row['form_mm']:.2f} | {row['rotation_deg']:.1f} | "
            f"{turned} | {row['depth_percent']:.0f} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
