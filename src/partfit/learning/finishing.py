"""The end of a training run: the network that is kept is calibrated and written, and so is the report."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import attrs
import numpy as np
import timm
import torch
from jaxtyping import Int

import partfit
from partfit.config import to_dict
from partfit.learning.batches import EvaluationBatches
from partfit.learning.calibration import calibrate
from partfit.learning.checkpoint import Checkpoint, save_checkpoint
from partfit.learning.crops import CropRule, RegionMap
from partfit.learning.datasets import Dataset
from partfit.learning.evaluation import evaluate
from partfit.learning.networks import LandmarkNetwork
from partfit.learning.packing import PackedDataset
from partfit.learning.regions import DetectedSample, find_region_map, region_batches
from partfit.learning.runs import MODEL_FILE, REPORT_FILE
from partfit.learning.shapes import crop_shapes, typical_shape
from partfit.learning.training_module import TrainingModule
from partfit.registry import Registry
from partfit.results import write_json

REPORT_SCHEMA = "partfit.training/1"


@attrs.frozen(eq=False)
class DetectorView:
    """The data to evaluate on as the detector of a configuration sees it.

    Attributes:
        dataset: The data.
        looked_at: How many of its samples the detector was given.
        detected: Those whose part it found.
        regions: From its regions to their boxes.
    """

    dataset: Dataset
    looked_at: int
    detected: list[DetectedSample]
    regions: RegionMap = attrs.field(init=False)

    @regions.default
    def _found(self) -> RegionMap:
        return find_region_map(self.detected)

    def describe(self) -> dict[str, Any]:
        """The map and its spread, also in the units of `AugmentationConfig.region_spread`, for the report."""
        log_scale, x, y = self.regions.spread
        scale = self.regions.scale
        return {
            "samples": self.looked_at,
            "detected": len(self.detected),
            **to_dict(self.regions),
            "region_spread": [log_scale, x / scale, y / scale],
        }

    def errors(self, network: LandmarkNetwork, rule: CropRule) -> dict[str, float]:
        """The network's errors in the crops of the detector's regions, without refinement."""
        batches = region_batches(self.dataset, self.detected, self.regions, rule, network.config.resolution)
        values = evaluate(network, batches)
        return {name: values[name] for name in ("error_px", "error_box")}


def finish(
    module: TrainingModule,
    val_batches: EvaluationBatches,
    view: DetectorView | None,
    boxed: Int[np.ndarray, " boxed"] | None,
    out: Path,
    device: torch.device,
    registry: Registry,
) -> dict[str, Any]:
    """Calibrate the network that is kept, and write it and the report.

    Args:
        module: After its last step.
        val_batches: To calibrate on.
        view: Of the detector in front of the network, if one is named.
        boxed: Indices of the landmarks that the training data's boxes enclose, see `Dataset.boxed`.
        out: The folder of the run.
        device: Where the network is evaluated.
        registry: Of its components.

    Returns:
        The report.
    """
    config, network = module.config, module.best.to(device).eval()
    calibration = calibrate(network, val_batches.on(device))
    calibrated = evaluate(network, val_batches.on(device), calibration)
    report: dict[str, Any] = {
        "schema": REPORT_SCHEMA,
        "config": to_dict(config),
        "network": network.describe(),
        "data": {
            name: _data_report(packed)
            for name, packed in (("train", module.batches.packed), ("val", val_batches.packed))
        },
        "steps": module.total,
        "samples": module.total * config.run.processes * module.batches.sampler.size,
        "seconds": round(module.seconds, 1),
        "device": str(device),
        "metrics": module.metrics,
        "calibrated": {name: calibrated[name] for name in ("rms_z", "robust_z")},
        "versions": {"partfit": partfit.__version__, "torch": torch.__version__, "timm": timm.__version__},
    }
    checkpoint = Checkpoint(
        network.cpu(),
        typical_shape(crop_shapes(module.batches.packed, config.crop), boxed),
        config.crop,
        RegionMap() if view is None else view.regions,
        calibration,
        config.checkpoint.part,
        config.checkpoint.side,
        {key: report[key] for key in ("steps", "samples", "metrics", "versions")},
        boxed,
        detector=None if config.checkpoint.detector is None else config.checkpoint.detector.name,
    )
    save_checkpoint(checkpoint, out / MODEL_FILE, weights=config.checkpoint.weights, registry=registry)
    if view is not None:  # the network is safe now, whatever becomes of reading samples again
        errors = view.errors(network.to(device), config.crop)
        report |= {"regions": view.describe(), "detector": errors}
    write_json(out / REPORT_FILE, report)
    return report


def _data_report(packed: PackedDataset) -> dict[str, Any]:
    """How many samples there are, and which could not be used."""
    bad = [{"id": one.id, "problem": one.problem} for one in packed.report.bad]
    return {"samples": packed.report.packed, "bad": len(bad), "bad_samples": bad}
