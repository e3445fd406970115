"""Losses and decoders compared by training: Tables 4.1 and 4.3 of the thesis on rendered heads.

    python benchmarks/losses.py --out DIR [--config FILE] [--seeds 0,1] [--only TEXT] [--report FILE]

Trains one network for each cell of likelihood {NGLL, ResLL, ResLL Exp} x Vertex-Edge loss {without, with} x
decoder {linear, spiral} and each seed, by `partfit train` and the configuration losses.toml. All cells share
one cache of rendered crops, and those of one seed the order of samples. Killed and started again it goes on
where it was. Cells that are done are not trained again: --report then only writes all figures and curves.
"""

import argparse
import itertools
import json
import subprocess
import sys
from pathlib import Path

LIKELIHOODS = ("ngll", "resll", "resll-exp")
HEADS = ("linear", "spiral")
#: What is kept of every evaluation during a run.
CURVES = ("step", "error_px", "nll", "robust_z")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="folder of the runs")
    parser.add_argument("--config", type=Path, default=Path(__file__).with_name("losses.toml"))
    parser.add_argument("--seeds", default="0,1", help="comma-separated")
    parser.add_argument("--only", default="", help="train only the cells whose name contains this")
    parser.add_argument("--set", action="append", default=[], help="KEY=VALUE for `partfit train`")
    parser.add_argument("--report", type=Path, help="JSON file for the figures of all cells that are done")
    arguments = parser.parse_args()
    cells = list(itertools.product(arguments.seeds.split(","), LIKELIHOODS, (False, True), HEADS))
    for cell in cells:
        if arguments.only in name_of(*cell):
            train(arguments.config, arguments.out, arguments.set, *cell)
    if arguments.report:
        figures = [read(arguments.out, *cell) for cell in cells if is_done(arguments.out / name_of(*cell))]
        arguments.report.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


def name_of(seed: str, likelihood: str, edges: bool, head: str) -> str:
    return f"{likelihood}{'+ve' if edges else ''}-{head}-{seed}"


def is_done(folder: Path) -> bool:
    return (folder / "report.json").exists()


def train(
    config: Path, out: Path, settings: list[str], seed: str, likelihood: str, edges: bool, head: str
) -> None:
    """Train one cell, or go on with it."""
    folder = out / name_of(seed, likelihood, edges, head)
    if is_done(folder):
        return
    own = [
        f'data.cache="{out / "data"}"',
        f'network.likelihood.name="{likelihood}"',
        f'network.head.name="{head}"',
        f"run.seed={seed}",
        *(['losses=[{name="vertex-edge"}]'] if edges else []),
        *settings,
    ]
    options = [word for setting in own for word in ("--set", setting)]
    resume = ["--resume"] if (folder / "state").exists() else []
    command = [sys.executable, "-m", "partfit", "train", str(config), "--out", str(folder), *options, *resume]
    print(folder.name, flush=True)
    subprocess.run(command, check=True)


def read(out: Path, seed: str, likelihood: str, edges: bool, head: str) -> dict[str, object]:
    """The figures of a cell that is done."""
    folder = out / name_of(seed, likelihood, edges, head)
    report = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    rows = map(json.loads, (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines())
    curves = [[row[key] for key in CURVES] for row in rows if row["curve"] == "validation"]
    return {
        "likelihood": likelihood,
        "vertex_edge": edges,
        "head": head,
        "seed": int(seed),
        "seconds": report["seconds"],
        "metrics": report["metrics"],
        "curves": curves,
    }


if __name__ == "__main__":
    main()
