"""Pictures as the networks want them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float, UInt8

from partfit.errors import InputError
from partfit.geometry.crops import Crop, extract_crops


def check_picture(image: np.ndarray) -> None:
    """Raise InputError unless a picture is RGB uint8 (H, W, 3) with at least one pixel."""
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        found = f"{image.dtype} {image.shape}" if isinstance(image, np.ndarray) else type(image).__name__
        raise InputError(
            f"A picture must be an RGB uint8 array (height, width, 3), found {found}; "
            "convert it, for example with numpy.asarray(PIL.Image.open(path).convert('RGB'))."
        )
    if not image.size:
        raise InputError(f"A picture needs at least one pixel, found shape {image.shape}.")


def network_inputs(
    image: UInt8[np.ndarray, "height width 3"], crops: Sequence[Crop], low: float
) -> Float[torch.Tensor, "crops 3 size size"]:
    """Crops of a picture with 0..255 mapped to low..1; outside the picture is black."""
    # torch takes only writable arrays with positive strides
    pixels = torch.from_numpy(np.require(image, requirements=["C", "W"])).permute(2, 0, 1)
    return extract_crops(pixels, crops) * ((1.0 - low) / 255.0) + low
