"""Named beginnings of training configurations: how the thesis trains, and the rows of its tables.

A preset says all but the data: `partfit train CONFIG --preset NAME` lays the file CONFIG over it.
"""

from __future__ import annotations

import itertools
from typing import Any

from partfit.errors import ConfigError
from partfit.learning.training_config import overlaid
from partfit.text import closest

#: Thesis section 4.5: Adam, a fixed rate, flips along both axes, scale and colour, crops of 256 pixels.
_THESIS: dict[str, Any] = {
    "network": {
        "backbone": {"name": "resnet50", "pretrained": True},
        "resolution": 256,
        "head": {"name": "linear"},
        "likelihood": {"name": "resll-exp"},
    },
    "run": {"epochs": 100, "batch_size": 32},
    "optimizer": {"name": "adam", "rate": 1e-4},
    "schedule": {"name": "constant"},
    "augmentation": {
        "horizontal_flip": 0.5,
        "vertical_flip": 0.5,
        "scale": [0.8, 1.2],
        **dict.fromkeys(("rotation", "shift", "gamma", "grey", "blur", "noise", "cutout"), 0.0),
    },
}

#: The likelihoods of Table 4.1.
_LIKELIHOODS = ("ngll", "resll", "resll-exp")
#: The backbones of Table 4.2, and what timm calls them; Table 4.3 has the first two.
_BACKBONES = {
    "resnet50": "resnet50",
    "convnext-tiny": "convnext_tiny",
    "swin-tiny": "swin_tiny_patch4_window7_224",
    "mobilenetv3-large": "mobilenetv3_large_100",
}


def preset_names() -> list[str]:
    """The presets, in the order of the tables: `thesis`, then `table-4.1/ngll`, `table-4.1/ngll+ve`, ..."""
    return list(_presets())


def preset(name: str) -> dict[str, Any]:
    """A preset as a table, to lay a configuration over; see `TrainConfig.of_layers`.

    Raises:
        ConfigError: if there is none of that name.
    """
    presets = _presets()
    if name not in presets:
        match = closest(name, presets)
        hint = f" Did you mean {match!r}?" if match else ""
        raise ConfigError(f"No preset named {name!r}.{hint} Presets: {', '.join(presets)}.")
    return presets[name]


def _presets() -> dict[str, dict[str, Any]]:
    presets = {"thesis": _THESIS}
    for likelihood, edges in itertools.product(_LIKELIHOODS, (False, True)):
        presets[f"table-4.1/{_row(likelihood, edges=edges)}"] = _changed(likelihood=likelihood, edges=edges)
    for backbone, edges in itertools.product(_BACKBONES, (False, True)):
        presets[f"table-4.2/{_row(backbone, edges=edges)}"] = _changed(backbone=backbone, edges=edges)
    for backbone, spiral, edges in itertools.product(list(_BACKBONES)[:2], (False, True), (False, True)):
        name = f"table-4.3/{_row(backbone, spiral=spiral, edges=edges)}"
        presets[name] = _changed(backbone=backbone, spiral=spiral, edges=edges)
    return presets


def _row(first: str, *, spiral: bool = False, edges: bool = False) -> str:
    """The name of a table's row: its first column, and what its other columns tick."""
    return first + "+spiral" * spiral + "+ve" * edges


def _changed(
    *, likelihood: str = "resll-exp", backbone: str = "resnet50", spiral: bool = False, edges: bool = False
) -> dict[str, Any]:
    """The thesis' preset with another likelihood, backbone or head, or with the Vertex-Edge loss."""
    network = {
        "backbone": {"name": _BACKBONES[backbone]},
        "head": {"name": "spiral" if spiral else "linear"},
        "likelihood": {"name": likelihood},
    }
    changes: dict[str, Any] = {"network": network}
    if edges:
        changes["losses"] = [{"name": "vertex-edge"}]
    return overlaid(_THESIS, changes)
