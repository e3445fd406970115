"""Write docs/comparing-fitters.md from the figures of fitters.py.

    python benchmarks/fitters_page.py [REPORT] [--docs FOLDER]

REPORT is what `fitters.py --report` wrote, by default fitters.json beside this script.
"""

import argparse
import json
from pathlib import Path

TEMPLATE = Path(__file__).with_name("fitters_page.md")
PAGE = "comparing-fitters.md"
NAMES = {
    "lm": "`lm`",
    "theseus-closed-form": "Theseus, closed form",
    "theseus-autodiff": "Theseus, autodiff",
    "theseus-thesis": "Theseus, autodiff, the thesis' settings",
    "scipy": "SciPy `least_squares`",
    "adam": "Adam",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("report", type=Path, nargs="?", default=Path(__file__).with_name("fitters.json"))
    parser.add_argument("--docs", type=Path, default=Path(__file__).parents[1] / "docs")
    arguments = parser.parse_args()
    report = json.loads(arguments.report.read_text(encoding="utf-8"))
    (arguments.docs / PAGE).write_text(page(report), encoding="utf-8")


def page(report: dict) -> str:
    """The page in Markdown."""
    machine, fitters, adam = report["machine"], report["fitters"], report["adam"]
    best = lowest(fitters)
    others = [name for name in fitters if name != "adam"]
    return TEMPLATE.read_text(encoding="utf-8").format(
        landmarks=report["landmarks"],
        parameters=report["parameters"],
        problems=len(best),
        noise=report["noise_px"],
        iterations=report["iterations"],
        tolerance=report["tolerance"],
        adam_rate=adam["rate"],
        adam_rigid=adam["steps"][0],
        adam_all=adam["steps"][1],
        processor=machine["processor"],
        torch=machine["torch"],
        table="\n".join(table(fitters, best)),
        apart=max(excess(fitters[name], best) for name in others),
        adam_excess=excess(fitters["adam"], best),
        ratios="\n".join(ratios(fitters)),
    )


def lowest(fitters: dict) -> list[float]:
    """The lowest cost that any fitter found, for each problem."""
    return [min(costs) for costs in zip(*(row["cost"] for row in fitters.values()), strict=True)]


def excess(row: dict, best: list[float]) -> float:
    """How far the cost is above the lowest, percent, in the worst problem."""
    return max(100 * (cost / low - 1) for cost, low in zip(row["cost"], best, strict=True))


def milliseconds(row: dict) -> float:
    return mean(row["ms"])


def mean(values: list[float]) -> float:
    return sum(values) / len(values)


def table(fitters: dict, best: list[float]) -> list[str]:
    fastest = milliseconds(fitters["lm"])
    return [
        "| fitter | cost above the lowest, % | iterations | ms | times `lm` | memory, MB |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
        *(
            f"| {NAMES[name]} | {excess(row, best):.4f} | {mean(row['iterations']):.1f} | "
            f"{milliseconds(row):.1f} | {milliseconds(row) / fastest:.1f} | {row['memory_mb']:.0f} |"
            for name, row in fitters.items()
        ),
    ]


def ratios(fitters: dict) -> list[str]:
    """How many times as fast as Theseus by autodiff."""
    bases, quick = ("theseus-autodiff", "theseus-thesis"), ("theseus-closed-form", "lm")
    return [
        "| as fast as | " + " | ".join(NAMES[name] for name in quick) + " |",
        "| --- |" + " ---: |" * len(quick),
        *(
            f"| {NAMES[base]} | "
            + " | ".join(
                f"{milliseconds(fitters[base]) / milliseconds(fitters[name]):.0f} times" for name in quick
            )
            + " |"
            for base in bases
        ),
    ]


if __name__ == "__main__":
    main()
