"""Write docs/comparing-likelihoods.md and its curves from the figures of losses.py.

    python benchmarks/losses_page.py [REPORT] [--docs FOLDER]

REPORT is what `losses.py --report` wrote, by default losses.json beside this script.
"""

import argparse
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
from scipy import stats

NAMES = {"ngll": "NGLL", "resll": "ResLL", "resll-exp": "ResLL Exp"}
COLOURS = {"ngll": "#0072b2", "resll": "#d55e00", "resll-exp": "#009e73"}
PAGE = "comparing-likelihoods"
TEMPLATE = Path(__file__).with_name("losses_page.md")
#: The comparisons of the page: words for both sides, and how each side is known.
EFFECTS = (
    ("ResLL less NGLL", {"likelihood": "resll"}, {"likelihood": "ngll"}),
    ("ResLL Exp less NGLL", {"likelihood": "resll-exp"}, {"likelihood": "ngll"}),
    ("with less without Vertex-Edge loss", {"vertex_edge": True}, {"vertex_edge": False}),
    ("spiral less linear decoder", {"head": "spiral"}, {"head": "linear"}),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("report", type=Path, nargs="?", default=Path(__file__).with_name("losses.json"))
    parser.add_argument("--docs", type=Path, default=Path(__file__).parents[1] / "docs")
    arguments = parser.parse_args()
    report = json.loads(arguments.report.read_text(encoding="utf-8"))
    (arguments.docs / f"{PAGE}.md").write_text(page(report), encoding="utf-8")
    draw(report["cells"], arguments.docs / f"{PAGE}.svg")


def page(report: dict) -> str:
    """The page in Markdown."""
    cells, longer = report["cells"], report["longer"]
    one, runs = cells[0], [*cells, *longer]
    spread, cell_count = seed_spread(cells)
    seeds = len(cells) // cell_count
    resolvable = stats.t.ppf(0.975, cell_count * (seeds - 1)) * spread * (2 / seeds) ** 0.5
    return TEMPLATE.read_text(encoding="utf-8").format(
        page=PAGE,
        longer_samples=longer[0]["samples"],
        backbone=one["network"]["backbone"],
        backbone_millions=one["network"]["parameters"]["backbone"] / 1e6,
        resolution=one["network"]["resolution"],
        landmarks=one["network"]["landmarks"],
        samples=one["samples"],
        epochs=one["samples"] / one["renders"]["train"],
        validation=one["renders"]["val"],
        machine=" and ".join(dict.fromkeys(machine(row["machine"]) for row in runs)),
        runs=len(runs),
        hours=sum(row["seconds"] for row in runs) / 3600,
        table="\n".join(table(cells)),
        spread=spread,
        cells=cell_count,
        resolvable=resolvable,
        resolvable_percent=100 * resolvable / np.mean([error(row) for row in cells]),
        effects="\n".join(effects(cells)),
        longer="\n\n".join(longer_text(run, cells) for run in longer),
    )


def machine(row: dict) -> str:
    return f"{row['processor']}, {row['threads']} threads, torch {row['torch']}"


def error(row: dict) -> float:
    return row["metrics"]["error_px"]


def setting(row: dict) -> tuple[str, bool, str]:
    """All but the seed."""
    return row["likelihood"], row["vertex_edge"], row["head"]


def named(row: dict) -> str:
    """The setting, as cells of a table."""
    return f"{NAMES[row['likelihood']]} | {'yes' if row['vertex_edge'] else 'no'} | {row['head']}"


def by_setting(cells: list[dict]) -> dict[tuple, list[dict]]:
    grouped: dict[tuple, list[dict]] = {}
    for row in cells:
        grouped.setdefault(setting(row), []).append(row)
    return grouped


def table(cells: list[dict]) -> list[str]:
    """A row for each setting, its seeds side by side."""
    grouped = by_setting(cells)
    seeds = [row["seed"] for row in next(iter(grouped.values()))]
    titles = [*(f"error, seed {seed}" for seed in seeds), "mean", "% of box", "rms z", "robust z", "minutes"]
    lines = [
        f"| likelihood | Vertex-Edge | decoder | {' | '.join(titles)} |",
        "| --- | --- | --- |" + " ---: |" * len(titles),
    ]
    for rows in grouped.values():
        errors = [error(row) for row in rows]
        figures = [
            *(f"{value:.2f}" for value in errors),
            f"{np.mean(errors):.2f}",
            f"{100 * mean(rows, 'error_box'):.2f}",
            f"{mean(rows, 'rms_z'):.2f}",
            f"{mean(rows, 'robust_z'):.2f}",
            f"{np.mean([row['seconds'] for row in rows]) / 60:.1f}",
        ]
        lines.append(f"| {named(rows[0])} | {' | '.join(figures)} |")
    return lines


def mean(rows: list[dict], metric: str) -> float:
    return float(np.mean([row["metrics"][metric] for row in rows]))


def seed_spread(cells: list[dict]) -> tuple[float, int]:
    """Pooled standard deviation of the error between seeds, and how many settings it is of."""
    groups = [[error(row) for row in rows] for rows in by_setting(cells).values()]
    return float(np.sqrt(np.mean([np.var(group, ddof=1) for group in groups]))), len(groups)


def effects(cells: list[dict]) -> list[str]:
    """Mean differences of pairs of runs that differ in one thing, with intervals of 95 %."""
    lines = [
        "| difference | pairs | px | 95 % interval | is there one |",
        "| --- | ---: | ---: | --- | --- |",
    ]
    for words, first, second in EFFECTS:
        differences = [
            error(row) - error(other)
            for row in cells
            if has(first)(row)
            for other in cells
            if has({**key(row), **second})(other)
        ]
        middle, n = np.mean(differences), len(differences)
        half = stats.t.ppf(0.975, n - 1) * np.std(differences, ddof=1) / n**0.5
        verdict = "not resolved" if abs(middle) <= half else ("worse" if middle > 0 else "better")
        lines.append(
            f"| {words} | {n} | {middle:+.3f} | {middle - half:+.3f} to {middle + half:+.3f} | {verdict} |"
        )
    return lines


def key(row: dict) -> dict[str, object]:
    return {name: row[name] for name in ("likelihood", "vertex_edge", "head", "seed")}


def has(values: dict[str, object]) -> Callable[[dict], bool]:
    return lambda row: all(row[name] == value for name, value in values.items())


def longer_text(longer: dict, cells: list[dict]) -> str:
    """What more samples gave."""
    short = next(row for row in cells if has(key(longer))(row))
    calibrated = longer["calibrated"]
    edges = "with" if longer["vertex_edge"] else "without"
    return (
        f"{NAMES[longer['likelihood']]}, {edges} the Vertex-Edge loss, {longer['head']} decoder, "
        f"seed {longer['seed']}: {longer['samples']} samples in "
        f"{longer['seconds'] / 60:.0f} minutes bring the error from {error(short):.2f} px to\n"
        f"{error(longer):.2f} px ({100 * longer['metrics']['error_box']:.2f} % of the box), and rms z from "
        f"{short['metrics']['rms_z']:.2f} to {longer['metrics']['rms_z']:.2f} ({calibrated['rms_z']:.2f} "
        "once calibrated, on the same renders)."
    )


def draw(cells: list[dict], path: Path) -> None:
    """Errors during training: a column for each decoder, a line for each setting, a band between seeds."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = PAGE  # the same file from the same figures
    from matplotlib import pyplot as plt

    heads = sorted({row["head"] for row in cells})
    figure, axes = plt.subplots(1, len(heads), figsize=(9, 3.6), sharey=True, layout="constrained")
    for axis, head in zip(axes, heads, strict=True):
        for (likelihood, edges, own), rows in by_setting(cells).items():
            if own == head:
                curves = np.array([row["curve"] for row in rows])
                steps, errors = curves[0, :, 0], curves[:, :, 1]
                style = {"color": COLOURS[likelihood], "linestyle": "--" if edges else "-"}
                label = NAMES[likelihood] + (" + VE" if edges else "")
                axis.plot(steps, errors.mean(axis=0), label=label, linewidth=1.4, **style)
                axis.fill_between(
                    steps, errors.min(axis=0), errors.max(axis=0), color=style["color"], alpha=0.15, lw=0
                )
        axis.set(title=f"{head} decoder", xlabel="step", yscale="log")
        axis.grid(alpha=0.3, which="both")
        axis.spines[["top", "right"]].set_visible(False)
    axes[0].set_ylabel("error, px of the crop")
    axes[-1].legend(frameon=False, fontsize=8)
    figure.savefig(path, metadata={"Date": None})


if __name__ == "__main__":
    main()
