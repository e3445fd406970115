"""Does training through the fit pay, and a predicted start? Two networks of one budget on held-out renders.

    python benchmarks/end_to_end.py --out DIR --report FILE [--config FILE] [--seeds 0,1] [--renders N]

For each seed two networks are trained by `partfit train` and the configuration, by default
examples/end_to_end.toml: `through`, with its loss of the vertices after the fit, and `apart`, without it, on
the same batches. Killed and started again it goes on where it was; runs that are done are not trained again.

Held-out renders are those of the configuration's validation data with another seed, cropped as in use. Each
network's landmarks, with calibrated scales, are fitted in the camera of the crop from the start that the
network predicts (`predicted`), from there without the stages before the last (`predicted, last stage`), and
from the closed-form start (`closed form`). The figures are split by the yaw of the part as the camera sees
it, and by the share of the landmarks that are hidden, by the part itself or by something else.

- `success`: share of the fits that converge with a mean vertex error below `bound_mm`.
- `vertex_mm`, `start_mm`: medians of the mean distance of the vertices of the configuration's region to the
  true ones, both about their own mean, after the fit and before it.
- `iterations`: mean number of both stages. `ms`: of network and fit together, a crop, and `network_ms`,
  `fit_ms`; each batch is fitted from all starts in turn, so that ratios are of one run.
- `rms_z`, `robust_z`: of the landmarks' errors over their scales the root mean square, and the median over
  the crops of the median, over that of a normal variable: 1 where scales are right.
"""

import argparse
import itertools
import json
import subprocess
import sys
import time
from pathlib import Path

import attrs
import numpy as np
import torch

from partfit.bench import machine
from partfit.fitting import FitStatus
from partfit.fitting.lm import rigid_columns
from partfit.geometry.rotations import rotvec_to_matrix
from partfit.learning.batches import Batch, EvaluationBatches
from partfit.learning.checkpoint import Checkpoint, load_checkpoint
from partfit.learning.distribution import LandmarkDistribution
from partfit.learning.fit_task import FitTask
from partfit.learning.packing import PackedDataset, PackRule, cache_name, pack
from partfit.learning.training_config import TrainConfig
from partfit.registry import default_registry

#: What a network changes in the configuration, in the words of `partfit train --set`.
NETWORKS = {"through": [], "apart": ["fit.vertices=0.0"]}
STARTS = ("predicted", "predicted, last stage", "closed form")
#: Added to the seed of the validation data for the held-out renders.
HELD_OUT = 1000
YAW = (0, 30, 60, 90)
HIDDEN = (0.0, 0.2, 0.4, 1.0)
NORMAL_MEDIAN = 0.6744897501960817


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="folder of the runs")
    parser.add_argument("--report", type=Path, required=True, help="JSON file of the figures")
    examples = Path(__file__).parents[1] / "examples"
    parser.add_argument("--config", type=Path, default=examples / "end_to_end.toml")
    parser.add_argument("--seeds", default="0", help="comma-separated")
    parser.add_argument("--renders", type=int, default=1000, help="how many are held out")
    parser.add_argument("--bound", type=float, default=6.0, help="of a success, millimetres")
    parser.add_argument("--batch", type=int, default=16, help="crops that are fitted together")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--set", action="append", default=[], help="KEY=VALUE for `partfit train`")
    arguments = parser.parse_args()
    rows = []
    for seed in map(int, arguments.seeds.split(",")):
        for name, settings in NETWORKS.items():
            folder = arguments.out / f"{name}-{seed}"
            shared = [f'data.cache="{arguments.out / "data"}"', f"run.seed={seed}", *arguments.set]
            train(arguments.config, folder, [*shared, *settings], arguments.device)
            rows.append({"network": name, "seed": seed, **figures(folder, arguments)})
            report = {"machine": machine(), "bound_mm": arguments.bound, "networks": rows}
            arguments.report.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


def train(config: Path, folder: Path, settings: list[str], device: str) -> None:
    """Train a network, or go on with it."""
    if (folder / "report.json").exists():
        return
    options = [word for setting in settings for word in ("--set", setting)]
    resume = ["--resume"] if (folder / "state").exists() else []
    command = [sys.executable, "-m", "partfit", "train", str(config), "--out", str(folder), *options, *resume]
    print(folder.name, flush=True)
    subprocess.run([*command, "--device", device], check=True)


def figures(folder: Path, arguments: argparse.Namespace) -> dict[str, object]:
    """Of a network that is trained: what training reports, and the held-out renders."""
    report = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    config = TrainConfig.of_layers([report["config"]])
    checkpoint = load_checkpoint(folder / "model.safetensors")
    checkpoint.network.to(arguments.device)
    task = FitTask(config.fit, checkpoint.scheme)
    items = [look(task, checkpoint, batch) for batch in held_out(config, checkpoint, task, arguments)]
    table = {key: np.concatenate([item[key] for item in items]) for key in items[0]}
    return {
        "made_of": report["network"],
        "renders": report["data"]["train"]["samples"],
        "samples": report["samples"],
        "warmup": config.fit.warmup,
        "seconds": report["seconds"],
        "metrics": report["metrics"],
        "splits": {name: row(table, chosen, arguments.bound) for name, chosen in splits(table).items()},
    }


def held_out(config: TrainConfig, checkpoint: Checkpoint, task: FitTask, arguments: argparse.Namespace):
    """Batches of renders that no network was trained or calibrated on."""
    choice = config.data.val
    options = {"seed": choice.options.get("seed", 0) + HELD_OUT, "length": arguments.renders}
    dataset = default_registry().create("dataset", choice.name, **{**choice.options, **options})
    resolution = checkpoint.network.config.resolution
    rule = PackRule.for_evaluation(checkpoint.crop, resolution)
    folder = arguments.out / "data" / cache_name(dataset, rule, groups=task.groups)
    pack(dataset, folder, rule, groups=task.groups, workers=max(1, config.data.workers))
    packed = PackedDataset(folder, checkpoint.scheme)
    return EvaluationBatches(packed, arguments.batch, resolution, checkpoint.crop).on(arguments.device)


@torch.no_grad()
def look(task: FitTask, checkpoint: Checkpoint, batch: Batch) -> dict[str, np.ndarray]:
    """The figures of each crop of a batch."""
    network, size, stages = checkpoint.network, len(batch), task.layer.stages
    began = time.perf_counter()
    distribution = calibrated(checkpoint, network(batch.images))
    table = {"network_ms": np.full(size, 1e3 * (time.perf_counter() - began) / size)}
    for name in STARTS:
        task.layer.stages = stages[-1:] if name == "predicted, last stage" else stages
        began, start = time.perf_counter(), None
        if name != "closed form":
            start = task.start(network, network.start.prediction(distribution.start), batch)
        result = task.fit(network, distribution, batch, start)
        table[f"fit_ms {name}"] = np.full(size, 1e3 * (time.perf_counter() - began) / size)
        if start is not None:
            table["start_mm"] = 1e3 * task.vertex_errors(start, batch).mean(dim=1).cpu().numpy()
        table[f"vertex_mm {name}"] = 1e3 * task.vertex_errors(result.x, batch).mean(dim=1).cpu().numpy()
        table[f"iterations {name}"] = result.iterations.cpu().numpy()
        table[f"converged {name}"] = np.array([s is FitStatus.CONVERGED for s in result.status])
    task.layer.stages = stages
    deviation = distribution.scale * network.likelihood.deviation()
    z = ((batch.targets.points - distribution.mean) / deviation).flatten(1)
    table["square_z"] = z.square().mean(dim=1).cpu().numpy()
    table["median_z"] = z.abs().median(dim=1)[0].cpu().numpy()
    table["yaw"] = yaw(task, batch)
    visible = batch.targets.visible
    table["hidden"] = np.zeros(size) if visible is None else 1 - visible.mean(dim=1).cpu().numpy()
    return table


def calibrated(checkpoint: Checkpoint, distribution: LandmarkDistribution) -> LandmarkDistribution:
    """The distribution with the scales that the landmarker would give."""
    residual = checkpoint.network.likelihood.deviation()
    deviation = checkpoint.calibration.deviation(distribution, residual)
    return attrs.evolve(distribution, log_scale=(deviation / residual).log())


def yaw(task: FitTask, batch: Batch) -> np.ndarray:
    """(B,) degrees between the part's front and the plane through camera and vertical axis of the part."""
    turn, _ = rigid_columns(task.model)
    x = batch.model.parameters
    front = rotvec_to_matrix(x[:, turn])[:, :, 2]  # the model looks along +z
    up = rotvec_to_matrix(x[:, turn])[:, :, 1]
    middle = task.model.landmarks(task.layer.embedding, x).points(x).mean(dim=1)
    towards = -middle / middle.norm(dim=1, keepdim=True)
    side = torch.linalg.cross(up, front)
    angle = torch.atan2((towards * side).sum(1), (towards * front).sum(1))
    return angle.abs().rad2deg().cpu().numpy()


def splits(table: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Which crops belong to each split."""
    chosen = {"all": np.ones(len(table["yaw"]), dtype=bool)}
    for low, high in itertools.pairwise(YAW):
        chosen[f"yaw {low}-{high}"] = (table["yaw"] >= low) & (table["yaw"] < high)
    for low, high in itertools.pairwise(HIDDEN):
        name = f"hidden {low:.0%}-{high:.0%}"
        chosen[name] = (table["hidden"] >= low) & (table["hidden"] < high + (high == 1))
    return chosen


def row(table: dict[str, np.ndarray], chosen: np.ndarray, bound: float) -> dict[str, object]:
    """The figures of some crops."""
    if not chosen.any():
        return {"crops": 0}
    own = {name: values[chosen] for name, values in table.items()}
    starts = {}
    for name in STARTS:
        errors = own[f"vertex_mm {name}"]
        fit = float(own[f"fit_ms {name}"].mean())
        starts[name] = {
            "success": float((own[f"converged {name}"] & (errors < bound)).mean()),
            "converged": float(own[f"converged {name}"].mean()),
            "vertex_mm": float(np.nanmedian(errors)),
            "iterations": float(own[f"iterations {name}"].mean()),
            "fit_ms": fit,
            "ms": fit + float(own["network_ms"].mean()),
        }
    return {
        "crops": int(chosen.sum()),
        "start_mm": float(np.median(own["start_mm"])),
        "network_ms": float(own["network_ms"].mean()),
        "rms_z": float(own["square_z"].mean() ** 0.5),
        "robust_z": float(np.median(own["median_z"])) / NORMAL_MEDIAN,
        "starts": starts,
    }


if __name__ == "__main__":
    main()
