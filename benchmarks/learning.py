"""What a training step costs beside the backbone: head, likelihood, augmentation, loader, spiral decoder.

    python benchmarks/learning.py [--backbone resnet50] [--resolution 256] [--batch 32] [--landmarks 1609]

Milliseconds of forward and backward, best of several rounds in which everything is measured in turn, and the
share of the bare timm backbone's. `augmentation` includes `loader`, reading the batch from the cache;
`rendering` is what filling the cache costs, once, in one process. Prints JSON. Shares hold for machines like
the one they were taken on: where a backbone is faster, every other part counts more.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import timm
import torch

import partfit
from partfit.geometry.decimation import decimate
from partfit.landmarks import LandmarkScheme
from partfit.learning.augmentation import AugmentationConfig
from partfit.learning.batches import TrainingBatches
from partfit.learning.crops import CropRule
from partfit.learning.distribution import LandmarkDistribution, LandmarkTargets
from partfit.learning.heads import FeatureShape
from partfit.learning.packing import PackedDataset, PackRule, pack


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backbone", default="resnet50")
    parser.add_argument("--resolution", type=int, default=256)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--landmarks", type=int, default=1609)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        print(json.dumps(measure(arguments, Path(folder)), indent=1))


def measure(arguments: argparse.Namespace, folder: Path) -> dict[str, object]:
    """Milliseconds and shares of each part."""
    scheme = face_scheme(arguments.landmarks)
    backbone = timm.create_model(arguments.backbone, num_classes=0).to(memory_format=torch.channels_last)
    images = torch.rand(arguments.batch, 3, arguments.resolution, arguments.resolution)
    images = images.to(memory_format=torch.channels_last)
    features = backbone(images).detach()[:, :, None, None].requires_grad_()
    parts = {
        "backbone": lambda: backbone(images).sum().backward(),
        "linear head": head_step("linear", features, scheme),
        "spiral head": head_step("spiral", features, scheme),
        "resll": loss_step("resll", scheme, arguments.batch),
        "ngll": loss_step("ngll", scheme, arguments.batch),
        **data_steps(arguments, folder),
    }
    best = dict.fromkeys(parts, float("inf"))
    for _ in range(arguments.rounds):
        for name, step in parts.items():
            best[name] = min(best[name], timed(step))
    shares = {name: seconds / best["backbone"] for name, seconds in best.items()}
    together = sum(shares[name] for name in ("linear head", "resll", "augmentation"))
    return {
        "backbone": arguments.backbone,
        "resolution": arguments.resolution,
        "batch": arguments.batch,
        "landmarks": arguments.landmarks,
        "threads": torch.get_num_threads(),
        "ms": {name: 1e3 * seconds for name, seconds in best.items()},
        "share": shares,
        "share of linear head, resll and augmentation": together,
    }


def timed(step: Callable[[], object]) -> float:
    start = time.perf_counter()
    step()
    return time.perf_counter() - start


def face_scheme(n_landmarks: int) -> LandmarkScheme:
    """So many vertices of the Anny head's face, with their triangles."""
    face = partfit.create("embedding", "anny-head/anny-face-dense").scheme
    kept = decimate(face.positions, face.triangles, n_landmarks)
    names = [face.names[index] for index in kept.kept]
    return LandmarkScheme("face", names, triangles=kept.faces, positions=face.positions[kept.kept])


def head_step(name: str, features: torch.Tensor, scheme: LandmarkScheme) -> Callable[[], object]:
    head = partfit.create("head", name).module(FeatureShape(features.shape[1]), scheme, 4)
    return lambda: head(features).sum().backward()


def loss_step(name: str, scheme: LandmarkScheme, batch: int) -> Callable[[], object]:
    loss = partfit.create("loss", name).module(scheme)
    raw = torch.randn(batch, len(scheme), 4).mul_(0.1).requires_grad_()
    targets = LandmarkTargets.of_points(0.1 * torch.randn(batch, len(scheme), 2))

    def step() -> None:
        loss(LandmarkDistribution(raw[..., :2], loss.log_scale(raw[..., 2:])), targets).backward()

    return step


def data_steps(arguments: argparse.Namespace, folder: Path) -> dict[str, Callable[[], object]]:
    """A batch from the cache, read alone, and read and varied; and rendering one, which is done once."""
    rule, augmentation = CropRule(), AugmentationConfig()
    dataset = partfit.create(
        "dataset", "synthetic", scheme="anny-face-dense", size=arguments.resolution, length=arguments.batch
    )
    stored = PackRule.for_training(rule, augmentation, arguments.resolution)
    pack(dataset, folder, stored, workers=2)
    packed = PackedDataset(folder, dataset.scheme)
    batches = TrainingBatches(packed, arguments.batch, arguments.resolution, rule, augmentation, seed=0)
    return {
        "loader": lambda: packed.read(range(arguments.batch)),
        "augmentation": lambda: batches[0],
        "rendering": lambda: [dataset[i] for i in range(arguments.batch)],
    }


if __name__ == "__main__":
    main()
