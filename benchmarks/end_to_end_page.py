"""Write docs/end-to-end.md from the figures of end_to_end.py.

    python benchmarks/end_to_end_page.py [REPORT] [--docs FOLDER]

REPORT is what `end_to_end.py --report` wrote, by default end_to_end.json beside this script.
"""

import argparse
import json
from pathlib import Path

import numpy as np

PAGE = "end-to-end"
TEMPLATE = Path(__file__).with_name("end_to_end_page.md")
STARTS = ("predicted", "predicted, last stage", "closed form")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("report", type=Path, nargs="?", default=Path(__file__).with_name("end_to_end.json"))
    parser.add_argument("--docs", type=Path, default=Path(__file__).parents[1] / "docs")
    arguments = parser.parse_args()
    report = json.loads(arguments.report.read_text(encoding="utf-8"))
    (arguments.docs / f"{PAGE}.md").write_text(page(report), encoding="utf-8")


def page(report: dict) -> str:
    """The page in Markdown."""
    networks, machine = report["networks"], report["machine"]
    one = networks[0]
    through, apart = (
        float(np.mean([r["seconds"] for r in of(networks, name)])) for name in ("through", "apart")
    )
    return TEMPLATE.read_text(encoding="utf-8").format(
        seeds=",".join(str(row["seed"]) for row in of(networks, "through")),
        backbone=one["made_of"]["backbone"],
        backbone_millions=one["made_of"]["parameters"]["backbone"] / 1e6,
        resolution=one["made_of"]["resolution"],
        landmarks=one["made_of"]["landmarks"],
        samples=one["samples"],
        renders=one["renders"],
        warmup=one["warmup"],
        crops=one["splits"]["all"]["crops"],
        machine=f"{machine['processor']}, {machine['threads']} threads, torch {machine['torch']}",
        bound=report["bound_mm"],
        training="\n".join(training_table(networks)),
        apart_minutes=apart / 60,
        through_minutes=through / 60,
        ratio=through / apart,
        starts="\n".join(starts_table(networks)),
    )


def of(networks: list[dict], name: str) -> list[dict]:
    """The networks of a kind, one a seed."""
    return [row for row in networks if row["network"] == name]


def split_names(networks: list[dict]) -> list[str]:
    """The splits that have crops."""
    return [name for name, split in networks[0]["splits"].items() if split["crops"]]


def mean(networks: list[dict], split: str, *keys: str) -> float:
    """Over the networks, of a figure of a split."""
    values = []
    for row in networks:
        value = row["splits"][split]
        for key in keys:
            value = value[key]
        values.append(value)
    return float(np.mean(values))


def training_table(networks: list[dict]) -> list[str]:
    """A row for each split, `apart` and `through` side by side."""
    figures = {
        "vertices, mm": (("starts", "predicted", "vertex_mm"), "{:.2f}"),
        "success": (("starts", "predicted", "success"), "{:.1%}"),
        "rms z": (("rms_z",), "{:.2f}"),
        "robust z": (("robust_z",), "{:.2f}"),
    }
    kinds = ("apart", "through")
    titles = [f"{figure}: {kind}" for figure in figures for kind in kinds]
    lines = [f"| renders | crops | {' | '.join(titles)} |", "| --- | ---: |" + " ---: |" * len(titles)]
    for split in split_names(networks):
        cells = [
            form.format(mean(of(networks, kind), split, *keys))
            for keys, form in figures.values()
            for kind in kinds
        ]
        lines.append(f"| {split} | {networks[0]['splits'][split]['crops']} | {' | '.join(cells)} |")
    return lines


def starts_table(networks: list[dict]) -> list[str]:
    """A row for each split, and for each start its success, iterations and time."""
    own = of(networks, "through")
    figures = (("success", "{:.1%}"), ("iterations", "{:.1f}"), ("ms", "{:.1f}"))
    titles = [f"{figure}: {start}" for figure, _ in figures for start in STARTS]
    lines = [f"| renders | before, mm | {' | '.join(titles)} |", "| --- | ---: |" + " ---: |" * len(titles)]
    for split in split_names(networks):
        cells = [
            form.format(mean(own, split, "starts", s, figure)) for figure, form in figures for s in STARTS
        ]
        lines.append(f"| {split} | {mean(own, split, 'start_mm'):.1f} | {' | '.join(cells)} |")
    return lines


if __name__ == "__main__":
    main()
