"""Losses and decoders compared by training: Tables 4.1 and 4.3 of the thesis on rendered heads.

    python benchmarks/losses.py --out DIR --report FILE [--config FILE] [--seeds 0,1] [--longer SAMPLES]

Trains one network for each cell of likelihood {NGLL, ResLL, ResLL Exp} x Vertex-Edge loss {without, with} x
decoder {linear, spiral} and each seed, by `partfit train` and the configuration losses.toml; then, with
--longer, for each decoder that of the least mean error once more on more samples. All cells share one cache
of rendered crops, and those of one seed the order of samples. Killed and started again it goes on where it
was: figures and curves of each run are added to the report, and runs that are in it are not trained again.
A report of another configuration is refused. losses_page.py shows the report.
"""

import argparse
import itertools
import json
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import attrs

from partfit.bench import machine
from partfit.files import atomic_write
from partfit.landmarks import content_hash

LIKELIHOODS = ("ngll", "resll", "resll-exp")
HEADS = ("linear", "spiral")
#: What is kept of every evaluation during a run.
CURVE = ("step", "error_px", "robust_z")


@attrs.frozen
class Cell:
    """One network of the comparison.

    Attributes:
        likelihood: Name of its likelihood.
        vertex_edge: Whether it learns with the Vertex-Edge loss.
        head: Name of its head, the decoder.
        seed: Of weights and of the order of samples.
    """

    likelihood: str
    vertex_edge: bool
    head: str
    seed: int

    @property
    def name(self) -> str:
        """Of its run's folder."""
        return f"{self.likelihood}{'+ve' if self.vertex_edge else ''}-{self.head}-{self.seed}"

    @property
    def settings(self) -> list[str]:
        """What it changes in the configuration, in the words of `partfit train --set`."""
        return [
            f'network.likelihood.name="{self.likelihood}"',
            f'network.head.name="{self.head}"',
            f"run.seed={self.seed}",
            *(['losses=[{name="vertex-edge"}]'] if self.vertex_edge else []),
        ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="folder of the runs")
    parser.add_argument("--report", type=Path, required=True, help="JSON file of the figures of all runs")
    parser.add_argument("--config", type=Path, default=Path(__file__).with_name("losses.toml"))
    parser.add_argument("--seeds", default="0,1", help="comma-separated")
    parser.add_argument("--longer", type=int, help="samples of a longer run of each decoder's best")
    parser.add_argument("--set", action="append", default=[], help="KEY=VALUE for `partfit train`")
    arguments = parser.parse_args()
    seeds = [int(seed) for seed in arguments.seeds.split(",")]
    cells = [
        Cell(likelihood, edges, head, seed)
        for seed, likelihood, edges, head in itertools.product(seeds, LIKELIHOODS, (False, True), HEADS)
    ]
    runs = Runs(arguments)
    results = [(cell, runs.figures(cell)) for cell in cells]
    if arguments.longer:
        for head in HEADS:
            cell = best([(cell, row) for cell, row in results if cell.head == head])
            runs.figures(attrs.evolve(cell, seed=seeds[0]), arguments.longer)


class Runs:
    """Training by the configuration, and the report of what came out."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self._file, self._out, self._config = arguments.report, arguments.out, arguments.config
        self._own = arguments.set
        self._report = {"cells": [], "longer": []}
        if self._file.exists():
            self._report = json.loads(self._file.read_text(encoding="utf-8"))

    def figures(self, cell: Cell, longer: int | None = None) -> dict[str, object]:
        """The figures of a cell, with more samples than usual if asked for; trained if not in the report."""
        rows = self._report["cells" if longer is None else "longer"]
        settings = [*self._own, *([] if longer is None else [f"run.samples={longer}"])]
        digest = content_hash(self._config.read_text(encoding="utf-8"), *settings)
        for row in rows:
            if attrs.asdict(cell).items() <= row.items():
                if row["digest"] != digest:
                    sys.exit(f"{self._file}: {cell.name} was trained by another configuration.")
                return row
        folder = self._out / (cell.name if longer is None else f"{cell.name}-longer")
        train(self._config, folder, [f'data.cache="{self._out / "data"}"', *settings, *cell.settings])
        rows.append({**read(cell, folder), "digest": digest})
        with atomic_write(self._file) as file:
            file.write_text(json.dumps(self._report, indent=1) + "\n", encoding="utf-8")
        return rows[-1]


def best(results: list[tuple[Cell, dict]]) -> Cell:
    """A cell of those that differ in their seed only, whose mean error is the least."""
    errors = defaultdict(list)
    for cell, row in results:
        errors[attrs.evolve(cell, seed=0)].append(row["metrics"]["error_px"])
    return min(errors, key=lambda cell: sum(errors[cell]))


def train(config: Path, folder: Path, settings: list[str]) -> None:
    """Train a network, or go on with it."""
    if (folder / "report.json").exists():
        return
    options = [word for setting in settings for word in ("--set", setting)]
    print(folder.name, flush=True)
    command = [sys.executable, "-m", "partfit", "train", str(config), "--out", str(folder), "--resume"]
    subprocess.run([*command, *options], check=True)


def read(cell: Cell, folder: Path) -> dict[str, object]:
    """The figures of a run that is done."""
    report = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    rows = map(json.loads, (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines())
    curve = [[row[key] for key in CURVE] for row in rows if row["curve"] == "validation"]
    return {
        **attrs.asdict(cell),
        "machine": machine(),
        **{key: report[key] for key in ("samples", "seconds", "network", "metrics", "calibrated")},
        "renders": {name: data["samples"] for name, data in report["data"].items()},
        "curve": curve,
    }


if __name__ == "__main__":
    main()
